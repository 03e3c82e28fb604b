//! Deadlines: the gateway answers with a reason, before tonic's CANCELLED and the client's timer.

use std::time::Duration;

use eni_gateway::model::State;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use super::fakes::attachment;
use super::gateway::{Gateway, attach, watch};
use super::reason;

fn within<T>(message: T, timeout: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("grpc-timeout", MetadataValue::try_from(timeout).expect("printable"));
    request
}

#[tokio::test]
async fn an_attach_that_is_not_settled_is_answered_in_time() {
    let gateway = Gateway::start().await;
    let mut client = gateway.timerless().await;
    // On a busy machine the edge may answer for a late handler.
    let (status, lasted) = loop {
        let began = Instant::now();
        let asked = within(attach("i-1", "eni-1"), "300m");
        let answer = client.attach_network_interface(asked).await;
        let status = answer.expect_err("nothing answers");
        if status.code() != Code::DeadlineExceeded {
            break (status, began.elapsed());
        }
    };
    // The credentials never come, so nothing was sent.
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NOT_APPLIED"));
    assert!(lasted >= Duration::from_millis(250), "not long before the deadline");
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_answered_too() {
    let gateway = Gateway::start().await;
    let asked = within(attach("i-1", "eni-1"), "2m");
    let status =
        gateway.timerless().await.attach_network_interface(asked).await.expect_err("too short");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.get_error_details().error_info().is_some());
}

#[tokio::test]
async fn a_watch_ends_with_its_deadline() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 3)).await;
    let asked = within(watch("i-1", "eni-1", true), "3S");
    let mut stream =
        gateway.timerless().await.watch_attachment(asked).await.expect("a stream").into_inner();
    let status = loop {
        match stream.next().await.expect("it ends with a status") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(reason(&status), "STREAM_TOO_OLD");
}

#[tokio::test]
async fn a_malformed_timeout_is_named() {
    let gateway = Gateway::start().await;
    let status = gateway
        .timerless()
        .await
        .attach_network_interface(within(attach("i-1", "eni-1"), "soon"))
        .await
        .expect_err("no timeout that anybody can read");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.get_error_details().bad_request().expect("a field").field_violations[0].field,
        "grpc-timeout"
    );
}
