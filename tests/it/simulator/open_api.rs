//! The OpenAPI as a caller sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use eni_gateway::simulator::{Action, ActionRate, Effect, Fault, Settings};
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::caller::{Caller, exchange, plain};
use super::{eventually, start, start_with};

#[tokio::test]
async fn twelve_callers_at_once_fill_an_instance_to_ten() {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    let attach = |n: usize| {
        let caller = caller.clone();
        async move { caller.attach("i-stopped-1", &format!("eni-{n:04}")).await.unwrap().code().1 }
    };
    let mut codes = BTreeMap::<_, u32>::new();
    for code in join_all((1..=12).map(attach)).await {
        *codes.entry(code).or_default() += 1;
    }
    assert_eq!(
        codes,
        BTreeMap::from([("ok".to_owned(), 10), ("EniPerInstanceLimitExceeded".to_owned(), 2)])
    );
    let journal = simulator.journal();
    let counts = journal.instance("i-stopped-1");
    assert_eq!(
        (counts.max_occupied, counts.applied, counts.attach_calls, counts.attach_processing),
        (10, 10, 12, 0)
    );
    assert_eq!(journal.attaches().filter(|call| call.applied).count(), 10);
    simulator.shutdown().await;
}

#[tokio::test]
async fn an_attached_eni_comes_in_use_and_back() {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    let accepted = caller.attach("i-stopped-1", "eni-0001").await.unwrap();
    assert_eq!(accepted.json().as_object().unwrap().keys().collect::<Vec<_>>(), ["RequestId"]);
    caller.until_status("eni-0001", "InUse").await;
    let detach =
        caller.call("DetachNetworkInterface", &[("NetworkInterfaceId", "eni-0001")]).await.unwrap();
    assert_eq!(detach.code(), (200, "ok".to_owned()));
    caller.until_status("eni-0001", "Available").await;
    assert_eq!(simulator.journal().applied_to("eni-0001"), 1);
}

#[tokio::test]
async fn an_error_has_the_documented_shape_and_every_answer_a_date() {
    let simulator = start().await;
    let refused = Caller::new(simulator.address()).attach("i-running", "eni-0001").await.unwrap();
    assert_eq!(refused.code(), (400, "InvalidOperation.InvalidEnsStatus".to_owned()));
    let body = refused.json();
    for field in ["Code", "Message", "RequestId", "HostId", "Recommend"] {
        assert!(body[field].is_string(), "{field} in {body}");
    }
    let unsigned = plain(simulator.address(), "POST", "/?InstanceId=i-running", "").await;
    assert_eq!(unsigned.code(), (400, "IncompleteSignature".to_owned()));
    for answer in
        [refused, unsigned, plain(simulator.address(), "GET", "/_simulator/journal", "").await]
    {
        assert!(answer.header("date").is_some_and(|date| date.ends_with("GMT")), "{answer:?}");
    }
}

#[tokio::test]
async fn who_cannot_be_verified_is_refused() {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    let code =
        async |caller: Caller| caller.attach("i-stopped-1", "eni-0001").await.unwrap().code();
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(
        code(Caller { secret: "wrong", ..caller.clone() }).await,
        refused(400, "SignatureDoesNotMatch")
    );
    assert_eq!(
        code(Caller { key: "unknown", ..caller.clone() }).await,
        refused(404, "InvalidAccessKeyId.NotFound")
    );
    assert_eq!(
        code(Caller { date_offset: -960, ..caller.clone() }).await,
        refused(400, "InvalidTimeStamp.Expired")
    );
    let once = Caller { nonce: Some("the-same"), ..caller.clone() };
    assert_eq!(code(once.clone()).await, refused(200, "ok"));
    assert_eq!(code(once).await, refused(400, "SignatureNonceUsed"));
    assert_eq!(
        caller.call("DropEverything", &[]).await.unwrap().code(),
        refused(404, "InvalidAction.NotFound")
    );
    let deleted =
        exchange(caller.address, &caller.request("DELETE", "StopInstance", "")).await.unwrap();
    assert_eq!(deleted.code(), refused(405, "UnsupportedHTTPMethod"));
    let got = caller.request("GET", "DescribeInstances", "InstanceId=i-running");
    assert_eq!(exchange(caller.address, &got).await.unwrap().json()["TotalCount"], 1);
}

#[tokio::test]
async fn ens_may_have_another_clock() {
    let ahead = jiff::SignedDuration::from_hours(1);
    let simulator = start_with(Settings { clock_ahead: ahead, ..Settings::default() }).await;
    let caller = Caller::new(simulator.address());
    let refused = caller.attach("i-stopped-1", "eni-0001").await.unwrap();
    assert_eq!(refused.code().1, "InvalidTimeStamp.Expired");
    let date = jiff::fmt::rfc2822::parse(refused.header("date").unwrap()).unwrap().timestamp();
    assert!(
        (date.duration_since(jiff::Timestamp::now()) - ahead).abs()
            < jiff::SignedDuration::from_secs(30)
    );
    let in_time = Caller { date_offset: 3600, ..caller };
    assert_eq!(in_time.attach("i-stopped-1", "eni-0001").await.unwrap().code().1, "ok");
}

#[tokio::test]
async fn the_account_is_throttled_and_receives_when_to_retry() {
    // One in a hundred seconds: the second call is soon enough.
    let ActionRate(action, rate) = "AttachNetworkInterface=0.01".parse().unwrap();
    let simulator =
        start_with(Settings { rates: [(action, rate)].into(), ..Settings::default() }).await;
    let caller = Caller::new(simulator.address());
    assert_eq!(caller.attach("i-stopped-1", "eni-0001").await.unwrap().code().1, "ok");
    let throttled = caller.attach("i-stopped-1", "eni-0002").await.unwrap();
    assert_eq!(throttled.code(), (400, "Throttling.User".to_owned()));
    let millis: u64 = throttled.header("x-acs-retry-after").unwrap().parse().unwrap();
    assert!((1..=100_000).contains(&millis), "{millis}");
    assert_eq!(simulator.journal().applied_to("eni-0002"), 0);
}

#[tokio::test]
async fn a_call_whose_caller_hung_up_still_takes_effect() {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    let slow =
        Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_secs(3));
    simulator.fault(slow);
    let request = caller.request(
        "POST",
        "AttachNetworkInterface",
        "InstanceId=i-stopped-1&NetworkInterfaceId=eni-0001",
    );
    let mut stream = TcpStream::connect(caller.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually(async || simulator.journal().instance("i-stopped-1").attach_processing == 1).await;
    drop(stream);
    eventually(async || simulator.journal().applied_to("eni-0001") == 1).await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_delayed_call() {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    simulator.fault(
        Fault::next(Action::AttachNetworkInterface, Effect::None).delay(Duration::from_secs(3600)),
    );
    let both = async {
        tokio::join!(caller.attach("i-stopped-1", "eni-0001"), async {
            eventually(async || simulator.journal().instance("i-stopped-1").attach_processing == 1)
                .await;
            let journal = simulator.clone();
            simulator.shutdown().await;
            journal.journal()
        })
    };
    let (cut_off, journal) =
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("the shutdown hangs");
    assert!(cut_off.is_err());
    assert_eq!(
        journal.attaches().map(|call| call.outcome.as_str()).collect::<Vec<_>>(),
        ["abandoned"]
    );
}
