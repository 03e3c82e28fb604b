//! `sync_replicas`: a confirmed write survives a failover, and an unconfirmed one is not sent.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ledger::redis::Servers;
use eni_gateway::ledger::{Effects, LedgerStore, RedisSettings};
use tokio::time::Instant;

use super::{connected, holding, instance, put, record, settings, settings_of, until};
use crate::support::redis::Server;
use crate::support::redis::sentinels::Watched;

fn synced(servers: Servers, replicas: usize) -> RedisSettings {
    let mut settings = settings_of(servers);
    settings.sync_replicas = replicas;
    settings.shared_settings.synced = true;
    settings
}

async fn epoch(ledger: &impl LedgerStore) -> Arc<str> {
    ledger.read(&instance(1), None).await.unwrap().partition.epoch
}

/// Until gateways have been seen to use the set for longer than its servers' ages are blurred.
async fn in_use(watched: &Watched) {
    let primary = watched.primary().await;
    until("in use", async || {
        let seen: Vec<String> = primary.ask(&["KEYS", "*primary_seen_at"]).await;
        let Some(key) = seen.first() else {
            return false;
        };
        let seen: u64 = primary.ask(&["GET", key]).await;
        let (now, _): (u64, u64) = primary.ask(&["TIME"]).await;
        let ages = futures_util::future::join_all(watched.servers.iter().map(async |server| {
            let age = server.info("server", "uptime_in_seconds").await;
            age.and_then(|age| age.parse::<u64>().ok()).unwrap_or_default()
        }));
        let youngest = ages.await.into_iter().min().unwrap_or_default();
        seen / 1_000_000 > now - youngest + 2
    })
    .await;
}

/// What it had saved may be older than what its replicas have, and they take it over from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_restarts_with_what_it_had_saved_is_no_failover() {
    let mut watched = Watched::start().await;
    let mut settings = synced(watched.places(), 2);
    settings.shared_settings.bounds = holding(Duration::from_secs(600));
    let (_guard, ledger) = connected(settings).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    in_use(&watched).await;
    assert_eq!(ledger.health().recovering, 0);
    let which = watched.which().await;
    watched.servers[which].restart().await;
    until("closed", async || {
        let _ = ledger.read(&instance(1), None).await;
        ledger.health().recovering > 0
    })
    .await;
    assert_eq!(watched.which().await, which, "no other replica took its place");
}

#[tokio::test]
async fn without_it_everything_is_confirmed() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    ledger.confirm(&instance(1), "whatever").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_share_one_wait_and_none_is_answered_before_the_replicas_have_it() {
    let watched = Watched::start().await;
    let (_guard, ledger) = connected(synced(watched.places(), 2)).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let under = epoch(&ledger).await;
    let primary = watched.primary().await;
    let calls = async || {
        let stats: String = primary.ask(&["INFO", "commandstats"]).await;
        let waits = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
        waits.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let before = calls().await;
    let id = instance(1);
    let all = (0..200).map(|_| ledger.confirm(&id, &under));
    for confirmed in futures_util::future::join_all(all).await {
        confirmed.unwrap();
    }
    let waits = calls().await - before;
    assert!((1..=20).contains(&waits), "{waits} waits for 200 reservations");

    // A replica that has it not, as one that stands still.
    let which = watched.which().await;
    let replica = (0..3).find(|index| *index != which).unwrap();
    watched.servers[replica].freeze();
    let began = Instant::now();
    let refused = ledger.confirm(&instance(1), &under).await.unwrap_err();
    assert!(!refused.maybe_applied() && refused.outage().why.contains("1 of 2"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    watched.servers[replica].thaw();
    until("confirmed again", async || ledger.confirm(&instance(1), &under).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_needs_no_hold_down_and_loses_nothing_that_was_confirmed() {
    let mut watched = Watched::start().await;
    let mut settings = synced(watched.places(), 1);
    settings.shared_settings.bounds = holding(Duration::from_secs(600));
    let (_guard, ledger) = connected(settings.clone()).await;
    put(&ledger, &instance(1), record(7), Effects::default()).await;
    in_use(&watched).await;
    let under = epoch(&ledger).await;
    ledger.confirm(&instance(1), &under).await.unwrap();
    watched.fail_over().await;
    until("followed", async || ledger.read(&instance(1), None).await.is_ok()).await;
    let found = ledger.read(&instance(1), None).await.unwrap();
    assert_eq!(found.record, record(7));
    assert_ne!(found.partition.epoch, under, "another server, another epoch");
    assert_eq!(ledger.health().recovering, 0);
    // What was committed at the old primary cannot be confirmed by the new one.
    let why = ledger.confirm(&instance(1), &under).await.unwrap_err().outage().why.clone();
    assert!(why.contains("another one"), "{why}");
    until("one replica is left", async || {
        let under = epoch(&ledger).await;
        ledger.confirm(&instance(1), &under).await.is_ok()
    })
    .await;

    // Lost data is lost, with replicas waited for, too.
    watched.primary().await.ask::<()>(&["FLUSHALL"]).await;
    until("closed", async || {
        let _ = ledger.read(&instance(1), None).await;
        ledger.health().recovering > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_not_there_and_ones_that_are_not_waited_for_are_said() {
    let watched = Watched::start().await;
    for (wanted, says) in [(3, "nothing is sent"), (1, "set it to 2")] {
        let mut settings = synced(watched.places(), wanted);
        settings.prefix = format!("{wanted}:");
        let (_guard, ledger) = connected(settings).await;
        until(says, async || ledger.health().warnings.iter().any(|warning| warning.contains(says)))
            .await;
    }
}

/// What a replica that does not wait has written may be lost: a failover needs its hold-down while
/// there is one.
#[tokio::test]
async fn while_one_replica_does_not_wait_a_failover_needs_its_hold_down() {
    let server = Server::start().await;
    let waits_not = settings(&server);
    let (_other, waiting) = connected(synced(Servers::One(server.place()), 1)).await;
    let epoch = async || epoch(&waiting).await;
    assert!(epoch().await.contains("synced=true"));
    let (_one, _waits_not) = connected(waits_not).await;
    assert!(epoch().await.contains("synced=false"));
    assert_eq!(waiting.health().misconfigured, Vec::<String>::new());
}
