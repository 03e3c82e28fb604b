//! A watch over the wire: snapshot, heartbeat, end.

use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::model::State;
use tokio_stream::StreamExt;
use tonic::Code;

use super::fakes::attachment;
use super::gateway::{Gateway, watch};

#[tokio::test]
async fn the_snapshot_comes_first_and_then_the_end() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-1", State::Detached, 3)).await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-2", State::Failed, 5)).await;
    let stream = gateway
        .client()
        .await
        .watch_attachment(watch("i-1", "", false))
        .await
        .expect("a stream")
        .into_inner();
    let events: Vec<Event> =
        stream.map(|message| message.expect("no error").event.expect("an event")).collect().await;
    let mut shown = Vec::new();
    let mut revision = 0;
    for event in events {
        match event {
            Event::Attachment(attachment) => shown.push(attachment.network_interface_id),
            Event::Heartbeat(heartbeat) => revision = heartbeat.revision,
        }
    }
    shown.sort();
    assert_eq!((shown, revision), (vec!["eni-1".to_owned(), "eni-2".to_owned()], 5));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let gateway = Gateway::start().await;
    let status = gateway
        .client()
        .await
        .watch_attachment(watch("i-1", "eni-1", false))
        .await
        .expect_err("nothing");
    assert_eq!(status.code(), Code::NotFound);
}
