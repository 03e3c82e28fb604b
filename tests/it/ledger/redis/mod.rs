//! The contract with a real Redis, through outages, restarts and replacements.

mod clocks;
mod cluster;
mod epoch;
mod fitness;
mod freeze;
mod outages;
mod rate_limit;
mod replicas;
mod secured;
mod sentinels;
mod shared;
mod valkey;

use std::sync::Arc;

use std::time::Duration;

use eni_gateway::ledger::redis::Servers;
use eni_gateway::ledger::{
    Bounds, Effects, LedgerStore, REQUEST_LIFE, Redis, RedisSettings, SharedBounds,
};
use eni_gateway::rate_limit::{RateLimitStore, Rates};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::contract::{contract, entry, instance, put, record, request, until};
use crate::support::redis::Server;

/// Longer than anything takes here that must be seen within it, and short enough to wait for.
const HOLD_DOWN: Duration = Duration::from_secs(6);

/// Bounds with this hold-down.
fn holding(hold_down: Duration) -> SharedBounds {
    SharedBounds {
        lag: Duration::ZERO,
        validity: Duration::ZERO,
        lease: Duration::ZERO,
        failover_window: hold_down,
        ..Bounds::default().shared()
    }
}

fn settings(server: &Server) -> RedisSettings {
    settings_of(Servers::One(server.place()))
}

fn settings_of(servers: Servers) -> RedisSettings {
    let mut settings = RedisSettings::new(servers);
    // A busy machine may stand still for longer than the default.
    settings.response_timeout = Duration::from_secs(3);
    settings.rates = Rates::new(50.0, 100.0).unwrap();
    settings.shared_settings.bounds = holding(HOLD_DOWN);
    settings.fresh = true;
    settings
}

/// A replica's ledger, that stops with its guard.
fn start(settings: RedisSettings) -> (DropGuard, Redis) {
    let stop = CancellationToken::new();
    let redis = Redis::start(settings, &TaskTracker::new(), stop.clone()).unwrap();
    (stop.drop_guard(), redis)
}

async fn connected(settings: RedisSettings) -> (DropGuard, Redis) {
    let (guard, redis) = start(settings);
    tokio::time::timeout(Duration::from_secs(60), redis.until_up())
        .await
        .unwrap_or_else(|_| panic!("does not connect: {:?}", redis.health()));
    (guard, redis)
}

async fn ledgers() -> ((Server, DropGuard, DropGuard), Redis, Redis) {
    let server = Server::start().await;
    let ((one_guard, other_guard), one, other) = two(settings(&server)).await;
    ((server, one_guard, other_guard), one, other)
}

/// Two replicas' ledgers, connected, and subscribed to each other's notices.
async fn two(settings: RedisSettings) -> ((DropGuard, DropGuard), Redis, Redis) {
    let ((one_guard, one), (other_guard, other)) =
        tokio::join!(connected(settings.clone()), connected(settings));
    for ledger in [&one, &other] {
        let deaf = |warning: &String| warning.contains("are not received");
        until("subscribed", async || !ledger.health().warnings.iter().any(deaf)).await;
    }
    ((one_guard, other_guard), one, other)
}

contract!(super::ledgers());

#[tokio::test]
async fn what_lives_on_and_what_expires() {
    let (keep, one, _other) = ledgers().await;
    let server = &keep.0;
    let effects =
        Effects { requests: vec![(request("a", 1), Some(entry(1)))], ..Effects::default() };
    put(&one, &instance(1), record(1), effects).await;
    let idle = Effects { expire_after: Some(Duration::from_secs(1000)), ..Effects::default() };
    put(&one, &instance(2), record(1), idle).await;
    one.take(eni_gateway::rate_limit::RateLimitRequest::Take(
        eni_gateway::rate_limit::RateClass::Attach,
        None,
    ))
    .await
    .unwrap();

    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
    for key in &keys {
        let life: i64 = server.ask(&["PTTL", key]).await;
        let expected = match key {
            key if key.contains("request:") => REQUEST_LIFE.as_millis() as i64,
            key if key.ends_with("record:i-2") => 1_000_000,
            _ => -1,
        };
        let range = if expected < 0 { expected } else { expected - 120_000 }..=expected;
        assert!(range.contains(&life), "{key} lives {life} ms");
    }
    assert_eq!(
        keys.len(),
        64 + 2 + 4 + 1 + 1 + 1,
        "epochs, records, the changes of two partitions, a request id, the budget, the replicas' settings: {keys:?}"
    );
}

#[tokio::test]
async fn a_cold_script_cache_is_no_error() {
    let (keep, one, _other) = ledgers().await;
    keep.0.ask::<()>(&["SCRIPT", "FLUSH"]).await;
    put(&one, &instance(1), record(1), Effects::default()).await;
    keep.0.ask::<()>(&["SCRIPT", "FLUSH"]).await;
    one.take(eni_gateway::rate_limit::RateLimitRequest::Take(
        eni_gateway::rate_limit::RateClass::Attach,
        None,
    ))
    .await
    .unwrap();
}

/// How many commits a second go through here: `cargo nextest run commits_per_second --run-ignored
/// only --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn commits_per_second() {
    let (_keep, one, _other) = ledgers().await;
    let mut big = record(1);
    Arc::make_mut(&mut big).unknown.insert("filling".to_owned(), "x".repeat(1_300).into());
    let (clients, rounds) = (64, 200);
    let began = tokio::time::Instant::now();
    let all = (0..clients).map(|client| {
        let (one, big) = (one.clone(), big.clone());
        async move {
            let id = instance(client);
            let mut from = one.read(&id, None).await.unwrap();
            for _ in 0..rounds {
                from.now = one.now(&instance(1));
                let effects = Effects { notify: true, ..Effects::default() };
                match one
                    .commit(&super::contract::proposal(&id, &from, big.clone(), effects))
                    .await
                    .unwrap()
                {
                    eni_gateway::ledger::Verdict::Committed { version, .. } => {
                        from.version = version
                    }
                    eni_gateway::ledger::Verdict::Conflict(found) => panic!("{found:?}"),
                }
            }
        }
    });
    futures_util::future::join_all(all).await;
    println!(
        "{:.0} commits a second",
        f64::from(clients as u32 * rounds) / began.elapsed().as_secs_f64()
    );
}
