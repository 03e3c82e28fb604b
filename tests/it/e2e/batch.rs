//! Batches by an independent client, over two replicas: one stop window, and a death in it.

use std::time::Duration;

use eni_gateway::simulator::{Action, Effect, Fault};
use serde_json::{Value, json};

use crate::support::gateway::{Replica, SLOW_ENS, Stage, eni, eventually};
use crate::support::python::{PythonClient, call, within_at_gateway};

const ATTACH: Action = Action::AttachNetworkInterface;
const REQUEST_ID: &str = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c11";

/// A batch of the ENIs from the first one on.
fn batch(replica: &Replica, enis: usize) -> Value {
    let enis: Vec<_> = (1..=enis).map(eni).collect();
    let request = json!({
        "instance_id": "i-1", "network_interface_ids": enis, "request_id": REQUEST_ID,
    });
    call(replica.address(), "BatchAttachNetworkInterfaces", request)
}

fn results(answer: &Value) -> &Vec<Value> {
    answer["response"]["results"].as_array().unwrap_or_else(|| panic!("{answer:#}"))
}

/// The states of the ENIs as a watch of the whole instance ends.
async fn watched_to_the_end(python_client: &mut PythonClient, replica: &Replica) -> Vec<String> {
    let request = json!({ "instance_id": "i-1" });
    let watched = python_client.call_one(call(replica.address(), "WatchAttachment", request)).await;
    assert_eq!(watched["code"], "OK", "{watched:#}");
    let messages = watched["messages"].as_array().unwrap();
    let state = |number| {
        let of_eni =
            |message: &&Value| message["attachment"]["network_interface_id"] == eni(number);
        let last = messages.iter().rfind(of_eni).unwrap_or_else(|| panic!("{watched:#}"));
        last["attachment"]["state"].as_str().unwrap().to_owned()
    };
    (1..=3).map(state).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_enis_of_one_stop_window_outlive_the_replica_that_attaches_them() {
    let mut python_client = PythonClient::start();
    let stage = Stage::new(&["i-1"], 3).await;
    let (mut first, other) = (stage.replica(&[]).await, stage.replica(&[]).await);
    let held = Fault::next(ATTACH, Effect::None).eni(eni(2));
    stage.ens.fault(held.delay_answer(Duration::from_secs(30)));
    let asked = batch(&first, 3);
    let (lost, ()) = tokio::join!(python_client.call_one(asked), async {
        let sent = async || stage.ens.journal().calls_of(ATTACH) == 2;
        eventually("the second one is not sent", sent).await;
        first.kill();
    });
    assert_ne!(lost["code"], "OK", "{lost:#}");
    assert_eq!(lost["reason"], Value::Null, "{lost:#}");

    let again = python_client.call_one(batch(&other, 3)).await;
    assert_eq!(again["code"], "OK", "{again:#}");
    for (number, result) in (1..).zip(results(&again)) {
        assert_eq!(result["network_interface_id"], eni(number));
        assert!(result["attachment"]["uid"].is_string(), "{again:#}");
    }
    assert_eq!(watched_to_the_end(&mut python_client, &other).await, ["STATE_ATTACHED"; 3]);
    let counts = stage.ens.journal().instance("i-1");
    let counts = (counts.attach_calls, counts.applied, counts.max_occupied);
    assert_eq!(counts, (3, 3, 3), "each was sent once");
    // A repeat replays, also after the instance was started.
    let replayed = python_client.call_one(batch(&other, 3)).await;
    let uids = |answer| {
        let uid = |result: &Value| result["attachment"]["uid"].clone();
        results(answer).iter().map(uid).collect::<Vec<_>>()
    };
    assert_eq!(uids(&replayed), uids(&again));
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_in_the_middle_is_answered_for_each_eni_and_audited() {
    let mut python_client = PythonClient::start();
    let stage = Stage::new(&["i-1"], 3).await;
    let replica = stage.replica(&SLOW_ENS).await;
    let held = Fault::next(ATTACH, Effect::None).eni(eni(2));
    stage.ens.fault(held.delay_answer(Duration::from_secs(5)));
    let answer = python_client.call_one(within_at_gateway(3.0, batch(&replica, 3))).await;
    assert_eq!(answer["code"], "OK", "{answer:#}");
    let results = results(&answer);
    assert!(results[0]["attachment"]["uid"].is_string(), "{answer:#}");
    assert_eq!(results[1]["error"]["reason"], "OUTCOME_UNKNOWN", "{answer:#}");
    assert_eq!(results[2]["error"]["reason"], "LOCK_WAIT", "{answer:#}");
    let audited = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let is_ours = line["message"] == "attach" && line["request_id"] == REQUEST_ID;
        is_ours.then(|| line["outcome"].as_str().unwrap().to_owned())
    };
    let log = replica.log();
    let outcomes: Vec<_> = log.lines().filter_map(audited).collect();
    assert_eq!(outcomes, ["OK", "OUTCOME_UNKNOWN", "LOCK_WAIT"], "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_over_two_replicas_share_the_slots_and_pass_none() {
    let mut python_client = PythonClient::start();
    let stage = Stage::new(&["i-1"], 14).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let batch = |replica: &Replica, enis: std::ops::Range<usize>, all| {
        let enis: Vec<_> = enis.map(eni).collect();
        let request = json!({
            "instance_id": "i-1", "network_interface_ids": enis, "require_all": all,
        });
        call(replica.address(), "BatchAttachNetworkInterfaces", request)
    };
    let refused = python_client.call_one(batch(&replicas[0], 1..12, true)).await;
    assert_eq!(refused["reason"], "ENI_LIMIT_EXCEEDED", "{refused:#}");
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 0);
    let calls = [batch(&replicas[0], 1..8, false), batch(&replicas[1], 8..15, false)];
    let answers = python_client.call(&calls).await;
    let all = || answers.iter().flat_map(results);
    let attached = all().filter(|result| result["attachment"].is_object()).count();
    let full = all().filter(|result| result["error"]["reason"] == "ENI_LIMIT_EXCEEDED").count();
    assert_eq!((attached, full), (10, 4), "{answers:#?}");
    let counts = stage.ens.journal().instance("i-1");
    assert_eq!((counts.max_occupied, counts.max_attach_processing), (10, 1));
}
