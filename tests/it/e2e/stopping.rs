//! SIGTERM: calls in flight finish, streams end, and the process exits.

use std::collections::BTreeSet;
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{Attachment, WatchAttachmentRequest};
use eni_gateway::simulator::{Action, Effect, EniStatus, Fault, Placement};
use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::gateway::{
    Client, SLOW_ENS, Stage, attach, eni, eventually, reason, try_attach, watch, within,
};

/// Most that a stop may take here: what a drain may take by default, which no test sets higher, and
/// a busy machine's part. What holds up a stop in these tests would do so for far longer.
const DRAIN: Duration = Duration::from_secs(45);

/// An ENS that does not answer would hold up a stop for that long.
const SILENT_ENS: [(&str, &str); 3] = [
    ("ENS__ATTEMPT_TIMEOUT", "100s"),
    ("ENS__REQUEST_VALIDITY", "100s"),
    ("LEDGER__LEASE", "110s"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_replica_finishes_what_it_began_and_ends_its_streams() {
    let stage = Stage::new(&["i-1"], 2).await;
    let (mut stopping, staying) = (stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await);
    let (client, other) = (stopping.client().await, staying.client().await);
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    let follow = WatchAttachmentRequest {
        instance_id: "i-1".to_owned(),
        follow: true,
        ..Default::default()
    };
    let mut stream = client.clone().watch_attachment(follow).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stage.ens.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_secs(5)),
    );
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
                stage.ens.journal().instance("i-1").attach_processing == 1
            })
            .await;
            stopping.terminate().await
        },
    );
    assert!(answer.is_ok(), "{answer:?}");
    let ended = ended.expect("an open stream ends with a reason");
    assert_eq!(ended.get_error_details().error_info().unwrap().reason, "DRAINING");
    assert!(well && took < DRAIN, "{took:?}");
    let end = watch(&other, "i-1", "eni-0002", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_request_no_stop_end_no_attach() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&SLOW_ENS).await;
    let client = replica.client().await;
    stage.ens.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_secs(3)),
    );
    let (answer, ()) = tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), async {
        eventually("never sent", async || {
            stage.ens.journal().instance("i-1").attach_processing == 1
        })
        .await;
        for signal in ["HUP", "USR1", "USR2"] {
            replica.signal(signal);
        }
    });
    assert!(answer.is_ok(), "{answer:?}");
    eventually("not logged", async || replica.log().contains("are read again")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopping_replica_cannot_finish_in_time_another_one_does() {
    let stage = Stage::new(&["i-1"], 2).await;
    let settings = [&[("GRPC__DRAIN_TIMEOUT", "300ms")], &SLOW_ENS[..]].concat();
    let (mut stopping, staying) = (stage.replica(&settings).await, stage.replica(&SLOW_ENS).await);
    let (client, other) = (stopping.client().await, staying.client().await);
    stage.ens.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None)
            .delay_answer(Duration::from_secs(100)),
    );
    let (answer, (took, _)) = tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), async {
        eventually("never sent", async || stage.ens.journal().applied_to("eni-0001") == 1).await;
        stopping.terminate().await
    });
    // It was sent: whatever the caller heard, it was not that nothing was.
    let heard = answer.as_ref().err().map(reason);
    assert!(
        matches!(heard.as_deref(), None | Some("OUTCOME_UNKNOWN"))
            || answer.is_err_and(|(_, details)| details.error_info().is_none()),
        "{heard:?}"
    );
    let log = stopping.log();
    assert!(
        took < DRAIN && log.contains("other replicas settle the attempts that are left"),
        "{took:?}: {log}"
    );
    let end = watch(&other, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
    let request = within(Duration::from_secs(100), attach("i-1", "eni-0002"));
    try_attach(&other, request).await.unwrap();
    assert_eq!(stage.ens.journal().instance("i-1").attach_calls, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_queue_at_a_stopping_replica_are_served() {
    let stage = Stage::new(&["i-1"], 6).await;
    let (mut stopping, staying) = (stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await);
    let client = stopping.client().await;
    stage.ens.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_secs(5)),
    );
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
    assert!(well && took < DRAIN, "{took:?}");
    let all = watch(&staying.client().await, "i-1", "", 0).await.unwrap();
    let attached = all.iter().filter(|attachment| attachment.state() == State::Attached);
    assert_eq!(attached.count(), 6);
}

