//! Batches at the edge: fields, limits, the deadline, and the form of each result.

use std::time::Duration;

use eni_gateway::admission::Limits;
use eni_gateway::drain::Phase;
use eni_gateway::grpc::proto::attach_result::Result as Of;
use eni_gateway::grpc::proto::{AttachResult, BatchAttachNetworkInterfacesRequest};
use eni_gateway::model::{Failure, Reason, State};
use tonic::Code;
use tonic_types::StatusExt;

use super::fakes::attachment;
use super::gateway::{Gateway, Options, attach};
use super::reason;
use super::refusals::logged;
use crate::support::gateway::{eventually, within};
use crate::support::log::Log;

fn batch(enis: &[&str]) -> BatchAttachNetworkInterfacesRequest {
    BatchAttachNetworkInterfacesRequest {
        instance_id: "i-1".to_owned(),
        network_interface_ids: enis.iter().map(|eni| (*eni).to_owned()).collect(),
        ..BatchAttachNetworkInterfacesRequest::default()
    }
}

/// The ENI, and its state or reason.
fn outcome(result: &AttachResult) -> (&str, String) {
    let of = match result.result.as_ref().expect("a result") {
        Of::Attachment(attachment) => attachment.state().as_str_name().to_owned(),
        Of::Error(error) => error.reason.clone(),
    };
    (&result.network_interface_id, of)
}

#[tokio::test]
async fn each_eni_has_its_result_in_the_order_of_the_request() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-b", State::Attached, 7)).await;
    gateway.ens.show(&"i-1".parse().unwrap(), &"eni-b".parse().unwrap(), "InUse");
    let refusal = Failure::new(Reason::EnsThrottled, "why").ens("Throttling", "ENS-REQUEST-ID");
    gateway.ens.refuse(refusal.retry_after(Duration::from_millis(1500)));
    gateway.ens.refuse(Failure::new(Reason::EnsPermissionDenied, "no"));
    let mut client = gateway.client().await;
    let answer = client.batch_attach_network_interfaces(batch(&["eni-c", "eni-b", "eni-a"])).await;
    let results = answer.expect("OK").into_inner().results;
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    let expected = [
        ("eni-c", "ENS_THROTTLED".to_owned()),
        ("eni-b", "STATE_ATTACHED".to_owned()),
        ("eni-a", "ENS_PERMISSION_DENIED".to_owned()),
    ];
    assert_eq!(outcomes, expected);
    let Some(Of::Error(error)) = &results[0].result else { panic!("{results:?}") };
    assert_eq!((error.code, error.ens_code.as_str()), (Code::Unavailable as i32, "Throttling"));
    assert_eq!(error.metadata["networkInterfaceId"], "eni-c");
    let delay = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
    assert_eq!(error.retry_delay, Some(delay));
    let Some(Of::Error(error)) = &results[2].result else { panic!("{results:?}") };
    assert_eq!(error.retry_delay, None, "the cause must be corrected");
}

#[tokio::test]
async fn at_the_deadline_the_answer_has_what_became_of_each() {
    let gateway = Gateway::start().await;
    let asked = within(Duration::from_secs(1), batch(&["eni-1", "eni-2", "eni-3"]));
    let answer = gateway.timerless().await.batch_attach_network_interfaces(asked).await;
    let results = answer.expect("OK, in time").into_inner().results;
    let outcomes: Vec<_> = results.iter().map(|result| outcome(result).1).collect();
    // The credentials of the first never come.
    assert_eq!(outcomes, ["NOT_APPLIED", "LOCK_WAIT", "LOCK_WAIT"]);
    assert_eq!(gateway.ens.attaches(), 0);
}

#[tokio::test]
async fn all_or_nothing_is_refused_before_anything_is_sent() {
    let gateway = Gateway::start().await;
    let instance = "i-1".parse().unwrap();
    for n in 0..9 {
        gateway.ens.show(&instance, &format!("eni-old-{n}").parse().unwrap(), "InUse");
    }
    let mut request = batch(&["eni-1", "eni-2"]);
    request.require_all = true;
    let mut client = gateway.client().await;
    let refused = client.batch_attach_network_interfaces(request.clone()).await.expect_err("full");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::ResourceExhausted, "ENI_LIMIT_EXCEEDED".to_owned())
    );
    let details = refused.get_error_details();
    assert!(details.quota_failure().is_some() && details.retry_info().is_some(), "{details:?}");
    assert_eq!(details.error_info().unwrap().metadata["attached"], "9");
    request.validate_only = true;
    let refused = client.batch_attach_network_interfaces(request.clone()).await.expect_err("full");
    assert_eq!(reason(&refused), "ENI_LIMIT_EXCEEDED");
    // Without it, each is checked.
    request.require_all = false;
    gateway.ens.show(&instance, &"eni-1".parse().unwrap(), "Available");
    let checked = client.batch_attach_network_interfaces(request).await.expect("checked");
    let results = checked.into_inner().results;
    assert!(results[0].result.is_none() && !results[0].checks.is_empty(), "{results:?}");
    assert_eq!(outcome(&results[1]), ("eni-2", "ENI_LIMIT_EXCEEDED".to_owned()));
    assert_eq!(gateway.ens.attaches(), 0);
}

