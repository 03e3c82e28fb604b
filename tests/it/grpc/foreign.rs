//! A client that nobody here wrote: Python's grpcio decodes every status with grpcio-status.

use std::time::Duration;

use eni_gateway::grpc::method::Method;
use eni_gateway::model::{Failure, Reason, State};
use serde_json::Value;

use super::fakes::attachment;
use super::gateway::Gateway;
use crate::support::python::{Foreign, attach};

#[tokio::test]
async fn python_decodes_every_reason_of_an_attach() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.ledger, attachment("i-1", "eni-attached", State::Attached, 7)).await;
    let reasons: Vec<Reason> = Method::Attach.reasons().collect();
    for reason in &reasons {
        let failure = Failure::new(*reason, "why — 原因").ens("Some.Code", "ENS-REQUEST-ID");
        gateway.ens.refuse(failure.retry_after(Duration::from_millis(1500)));
    }
    let address = gateway.address.to_string();
    let mut client = Foreign::start();
    let mut statuses = Vec::new();
    // One after the other: the refusals stand in line.
    for number in 0..reasons.len() {
        statuses.push(client.call_one(attach(&address, "i-1", &format!("eni-{number}"))).await);
    }
    for eni in ["eni-attached", "{}"] {
        statuses.push(client.call_one(attach(&address, "i-1", eni)).await);
    }

    for (reason, status) in reasons.iter().zip(&statuses) {
        let code = serde_json::to_value(reason.code()).expect("a name");
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&code, &Value::from(reason.name())),
            "{status:#}"
        );
        assert_eq!(status["message"], "why — 原因");
        let details = &status["details"];
        assert_eq!(details["ErrorInfo"]["domain"], "eni-gateway");
        assert_eq!(details["ErrorInfo"]["metadata"]["ensCode"], "Some.Code");
        assert_eq!(details["RequestInfo"]["request_id"], "ENS-REQUEST-ID");
        assert_eq!(details["RetryInfo"]["retry_delay"], "1.500s");
        assert_eq!(status["trailers"]["grpc-retry-pushback-ms"], "1500");
        assert!(
            details["Help"]["links"][0]["url"]
                .as_str()
                .is_some_and(|url| url.starts_with("docs/errors.md#"))
        );
    }
    let [.., attached, bad] = statuses.as_slice() else {
        panic!("more than two")
    };
    assert_eq!(
        (&attached["code"], &attached["response"]["attachment"]["state"]),
        (&"OK".into(), &"STATE_ATTACHED".into())
    );
    assert_eq!(
        bad["details"]["BadRequest"]["field_violations"][0]["field"], "network_interface_id",
        "{bad:#}"
    );
}