/// Follows a pair from one replica to the next, as clients should; returns its end, and how many
/// streams broke off.
async fn follow(clients: [Client; 2], instance: &str, eni: &str) -> (Attachment, usize) {
    let mut last: Option<Attachment> = None;
    for (broken, mut client) in clients.into_iter().cycle().enumerate() {
        let request = WatchAttachmentRequest {
            instance_id: instance.to_owned(),
            network_interface_id: eni.to_owned(),
            after_revision: last.as_ref().map_or(0, |last| last.revision),
            ..Default::default()
        };
        let status = match client.watch_attachment(request).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            if let Some(Event::Attachment(attachment)) = message.event {
                                last = Some(attachment);
                            }
                        }
                        Ok(None) => {
                            return (last.expect("a stream that ends well has said how"), broken);
                        }
                        Err(status) => break status,
                    }
                }
            }
        };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the clients never come to an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_a_silent_connection_and_attaches_in_flight_hold_up_no_stop() {
    const WATCHERS: usize = 1000;
    let stage = Stage::new(&["i-1"], 4).await;
    let (mut stopping, staying) = (stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await);
    let (client, other) = (stopping.client().await, staying.client().await);
    let silent = TcpStream::connect(stopping.address()).await.unwrap();
    // A connection carries 1024 calls at most, and some of them are attaches.
    let clients = join_all((0..WATCHERS.div_ceil(500)).map(|_| stopping.client())).await;

    // What is watched is under way until it is forced.
    let endless = Effect::AttachTime { takes: Duration::from_secs(3600) };
    let attaching = Fault::next(Action::AttachNetworkInterface, endless).eni("eni-0001");
    stage.ens.fault(attaching);
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    let watchers = join_all((0..WATCHERS).map(async |n| {
        let here = clients[n % clients.len()].clone();
        follow([here, other.clone()], "i-1", "eni-0001").await
    }));
    let stop = async {
        eventually("they do not watch", async || {
            stopping.metric("eni_gateway_watch_streams").await >= WATCHERS as f64
        })
        .await;
        let slow = Fault::next(Action::AttachNetworkInterface, Effect::None)
            .delay_answer(Duration::from_secs(5));
        stage.ens.fault(slow);
        let attaches = join_all((2..=4).map(|n| try_attach(&client, attach("i-1", &eni(n)))));
        let (answers, ended) = tokio::join!(attaches, async {
            eventually("they do not queue", async || {
                stopping.metric("eni_gateway_attempts_in_flight").await == 3.0
            })
            .await;
            stopping.terminate().await
        });
        stage.ens.world(|world, now| {
            let here = Placement::on(EniStatus::InUse, "i-1");
            world.force("eni-0001", here, now).unwrap();
        });
        (answers, ended)
    };
    let (ends, (answers, (took, well))) = tokio::join!(watchers, stop);
    assert!(well && took < DRAIN, "{took:?}: {}", stopping.log());
    for answer in answers {
        answer.unwrap();
    }
    assert!(ends.iter().all(|(end, _)| end.state() == State::Attached));
    assert!(ends.iter().all(|(_, broken)| *broken >= 1), "a watcher outlived its replica");
    drop(silent);
    // Those that are not settled yet are sent more than once.
    let all = watch(&other, "i-1", "", 0).await.unwrap();
    let attached = all.iter().filter(|attachment| attachment.state() == State::Attached);
    let attached: BTreeSet<_> =
        attached.map(|attachment| &attachment.network_interface_id).collect();
    assert_eq!(attached.len(), 4, "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_is_waited_for_within_the_same_time() {
    let stage = Stage::new(&["i-1"], 1).await;
    // Takes connections, and says nothing.
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let settings = [
        ("GRPC__DRAIN_TIMEOUT", "4s"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        // By itself the exporter would wait for far longer than a stop may take.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
    ];
    let mut stopping = stage.replica(&[&settings, &SILENT_ENS[..]].concat()).await;
    stage.ens.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None)
            .delay_answer(Duration::from_secs(100)),
    );
    let client = stopping.client().await;
    let (_, (took, _)) = tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), async {
        eventually("never sent", async || stage.ens.journal().applied_to("eni-0001") == 1).await;
        stopping.terminate().await
    });
    assert!(stopping.log().contains("the last traces were not exported"), "{}", stopping.log());
    assert!(took < DRAIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_for_whom_a_stop_leaves_no_time_receive_their_outcome() {
    let stage = Stage::new(&["i-1"], 2).await;
    let settings = [&[("GRPC__DRAIN_TIMEOUT", "1500ms")], &SILENT_ENS[..]].concat();
    let mut stopping = stage.replica(&settings).await;
    let client = stopping.client().await;
    stage.ens.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None)
            .delay_answer(Duration::from_secs(100)),
    );
    let queued = async {
        eventually("never sent", async || stage.ens.journal().applied_to("eni-0001") == 1).await;
        try_attach(&client, attach("i-1", "eni-0002")).await
    };
    let (sent, queued, (took, _)) =
        tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), queued, async {
            eventually("they do not queue", async || {
                stopping.metric("eni_gateway_attempts_in_flight").await == 2.0
            })
            .await;
            stopping.terminate().await
        });
    for (failure, reason_given) in [(sent, "OUTCOME_UNKNOWN"), (queued, "DRAINING")] {
        let failure = failure.unwrap_err();
        assert_eq!(
            (reason(&failure).as_str(), failure.0.code()),
            (reason_given, Code::Unavailable),
            "{failure:?}"
        );
    }
    assert!(took < DRAIN, "{took:?}");
    assert_eq!(stage.ens.journal().instance("i-1").attach_calls, 1);
}
