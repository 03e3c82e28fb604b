//! Requests that arrive long after the gateway's timeout.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::Action;
use tokio::time::Instant;

use crate::support::gateway::{Stage, attach, eventually, reason, try_attach, within};
use crate::support::proxy::Proxy;

/// How long each copy of the attach is delayed.
const DELAY: Duration = Duration::from_secs(20);

fn delay(head: &str) -> Duration {
    let is_attach =
        head.contains("x-acs-action: AttachNetworkInterface") && head.contains("=eni-0001");
    if is_attach { DELAY } else { Duration::ZERO }
}

/// An attach all of whose copies are delayed, beside one that is not; its caller receives
/// NOT_APPLIED. How often it was applied in the end, and what ENS said to its copies.
async fn delayed(settings: &[(&str, &str)]) -> (u64, Vec<String>) {
    let stage = Stage::new(&["i-1", "i-2"], 2).await;
    let proxy = Proxy::start(&stage.ens.endpoint(), delay).await;
    let through = [("ENS__ENDPOINT", proxy.url.as_str())];
    let replica = stage.replica(&[&through, settings].concat()).await;
    let client = replica.client().await;
    let quick = try_attach(&client, attach("i-2", "eni-0002")).await.unwrap();
    // Where its answer came too late it is attached by now.
    assert!(matches!(quick.state(), State::Attaching | State::Attached), "{quick:?}");

    let began = Instant::now();
    let request = within(Duration::from_secs(120), attach("i-1", "eni-0001"));
    let failure = try_attach(&client, request).await.unwrap_err();
    let (heard, before) = (reason(&failure), stage.ens.journal().applied_to("eni-0001"));
    assert_eq!((heard.as_str(), before), ("NOT_APPLIED", 0), "after {:?}", began.elapsed());
    let copies = || {
        let calls = stage.ens.journal().calls;
        let mine = calls.into_iter().filter(|call| call.instance.as_deref() == Some("i-1"));
        let attaches = mine.filter(|call| call.action == Action::AttachNetworkInterface.name());
        attaches.map(|call| call.outcome).collect::<Vec<_>>()
    };
    eventually("the copies do not arrive", async || copies().len() == 3).await;
    (stage.ens.journal().applied_to("eni-0001"), copies())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_later_than_its_validity_is_applied_where_that_is_only_assumed() {
    let (applied, copies) = delayed(&[("ENS__REQUEST_VALIDITY", "2s")]).await;
    assert_eq!(applied, 1, "{copies:?}");
    assert_eq!(copies[0], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_refused_by_ens_where_the_validity_is_enforced() {
    let settings = [("ENS__REQUEST_VALIDITY", "12s"), ("ENS__ENFORCE_VALIDITY", "true")];
    let (applied, copies) = delayed(&settings).await;
    assert_eq!(applied, 0, "{copies:?}");
    assert_eq!(copies, ["InvalidTimeStamp.Expired"; 3]);
}
