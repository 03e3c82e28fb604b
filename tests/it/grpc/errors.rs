//! Every reason, from the cloud to a client that decodes the details.

use std::time::Duration;

use eni_gateway::grpc::method::Method;
use eni_gateway::model::{Failure, Reason, State};
use tonic::Code;
use tonic_types::StatusExt;

use super::fakes::attachment;
use super::gateway::{Gateway, attach, get};

#[tokio::test]
async fn every_reason_of_an_attach_reaches_the_client() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    for reason in Method::Attach.reasons() {
        gateway.ens.refuse(
            Failure::new(reason, "what happened")
                .ens("Some.Code", "ENS-REQUEST-ID")
                .with("limit", 10),
        );
        let status =
            client.attach_network_interface(attach("i-1", "eni-1")).await.expect_err("refused");
        assert_eq!(status.code(), Code::from_i32(reason.code().number()), "{reason}");
        assert_eq!(status.message(), "what happened");
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.name(), "eni-gateway"));
        for (key, value) in [
            ("limit", "10"),
            ("ensCode", "Some.Code"),
            ("ensRequestId", "ENS-REQUEST-ID"),
            ("instanceId", "i-1"),
            ("networkInterfaceId", "eni-1"),
        ] {
            assert_eq!(info.metadata.get(key).map(String::as_str), Some(value), "{reason}: {key}");
        }
        assert_eq!(details.request_info().expect("ENS's RequestId").request_id, "ENS-REQUEST-ID");
        assert!(details.help().is_none(), "{reason}: nothing is published");
    }
}

#[tokio::test]
async fn a_delay_comes_in_both_forms() {
    let gateway = Gateway::start().await;
    gateway.ens.refuse(
        Failure::new(Reason::EniLimitExceeded, "full").retry_after(Duration::from_millis(1250)),
    );
    let status = gateway
        .client()
        .await
        .attach_network_interface(attach("i-1", "eni-1"))
        .await
        .expect_err("full");
    let details = status.get_error_details();
    assert_eq!(
        details.retry_info().expect("RetryInfo").retry_delay,
        Some(Duration::from_millis(1250))
    );
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("pushback"), "1250");
    assert_eq!(
        details.quota_failure().expect("QuotaFailure").violations[0].subject,
        "instance:i-1"
    );
}

#[tokio::test]
async fn what_is_attached_already_is_ok() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 7)).await;
    gateway.ens.show(&"i-1".parse().unwrap(), &"eni-1".parse().unwrap(), "InUse");
    let answer = gateway
        .client()
        .await
        .attach_network_interface(attach("i-1", "eni-1"))
        .await
        .expect("attached");
    let answer = answer.into_inner();
    let attached = answer.attachment.expect("the attachment");
    assert_eq!((attached.state().as_str_name(), attached.revision), ("STATE_ATTACHED", 7));
    assert_eq!(answer.ens_request_id, "ENS-REQUEST-ID");
    assert!(answer.checks.is_empty());
}

#[tokio::test]
async fn an_unknown_attachment_is_not_found() {
    let gateway = Gateway::start().await;
    let status = gateway
        .client()
        .await
        .get_attachment(get("i-1", "eni-1"))
        .await
        .expect_err("nothing is there");
    let details = status.get_error_details();
    assert_eq!(details.error_info().expect("an ErrorInfo").reason, "ATTACHMENT_NOT_FOUND");
    assert_eq!(details.resource_info().expect("a ResourceInfo").resource_name, "i-1/eni-1");
}
