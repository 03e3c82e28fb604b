//! Reads while ENS is unreachable: a reason, or the known state with its age.

use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{Heartbeat, ListAttachmentsRequest, ListAttachmentsResponse};
use eni_gateway::model::{Failure, Reason, State};
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::fakes::{attachment, put};
use super::gateway::{Gateway, get, watch};

fn refused(code: &str) -> DescribeError {
    DescribeError::Refused(EnsRefusal {
        code: code.to_owned(),
        message: "as ens says".to_owned(),
        request_id: "ENS-1".to_owned(),
    })
}

fn faults() -> Vec<(DescribeError, Code, Reason)> {
    let throttled = DescribeError::Throttled { refusal: EnsRefusal::default(), retry_after: None };
    let no_key = Failure::new(Reason::EnsCredentialsRejected, "no ens credentials");
    let down = DescribeError::Unavailable("it is down".to_owned());
    vec![
        (down, Code::Unavailable, Reason::EnsUnavailable),
        (DescribeError::Incomplete, Code::Unavailable, Reason::EnsUnavailable),
        (throttled, Code::Unavailable, Reason::EnsThrottled),
        (DescribeError::NotReady(no_key), Code::Internal, Reason::EnsCredentialsRejected),
        (refused("SignatureDoesNotMatch"), Code::Internal, Reason::EnsCredentialsRejected),
        (refused("NoPermission"), Code::Internal, Reason::EnsPermissionDenied),
        (refused("InstanceNotFound"), Code::NotFound, Reason::InstanceNotFound),
        (
            refused("InvalidParameter.InstanceId"),
            Code::InvalidArgument,
            Reason::EnsInvalidParameter,
        ),
        (refused("EniPerInstanceLimitExceeded"), Code::Unknown, Reason::EnsError),
    ]
}

fn list(instance: &str) -> ListAttachmentsRequest {
    ListAttachmentsRequest { instance_id: instance.to_owned(), ..ListAttachmentsRequest::default() }
}

fn is(status: &Status, code: Code, reason: Reason) {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!((status.code(), info.reason.as_str()), (code, reason.name()), "{status:?}");
    assert_eq!(details.retry_info().is_some(), code == Code::Unavailable, "{status:?}");
    for text in [status.message(), &reason.send_effect().to_string()] {
        assert!(!text.contains("nothing was"), "{text}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_a_reason() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    for (fault, code, reason) in faults() {
        gateway.ens.fail(Some(fault));
        is(&client.list_attachments(list("i-1")).await.unwrap_err(), code, reason);
        is(&client.get_attachment(get("i-1", "eni-1")).await.unwrap_err(), code, reason);
        for (eni, follow) in [("", false), ("eni-1", false), ("eni-1", true)] {
            let opened = client.watch_attachment(watch("i-1", eni, follow)).await;
            is(&opened.expect_err("nothing is known"), code, reason);
        }
        let opened = client.watch_attachment(watch("i-1", "", true)).await.unwrap();
        let first = opened.into_inner().next().await.unwrap().unwrap();
        let Some(Event::Heartbeat(heartbeat)) = first.event else {
            panic!("{first:?}");
        };
        assert!(heartbeat.incomplete && heartbeat.observe_time.is_none(), "{heartbeat:?}");
    }
    gateway.ens.fail(None);
    let listed = client.list_attachments(list("i-1")).await.unwrap().into_inner();
    assert!(!listed.incomplete, "{listed:?}");
}

#[tokio::test]
async fn what_is_known_is_shown_and_called_incomplete() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 3)).await;
    for (fault, code, reason) in faults() {
        gateway.ens.fail(Some(fault));
        let listed = client.list_attachments(list("i-1")).await.unwrap().into_inner();
        let ListAttachmentsResponse { attachments, observe_time, incomplete, .. } = &listed;
        assert_eq!((attachments.len(), *observe_time, *incomplete), (1, None, true), "{listed:?}");
        client.get_attachment(get("i-1", "eni-1")).await.expect("it is known");

        let opened = client.watch_attachment(watch("i-1", "", false)).await.unwrap();
        let messages: Vec<_> = opened.into_inner().collect().await;
        let [shown, beat, ended] = &messages[..] else {
            panic!("{messages:?}");
        };
        let event = |message: &Result<_, _>| match message {
            Ok(eni_gateway::grpc::proto::WatchAttachmentResponse { event }) => event.clone(),
            Err(status) => panic!("{status:?}"),
        };
        assert!(matches!(event(shown), Some(Event::Attachment(_))), "{shown:?}");
        let beat = event(beat);
        assert!(
            matches!(beat, Some(Event::Heartbeat(Heartbeat { incomplete: true, .. }))),
            "{beat:?}"
        );
        is(ended.as_ref().expect_err("it must not end well"), code, reason);
    }
}
