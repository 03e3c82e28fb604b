//! Concurrency limits and the drain, as clients see them.

use eni_gateway::admission::Limits;
use eni_gateway::drain::Phase;
use eni_gateway::model::State;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::fakes::attachment;
use super::gateway::{Gateway, Options, attach, watch};

fn reason(status: &Status) -> String {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    details.error_info().expect("an ErrorInfo").reason.clone()
}

#[tokio::test]
async fn a_stream_holds_its_place_until_it_ends() {
    let limits = Limits { streams: 1, ..Limits::default() };
    let gateway = Gateway::with(Options { limits, ..Options::default() }).await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 3)).await;
    let mut client = gateway.client().await;
    let mut stream = client
        .watch_attachment(watch("i-1", "eni-1", true))
        .await
        .expect("the one place")
        .into_inner();
    stream.next().await.expect("a message").expect("the snapshot");
    let refused = gateway.client().await.watch_attachment(watch("i-1", "eni-1", true)).await;
    assert_eq!(reason(&refused.expect_err("there is one place")), "OVERLOADED");
    drop((stream, client));
    while gateway.admission.open_streams() > 0 {
        tokio::task::yield_now().await;
    }
    gateway
        .client()
        .await
        .watch_attachment(watch("i-1", "eni-1", true))
        .await
        .expect("the place is free again");
}

#[tokio::test]
async fn a_full_replica_says_so() {
    let limits = Limits { attaches: 0, reads: 0, ..Limits::default() };
    let gateway = Gateway::with(Options { limits, ..Options::default() }).await;
    let mut client = gateway.client().await;
    let refused = client.attach_network_interface(attach("i-1", "eni-1")).await.expect_err("full");
    assert_eq!(reason(&refused), "OVERLOADED");
    let refused = client.watch_attachment(watch("i-1", "eni-1", true)).await.expect_err("full");
    assert_eq!(reason(&refused), "OVERLOADED");
    assert_eq!(gateway.admission.open_streams(), 0);
}

#[tokio::test]
async fn a_drain_ends_streams_and_turns_calls_away() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut stream =
        client.watch_attachment(watch("i-1", "eni-1", true)).await.expect("a stream").into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    gateway.drain.enter(Phase::Draining);
    assert_eq!(
        reason(&stream.next().await.expect("a status").expect_err("the stream ends")),
        "DRAINING"
    );
    let refused = client
        .attach_network_interface(attach("i-1", "eni-1"))
        .await
        .expect_err("the gate is closed");
    assert_eq!(reason(&refused), "DRAINING");
}
