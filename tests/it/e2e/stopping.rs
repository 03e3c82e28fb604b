//! SIGTERM: what was begun is finished, streams end, and the process does.

use std::time::Duration;

use eni_gateway::grpc::proto::WatchAttachmentRequest;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Effect, Fault};
use tonic_types::StatusExt;

use crate::support::gateway::{Stage, attach, eventually, try_attach, watch};

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
