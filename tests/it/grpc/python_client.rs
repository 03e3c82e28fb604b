//! An independent client: Python's grpcio decodes every status with grpcio-status.

use std::time::Duration;

use eni_gateway::grpc::deadline;
use eni_gateway::grpc::method::Method;
use eni_gateway::model::{Failure, Reason, State};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;

use super::fakes::attachment;
use super::gateway::Gateway;
use crate::support::python::{PythonClient, attach, within};

#[tokio::test]
async fn python_decodes_every_reason_of_an_attach() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-attached", State::Attached, 7)).await;
    gateway.ens.show(&"i-1".parse().unwrap(), &"eni-attached".parse().unwrap(), "InUse");
    let reasons: Vec<Reason> = Method::Attach.reasons().collect();
    for reason in &reasons {
        let failure = Failure::new(*reason, "why — 原因").ens("Some.Code", "ENS-REQUEST-ID");
        gateway.ens.refuse(failure.retry_after(Duration::from_millis(1500)));
    }
    let address = gateway.address.to_string();
    let mut client = PythonClient::start();
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
    }
    let [.., attached, bad] = statuses.as_slice() else { panic!("more than two") };
    assert_eq!(
        (&attached["code"], &attached["response"]["attachment"]["state"]),
        (&"OK".into(), &"STATE_ATTACHED".into())
    );
    assert_eq!(
        bad["details"]["BadRequest"]["field_violations"][0]["field"], "network_interface_id",
        "{bad:#}"
    );
}

/// grpcio, like all of the C core, rounds `grpc-timeout` up: by more than a fixed margin where the
/// timeout is long.
#[tokio::test]
async fn python_gets_a_reason_before_its_own_deadline_however_long() {
    let gateway = Gateway::start().await;
    let address = gateway.address.to_string();
    // Those just above a tenth of a second are rounded up by the most.
    let calls: Vec<Value> = [2.5, 5.0, 10.02, 12.0, 15.02, 15.04, 30.0, 30.02]
        .into_iter()
        .enumerate()
        .map(|(number, seconds)| within(seconds, attach(&address, &format!("i-{number}"), "eni-1")))
        .collect();
    // No credentials come: each waits for its deadline.
    for status in PythonClient::start().call(&calls).await {
        assert_eq!(status["code"], "UNAVAILABLE", "{status:#}");
        assert_eq!(status["reason"], "NOT_APPLIED", "{status:#}");
    }
}

#[tokio::test]
async fn python_rounds_a_timeout_up_by_no_more_than_the_margin_allows_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let (sender, mut headers) = mpsc::unbounded_channel();
    let note = move |request: http::Request<Body>| {
        sender.send(request.headers().clone()).expect("the test waits for it");
        request
    };
    let (_, nothing) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .layer(tower::util::MapRequestLayer::new(note))
        .add_service(nothing)
        .serve_with_incoming(TcpListenerStream::new(listener));
    let calls = async {
        let mut client = PythonClient::start();
        for asked in [0.3, 1.0, 5.0, 9.995, 10.001, 12.0, 30.0, 100.001, 110.0, 120.0, 599.0] {
            let status = client.call_one(within(asked, attach(&address, "i-1", "eni-1"))).await;
            assert_eq!(status["code"], "UNIMPLEMENTED", "{status:#}");
            let headers = headers.recv().await.expect("the call came");
            let sent = deadline::parse(&headers).expect("well-formed").expect("it has one");
            // The client counts down while it sets up its connection.
            let most = Duration::from_secs_f64(asked * 1.0101 + 0.001);
            assert!(sent <= most, "{asked} s is sent as {sent:?}");
            let due = sent - sent / 80 - Duration::from_millis(50);
            assert!(due.as_secs_f64() <= asked - 0.04, "{asked} s is sent as {sent:?}");
        }
    };
    tokio::select! {
        biased;
        ended = server => panic!("{ended:?}"),
        () = calls => {}
    }
}
