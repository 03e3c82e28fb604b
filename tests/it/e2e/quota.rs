//! Callers with ids that do not exist: they fill no Redis, and take no calls of ENS from others.

use std::time::Duration;

use eni_gateway::simulator::Action;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::support::gateway::{Client, Replica, Stage, attach, eni, get, try_attach, within};

/// The budget that the gateway has by default.
const BUDGET: [(&str, &str); 2] =
    [("ENS__ATTACH_PER_SECOND", "5"), ("ENS__DESCRIBE_PER_SECOND", "20")];
const HEALTHY: usize = 3;

async fn stage() -> (Stage, Replica) {
    let names: Vec<String> = (0..HEALTHY).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::new(&names, HEALTHY).await;
    let replica = stage.replica(&BUDGET).await;
    (stage, replica)
}

async fn keys(stage: &Stage) -> u64 {
    stage.redis.ask(&["DBSIZE"]).await
}

/// Attaches to the known instances, one after the other, while `attack` calls without end.
async fn beside<F: Future<Output = ()>>(
    replica: &Replica,
    attack: impl Fn(Client, usize) -> F,
    connections: usize,
    each: usize,
) {
    let ended = CancellationToken::new();
    let mut calls = Vec::new();
    for n in 0..connections {
        let client = replica.client().await;
        for m in 0..each {
            let attack = &attack;
            let (ended, client) = (ended.clone(), client.clone());
            calls.push(async move {
                for round in 0.. {
                    let call = attack(client.clone(), (round * each + m) * connections + n);
                    if ended.run_until_cancelled(call).await.is_none() {
                        return;
                    }
                }
            });
        }
    }
    let healthy = async {
        let client = replica.client().await;
        for n in 0..HEALTHY {
            let call = within(Duration::from_secs(60), attach(&format!("i-{n}"), &eni(n + 1)));
            try_attach(&client, call).await.expect("attached beside them");
        }
        ended.cancel();
    };
    tokio::join!(join_all(calls), healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaches_to_made_up_instances_store_nothing_and_leave_calls_to_others() {
    let (stage, replica) = stage().await;
    let before = keys(&stage).await;
    let attack = async |client: Client, n: usize| {
        // Some have time for a send, most have not.
        let patience =
            if n.is_multiple_of(4) { Duration::from_secs(20) } else { Duration::from_millis(50) };
        let call = within(patience, attach(&format!("i-made-up-{n}"), "eni-0001"));
        try_attach(&client, call).await.expect_err("there is no such instance");
    };
    beside(&replica, attack, 4, 20).await;
    let sent = stage.ens.journal().calls_of(Action::AttachNetworkInterface);
    let stored = keys(&stage).await - before;
    // Three of its own, and the two lists of its partition.
    assert!(stored <= 5 * sent + 10, "{stored} keys for {sent} sends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_made_up_ids_leave_calls_to_attaches() {
    let (_stage, replica) = stage().await;
    let attack = async |client: Client, n: usize| {
        let failure = get(&client, &format!("i-made-up-{n}"), "eni-0001").await;
        failure.expect_err("there is no such instance");
    };
    beside(&replica, attack, 4, 10).await;
}
