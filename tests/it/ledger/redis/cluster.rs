//! The contract over a cluster, with the loss of a node and moved slots.

use std::time::Duration;

use eni_gateway::ledger::redis::{Servers, init, inspect};
use eni_gateway::ledger::{Effects, LedgerStore};
use tokio::time::Instant;

use super::{connected, instance, put, record, settings_of, start, two, until};
use crate::ledger::contract::contract_at_once;
use crate::support::redis::cluster::Cluster;
use crate::support::redis::{Server, free_port};

/// The key of an instance's record, under the default prefix.
async fn record_key(cluster: &Cluster, number: usize) -> String {
    let pattern = format!("*:record:i-{number}");
    for server in cluster.servers.iter().filter(|server| server.runs()) {
        if let Some(key) = server.ask::<Vec<String>>(&["KEYS", &pattern]).await.pop() {
            return key;
        }
    }
    panic!("no server has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let cluster = Cluster::start().await;
    let ledgers = |prefix: &str| {
        let mut settings = settings_of(cluster.places());
        settings.prefix = prefix.to_owned();
        two(settings)
    };
    contract_at_once!(ledgers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_is_replaced_and_closes_only_what_it_held() {
    let mut cluster = Cluster::start().await;
    // Every node is found from one.
    let seed = Servers::Cluster(vec![cluster.servers[5].place()]);
    let (_guard, ledger) = connected(settings_of(seed)).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let key = record_key(&cluster, 1).await;
    let dying = cluster.holder(&key).await;
    let replaced = cluster.fail_over(dying).await;
    let began = Instant::now();
    until("followed", async || ledger.read(&instance(1), None).await.is_ok()).await;
    println!("replaced after {replaced:?}, followed {:?} later", began.elapsed());
    until("closed", async || ledger.health().recovering > 0).await;
    let recovering = ledger.health().recovering;
    assert!(recovering < 64, "{recovering}");
    until("all up, all open", async || {
        let health = ledger.health();
        health.up && health.recovering == 0
    })
    .await;
    put(&ledger, &instance(1), record(2), Effects::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_take_their_records_along() {
    let cluster = Cluster::start().await;
    let (_guard, ledger) = connected(settings_of(cluster.places())).await;
    for number in 0..40 {
        put(&ledger, &instance(number), record(number as u64 + 1), Effects::default()).await;
    }
    let from = cluster.holder(&record_key(&cluster, 1).await).await;
    let mut to = 0;
    for index in 0..3 {
        if index != from {
            to = index;
        }
    }
    let reading = async {
        // A call meanwhile succeeds, or reports that nothing was done. No report is wrong.
        let (mut served, mut refused) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(4);
        while Instant::now() < deadline {
            for number in 0..40 {
                match ledger.read(&instance(number), None).await {
                    Ok(found) => {
                        assert_eq!(found.record, record(number as u64 + 1));
                        served += 1;
                    }
                    Err(error) => {
                        assert!(!error.maybe_applied(), "{error}");
                        refused += 1;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("{served} reads served and {refused} turned away while slots moved");
        assert!(served > refused);
    };
    let moving = async {
        let (from, to) = (cluster.id(from).await, cluster.id(to).await);
        let any = cluster.servers[0].place().to_string();
        let mut command: Vec<String> = ["--cluster", "reshard"].map(str::to_owned).into();
        command.push(any);
        command.extend(["--cluster-from".to_owned(), from, "--cluster-to".to_owned(), to]);
        command.extend(["--cluster-slots", "5461", "--cluster-yes"].map(str::to_owned));
        cluster.cli(&command).await;
        cluster.settle().await;
    };
    tokio::join!(reading, moving);
    until("served again", async || {
        for number in 0..40 {
            match ledger.read(&instance(number), None).await {
                Ok(found) => assert_eq!(found.record, record(number as u64 + 1)),
                Err(_) => return false,
            }
        }
        true
    })
    .await;
    until("open again", async || ledger.health().recovering == 0 && ledger.health().up).await;
    put(&ledger, &instance(1), record(100), Effects::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ledger_is_said_to_be_new_on_every_node() {
    let cluster = Cluster::start().await;
    let mut settings = settings_of(cluster.places());
    settings.fresh = false;
    init(settings.clone()).await.unwrap();
    init(settings.clone()).await.unwrap();
    let found = inspect(settings.clone()).await.unwrap();
    assert_eq!(found.standing, eni_gateway::ledger::redis::LedgerState::Open);
    assert!(found.server.starts_with("3 primaries, redis 7"), "{found:?}");
    let (_guard, ledger) = connected(settings.clone()).await;
    assert_eq!(ledger.health().recovering, 0);
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let held = init(settings).await.unwrap_err().to_string();
    assert!(held.contains("record:i-1"), "{held}");
}

#[tokio::test]
async fn a_cluster_without_an_answer_and_one_that_is_none() {
    let unused = eni_gateway::ledger::redis::ServerAddr::Tcp("127.0.0.1".to_owned(), free_port());
    let (_guard, ledger) = start(settings_of(Servers::Cluster(vec![unused])));
    until("said", async || {
        let why = ledger.read(&instance(1), None).await.unwrap_err().outage().why.clone();
        why.to_lowercase().contains("refused")
    })
    .await;
    assert!(!ledger.health().up && !ledger.health().reached);

    let lone = Server::start().await;
    let (_guard, ledger) = start(settings_of(Servers::Cluster(vec![lone.place()])));
    until("said", async || {
        let why = ledger.read(&instance(1), None).await.unwrap_err().outage().why.clone();
        why.contains("cluster support disabled")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_is_taken_for_a_server_of_its_own_is_unfit() {
    let cluster = Cluster::start().await;
    let (_guard, ledger) = start(settings_of(Servers::One(cluster.servers[0].place())));
    until("misconfigured", async || {
        ledger.health().misconfigured.iter().any(|why| why.contains("redis-cluster://"))
    })
    .await;
}