#[tokio::test]
async fn a_batch_beyond_the_share_of_an_instance_is_admitted_until_the_drain() {
    let limits = Limits { attaches: 8, ..Limits::default() };
    let gateway = Gateway::with(Options { limits, ..Options::default() }).await;
    let mut client = gateway.client().await;
    // A quarter of the places is for one instance. A larger batch takes all of them.
    for _ in 0..3 {
        gateway.ens.refuse(Failure::new(Reason::EnsPermissionDenied, "no"));
    }
    let large = client.batch_attach_network_interfaces(batch(&["eni-1", "eni-2", "eni-3"])).await;
    assert_eq!(large.expect("admitted").into_inner().results.len(), 3);
    gateway.drain.enter(Phase::Draining);
    let refused = client.batch_attach_network_interfaces(batch(&["eni-1"])).await;
    assert_eq!(reason(&refused.expect_err("the gate is closed")), "DRAINING");
}

/// The ENI and the outcome of each audit line `attach` after so many.
fn audited(log: &Log, seen: usize) -> Vec<(String, String)> {
    let lines = log.audit().into_iter().filter(|line| line["message"] == "attach").skip(seen);
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    lines.map(|line| (text(&line["eni"]), text(&line["outcome"]))).collect()
}

#[tokio::test]
async fn each_attach_that_is_refused_as_a_whole_has_its_audit_line() {
    let (log, _default) = logged();
    let each =
        |outcome: &str| ["eni-1", "eni-2"].map(|eni| (eni.to_owned(), outcome.to_owned())).to_vec();
    let gateway = Gateway::start().await;
    for n in 0..9 {
        gateway.ens.show(
            &"i-1".parse().unwrap(),
            &format!("eni-old-{n}").parse().unwrap(),
            "InUse",
        );
    }
    let mut client = gateway.client().await;
    let mut all = batch(&["eni-1", "eni-2"]);
    all.require_all = true;
    client.batch_attach_network_interfaces(all.clone()).await.expect_err("full");
    assert_eq!(audited(&log, 0), each("ENI_LIMIT_EXCEEDED"));
    all.validate_only = true;
    client.batch_attach_network_interfaces(all).await.expect_err("full");
    assert_eq!(audited(&log, 2), [], "a check has no line");
    gateway.drain.enter(Phase::Draining);
    let refused = batch(&["eni-1", "eni-2"]);
    client.batch_attach_network_interfaces(refused.clone()).await.expect_err("the gate is closed");
    assert_eq!(audited(&log, 2), each("DRAINING"));
    client.attach_network_interface(attach("i-1", "eni-1")).await.expect_err("the same");
    assert_eq!(audited(&log, 4), each("DRAINING")[..1]);

    let limits = Limits { attaches: 0, ..Limits::default() };
    let full = Gateway::with(Options { limits, ..Options::default() }).await;
    full.client().await.batch_attach_network_interfaces(refused).await.expect_err("full");
    assert_eq!(audited(&log, 5), each("OVERLOADED"));
}

#[tokio::test]
async fn an_attach_whose_caller_leaves_has_its_audit_line() {
    let (log, _default) = logged();
    let gateway = Gateway::start().await;
    let described = async |number| {
        let is_described = async || gateway.ens.calls().len() >= number;
        eventually("ENS is not asked", is_described).await;
    };
    let (mut one, mut several) = (gateway.client().await, gateway.client().await);
    tokio::select! {
        answer = one.attach_network_interface(attach("i-1", "eni-1")) => panic!("{answer:?}"),
        () = described(1) => {}
    }
    let expected = |enis: &[&str]| {
        enis.iter().map(|eni| ((*eni).to_owned(), "CANCELLED".to_owned())).collect::<Vec<_>>()
    };
    eventually("no line", async || audited(&log, 0) == expected(&["eni-1"])).await;
    let mut call = batch(&["eni-2", "eni-3"]);
    call.instance_id = "i-2".to_owned();
    tokio::select! {
        answer = several.batch_attach_network_interfaces(call) => panic!("{answer:?}"),
        () = described(2) => {}
    }
    eventually("no lines", async || audited(&log, 1) == expected(&["eni-2", "eni-3"])).await;
}
