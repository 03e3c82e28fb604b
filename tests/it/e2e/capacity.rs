//! The free slots of many instances, by an independent client over two replicas.

use eni_gateway::simulator::Action;
use serde_json::{Value, json};

use crate::support::gateway::{Replica, Stage, eventually};
use crate::support::python::{PythonClient, attach, call};

/// Long enough for any machine.
const MAX_AGE: &str = "600s";

fn batch(replica: &Replica, instances: &[String]) -> Value {
    let request = json!({ "instance_ids": instances, "max_age": MAX_AGE });
    call(replica.address(), "BatchGetInstanceCapacities", request)
}

fn capacity(replica: &Replica, instance: &str) -> Value {
    let request = json!({ "instance_id": instance, "max_age": MAX_AGE });
    call(replica.address(), "GetInstanceCapacity", request)
}

fn found(answer: &Value) -> &Vec<Value> {
    let found = &answer["response"]["instance_capacities"];
    found.as_array().unwrap_or_else(|| panic!("{answer:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_instances_cost_one_call_once_the_ledger_knows_them() {
    let mut python_client = PythonClient::start();
    let names: Vec<String> = (0..100).map(|number| format!("i-{number}")).collect();
    let known: Vec<&str> = names[..99].iter().map(String::as_str).collect();
    let stage = Stage::new(&known, 1).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let in_slot = python_client.call_one(attach(replicas[0].address(), "i-7", "eni-0001")).await;
    assert_eq!(in_slot["code"], "OK", "{in_slot:#}");

    // What the budget's share of reads does not give at once, a repeat does.
    let mut tries = 0;
    loop {
        let answer = python_client.call_one(batch(&replicas[0], &names)).await;
        let capacities = found(&answer);
        for (capacity, name) in capacities.iter().zip(&names) {
            assert_eq!(capacity["instance_id"], *name);
            let is_known = capacity["observe_time"].is_string();
            assert_eq!(capacity["free"].is_number(), is_known, "never 0: {capacity:#}");
            assert!(is_known || capacity["error"]["reason"].is_string(), "{capacity:#}");
        }
        if capacities.iter().filter(|capacity| capacity["free"].is_number()).count() == 99 {
            break;
        }
        tries += 1;
        assert!(tries < 100, "{answer:#}");
    }
    eventually("it is not attached", async || stage.ens.journal().instance("i-7").applied == 1)
        .await;

    // Another replica has the record, too.
    let describes = || {
        let journal = stage.ens.journal();
        let of_instances = journal.calls_of(Action::DescribeInstances);
        let whole = journal.calls.iter().filter(|call| call.instance.is_some()).count();
        (of_instances, whole)
    };
    let before = describes();
    let answer = python_client.call_one(batch(&replicas[1], &names)).await;
    let after = describes();
    assert_eq!(after.0, before.0 + 1);
    assert!(after.1 <= before.1 + 1, "the attached one may be reconciled meanwhile");
    let capacities = found(&answer);
    assert_eq!(capacities.len(), 100);
    for (number, capacity) in capacities[..99].iter().enumerate() {
        let slots = ["limit", "attached", "in_flight", "free", "queue_length"]
            .map(|name| capacity[name].as_i64().unwrap_or_else(|| panic!("{capacity:#}")));
        let [limit, attached, in_flight, free, queue_length] = slots;
        assert_eq!((limit, queue_length, capacity["error"].is_null()), (10, 0, true));
        assert_eq!((attached + in_flight, free), if number == 7 { (1, 9) } else { (0, 10) });
        assert_eq!(capacity["instance_status"], "Stopped");
    }
    let unknown = &capacities[99];
    assert_eq!(unknown["error"]["reason"], "INSTANCE_NOT_FOUND", "{unknown:#}");
    assert!(unknown["free"].is_null() && unknown["instance_status"].is_null(), "{unknown:#}");

    let calls = [capacity(&replicas[1], "i-7"), capacity(&replicas[1], "i-99")];
    let answers = python_client.call(&calls).await;
    assert_eq!(answers[0]["response"]["instance_capacity"]["free"], 9, "{answers:#?}");
    let [code, reason] = ["code", "reason"].map(|name| &answers[1][name]);
    assert_eq!((code, reason), (&"NOT_FOUND".into(), &"INSTANCE_NOT_FOUND".into()));
}
