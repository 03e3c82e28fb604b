//! SIGTERM: what was begun is finished, streams end, and the process does.

use std::time::Duration;

use eni_gateway::grpc::proto::WatchAttachmentRequest;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Effect, Fault};
use futures_util::future::join_all;
use tonic_types::StatusExt;

use crate::support::gateway::{Stage, attach, eni, eventually, reason, try_attach, watch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_replica_finishes_what_it_began_and_ends_its_streams() {
    let stage = Stage::new(&["i-1"], 2).await;
    let (mut stopping, staying) = (stage.replica(&[]).await, stage.replica(&[]).await);
    let (client, other) = (stopping.client().await, staying.client().await);
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    let follow = WatchAttachmentRequest {
        instance_id: "i-1".to_owned(),
        follow: true,
        ..Default::default()
    };
    let mut stream = client.clone().watch_attachment(follow).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stage
        .ens
        .fault(Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_millis(700)));
    let (answer, ended, (took, well)) = tokio::join!(
        try_attach(&client, attach("i-1", "eni-0002")),
        async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            }
        },
        async {
            eventually("never sent", async || {
                stage.ens.books().instance("i-1").attach_processing == 1
            })
            .await;
            stopping.terminate().await
        },
    );
    assert!(answer.is_ok(), "{answer:?}");
    let ended = ended.expect("an open stream ends with a reason");
    assert_eq!(ended.get_error_details().error_info().unwrap().reason, "DRAINING");
    assert!(well && took < Duration::from_secs(10), "{took:?}");
    let end = watch(&other, "i-1", "eni-0002", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopping_replica_cannot_finish_in_time_another_one_does() {
    let stage = Stage::new(&["i-1"], 2).await;
    let (mut stopping, staying) = (
        stage.replica(&[("GRPC__DRAIN_TIMEOUT", "300ms")]).await,
        stage.replica(&[]).await,
    );
    let (client, other) = (stopping.client().await, staying.client().await);
    stage
        .ens
        .fault(Fault::next(Action::AttachNetworkInterface, Effect::None).delay_answer(Duration::from_secs(30)));
    let (answer, (took, _)) = tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), async {
        eventually("never sent", async || stage.ens.books().applied_to("eni-0001") == 1).await;
        stopping.terminate().await
    });
    // It was sent: whatever the caller heard, it was not that nothing was.
    let heard = answer.as_ref().err().map(reason);
    assert!(
        matches!(heard.as_deref(), None | Some("OUTCOME_UNKNOWN"))
            || answer.is_err_and(|(_, details)| details.error_info().is_none()),
        "{heard:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    let end = watch(&other, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
    try_attach(&other, attach("i-1", "eni-0002")).await.unwrap();
    assert_eq!(stage.ens.books().instance("i-1").attach_calls, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_queue_at_a_stopping_replica_are_served() {
    let stage = Stage::new(&["i-1"], 6).await;
    let (mut stopping, staying) = (stage.replica(&[]).await, stage.replica(&[]).await);
    let client = stopping.client().await;
    stage
        .ens
        .fault(Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_millis(700)));
    let calls = (1..=6).map(|n| try_attach(&client, attach("i-1", &eni(n))));
    let (answers, (took, well)) = tokio::join!(join_all(calls), async {
        eventually("they do not queue", async || {
            stopping.metric("eni_gateway_attempts_in_flight").await == 6.0
        })
        .await;
        stopping.terminate().await
    });
    for answer in answers {
        answer.unwrap();
    }
    assert!(well && took < Duration::from_secs(10), "{took:?}");
    let all = watch(&staying.client().await, "i-1", "", 0).await.unwrap();
    let attached = all.iter().filter(|attachment| attachment.state() == State::Attached);
    assert_eq!(attached.count(), 6);
}
