//! A freeze over all partitions: no commit that was computed before it is stored.

use eni_gateway::ledger::redis::{init, inspect, set_freeze};
use eni_gateway::ledger::{
    Effects, LedgerStore, Partition, Proposal, Redis, RedisSettings, Verdict,
};
use eni_gateway::model::Timestamp;

use super::{connected, instance, put, record, settings, settings_of, until};
use crate::support::redis::Server;
use crate::support::redis::cluster::Cluster;

/// More than enough to meet every partition.
const INSTANCES: usize = 500;

const REASON: &str = "moving the account";

/// The reason for which a partition is frozen.
fn reason(partition: &Partition) -> Option<&str> {
    partition.freeze.as_ref().map(|freeze| freeze.reason())
}

/// A proposal for each instance, computed now.
async fn proposals(ledger: &Redis) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    for number in 0..INSTANCES {
        let found = ledger.read(&instance(number), None).await.unwrap();
        proposals.push(Proposal {
            instance: instance(number),
            version: found.version,
            partition: found.partition,
            now: found.now,
            record: record(1),
            request: None,
            effects: Effects::default(),
        });
    }
    proposals
}

async fn freezes_all(settings: RedisSettings) {
    let (_guard, ledger) = connected(settings.clone()).await;
    let before = proposals(&ledger).await;
    set_freeze(settings.clone(), Some(REASON)).await.unwrap();
    for mut proposal in before {
        // Only the freeze shall stand in its way.
        proposal.now = ledger.now(&proposal.instance);
        let Verdict::Conflict(found) = ledger.commit(&proposal).await.unwrap() else {
            panic!("{} was committed under the freeze", proposal.instance);
        };
        assert_eq!((reason(&found.partition), found.version), (Some(REASON), 0));
    }
    // What is in flight is written on, by records that are computed under it.
    put(&ledger, &instance(1), record(2), Effects::default()).await;
    let all = |ledger: &Redis| (ledger.health().frozen.count, ledger.health().frozen.of);
    until("seen in every partition", async || all(&ledger) == (64, 64)).await;
    assert_eq!(inspect(settings.clone()).await.unwrap().frozen, ledger.health().frozen);

    set_freeze(settings.clone(), None).await.unwrap();
    until("ended in every partition", async || all(&ledger) == (0, 64)).await;
    let found = ledger.read(&instance(1), None).await.unwrap();
    assert_eq!((found.partition.freeze, found.record), (None, record(2)));
    assert_eq!(inspect(settings).await.unwrap().frozen.freeze, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_computed_before_it_is_stored() {
    let server = Server::start().await;
    freezes_all(settings(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_frozen_on_every_node() {
    let cluster = Cluster::start().await;
    freezes_all(settings_of(cluster.places())).await;
}

#[tokio::test]
async fn a_new_ledger_may_be_frozen() {
    let server = Server::start().await;
    set_freeze(settings(&server), Some(REASON)).await.unwrap();
    init(settings(&server)).await.unwrap();
    let (_guard, ledger) = connected(settings(&server)).await;
    let found = ledger.read(&instance(1), None).await.unwrap();
    assert_eq!(reason(&found.partition), Some(REASON));
    assert_eq!(found.partition.hold_down_until, Timestamp::default());
}

#[tokio::test]
async fn a_failover_must_not_lose_it_where_replicas_are_waited_for() {
    let server = Server::start().await;
    let settings = RedisSettings { sync_replicas: 1, ..settings(&server) };
    let refused = set_freeze(settings, Some(REASON)).await.unwrap_err();
    assert!(refused.to_string().contains("0 of 1 replicas"), "{refused}");
}
