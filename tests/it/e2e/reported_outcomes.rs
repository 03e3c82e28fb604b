//! The log lines about outcomes, for operators.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Effect, Fault};
use serde_json::Value;

use crate::support::gateway::{Replica, Stage, attach, eventually, try_attach, watch, within};

const ATTACH: Action = Action::AttachNetworkInterface;

/// The lines with this message.
fn lines(replica: &Replica, message: &str) -> Vec<Value> {
    let log = replica.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_that_ens_takes_back_is_reported_with_its_reason_though_its_caller_received_success()
 {
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    stage.ens.fault(Fault::next(ATTACH, Effect::AcceptThenFail));
    for (eni, end) in [("eni-0001", State::Failed), ("eni-0002", State::Attached)] {
        try_attach(&client, attach("i-1", eni)).await.unwrap();
        let seen = watch(&client, "i-1", eni, 0).await.unwrap();
        assert_eq!(seen.last().unwrap().state(), end);
    }
    let heard = lines(&replica, "attach");
    assert!(heard.iter().all(|line| line["outcome"] == "OK"), "{heard:?}");
    eventually("an end is not reported", async || lines(&replica, "attach ended").len() == 2).await;
    let ended = lines(&replica, "attach ended");
    let outcomes: Vec<_> = ended.iter().map(|line| [&line["eni"], &line["outcome"]]).collect();
    assert_eq!(outcomes, [["eni-0001", "ATTACH_FAILED"], ["eni-0002", "OK"]]);
    for (heard, ended) in heard.iter().zip(&ended) {
        assert_eq!(ended["target"], "eni_gateway::audit");
        assert_ne!(ended["ens_request_id"], "");
        for field in ["ens_request_id", "caller", "trace_id"] {
            assert_eq!(heard[field], ended[field], "{field}");
            assert!(heard[field].is_string(), "{field}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_turns_stuck_is_named() {
    let stage = Stage::new(&["i-1"], 1).await;
    let settings = [("TRACKER__STUCK_AFTER", "4s")];
    let (first, second) = tokio::join!(stage.replica(&settings), stage.replica(&settings));
    let slow = Effect::AttachTime { takes: Duration::from_secs(60) };
    stage.ens.fault(Fault::next(ATTACH, slow));
    try_attach(&first.client().await, attach("i-1", "eni-0001")).await.unwrap();
    let named = || {
        let stuck = "an attempt is stuck: it is in flight for longer than tracker.stuck_after";
        [lines(&first, stuck), lines(&second, stuck)].concat()
    };
    eventually("no replica names it", async || !named().is_empty()).await;
    let named = named();
    assert_eq!([&named[0]["instance"], &named[0]["eni"]], ["i-1", "eni-0001"]);
    assert_eq!([&named[0]["level"], &named[0]["state"]], ["WARN", "ATTACHING"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_down_and_its_end_are_reported_once() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    stage.redis.ask::<()>(&["FLUSHALL"]).await;
    // Somebody notices at once.
    let call = within(Duration::from_secs(5), attach("i-1", "eni-0001"));
    try_attach(&replica.client().await, call).await.unwrap_err();
    let recovering = |message: &str| {
        let mut found = lines(&replica, message);
        found.retain(|line| line["condition"] == "ledger recovering");
        found
    };
    eventually("no end is logged", async || recovering("a condition ended").len() == 1).await;
    let begun = recovering("a condition began");
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!([&begun[0]["level"], &begun[0]["part"]], ["WARN", "ledger"]);
}
