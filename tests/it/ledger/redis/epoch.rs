//! New ledgers, and ledgers that lost data.

use std::time::Duration;

use eni_gateway::ledger::redis::{InitError, init};
use eni_gateway::ledger::{Effects, LedgerStore, Redis};
use eni_gateway::model::Timestamp;

use super::{HOLD_DOWN, connected, instance, put, record, settings, start, until};
use crate::ledger::contract::{conflict, proposal};
use crate::support::redis::Server;

/// How long the partition of an instance stays closed.
async fn hold_down(ledger: &Redis, number: usize) -> Duration {
    let found = ledger.read(&instance(number), None).await.unwrap();
    found.partition.hold_down_until.since(found.now)
}

#[tokio::test]
async fn a_fresh_ledger_is_open_at_once() {
    let server = Server::start().await;
    let ((_a, one), (_b, other)) =
        tokio::join!(connected(settings(&server)), connected(settings(&server)));
    for ledger in [&one, &other] {
        for number in 0..100 {
            assert_eq!(hold_down(ledger, number).await, Duration::ZERO);
        }
        assert_eq!(ledger.health().recovering, 0);
    }
}

#[tokio::test]
async fn an_empty_ledger_that_is_not_declared_new_recovers() {
    let server = Server::start().await;
    let mut old = settings(&server);
    old.fresh = false;
    let (_guard, ledger) = connected(old).await;
    assert_eq!(ledger.health().recovering, 64);
    assert!(hold_down(&ledger, 1).await > HOLD_DOWN / 2);
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    until("the hold_down ends", async || ledger.health().recovering == 0).await;
    assert_eq!(hold_down(&ledger, 1).await, Duration::ZERO);
}

#[tokio::test]
async fn fresh_means_nothing_once_something_is_held() {
    let mut server = Server::start().await;
    let (guard, ledger) = connected(settings(&server)).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    drop(guard);
    server.restart().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    assert_eq!(ledger.health().recovering, 64);
    assert_eq!(ledger.read(&instance(1), None).await.unwrap().record, record(1));
}

#[tokio::test]
async fn init_makes_a_new_ledger_and_refuses_any_other() {
    let server = Server::start().await;
    server.ask::<()>(&["SET", "somebody-elses", "1"]).await;
    let mut old = settings(&server);
    old.fresh = false;
    init(old.clone()).await.unwrap();
    init(old.clone()).await.expect("nothing was stored since");
    let (_guard, ledger) = connected(old.clone()).await;
    assert_eq!(ledger.health().recovering, 0);

    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let refused = init(old.clone()).await.unwrap_err();
    assert!(
        matches!(&refused, InitError::Held(_)) && refused.to_string().contains("record:i-1"),
        "{refused}"
    );

    let mut other = old.clone();
    other.prefix = "second:".to_owned();
    init(other).await.expect("another prefix is another ledger");
    drop(server);
    assert!(matches!(init(old).await.unwrap_err(), InitError::Unreachable(_)));
}

#[tokio::test]
async fn a_ledger_that_is_declared_new_again_has_other_epochs() {
    let server = Server::start().await;
    let epoch = async || {
        server.ask::<()>(&["FLUSHALL"]).await;
        init(settings(&server)).await.unwrap();
        let keys: Vec<String> = server.ask(&["KEYS", "*{p7}*epoch"]).await;
        server.ask::<String>(&["GET", &keys[0]]).await
    };
    assert_ne!(epoch().await, epoch().await, "readers of changes notice the loss");
}

#[tokio::test]
async fn a_restart_closes_every_partition_even_with_all_its_data() {
    let mut server = Server::start().await;
    let (_a, one) = connected(settings(&server)).await;
    let (_b, other) = connected(settings(&server)).await;
    put(&one, &instance(1), record(1), Effects::default()).await;
    let before = one.read(&instance(1), None).await.unwrap();
    server.restart().await;
    for ledger in [&one, &other] {
        until("seen", async || ledger.health().up && ledger.health().recovering == 64).await;
    }
    let found = one.read(&instance(1), None).await.unwrap();
    assert_eq!(found.record, record(1));
    assert_ne!(found.partition.epoch, before.partition.epoch);
    assert!(found.partition.hold_down_until > found.now);
    assert_eq!(
        other.read(&instance(1), None).await.unwrap().partition,
        found.partition,
        "one hold_down for all"
    );

    let mut stale = proposal(&instance(1), &before, record(2), Effects::default());
    stale.now = found.now;
    assert_eq!(conflict(one.commit(&stale).await.unwrap()).partition, found.partition);

    // Another restart within the hold-down: it begins again.
    server.restart().await;
    until("seen again", async || {
        one.read(&instance(1), None)
            .await
            .is_ok_and(|again| again.partition.hold_down_until > found.partition.hold_down_until)
    })
    .await;
    until("open", async || one.health().recovering == 0).await;
}

/// The connection stays, and so does every key: only the server's own id shows it, and only the
/// commit itself can look in time.
#[tokio::test]
async fn a_commit_under_another_replication_id_is_turned_back() {
    let server = Server::start_with(&["--enable-debug-command", "local"]).await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let before = ledger.read(&instance(1), None).await.unwrap();
    server.ask::<()>(&["DEBUG", "CHANGE-REPL-ID"]).await;
    let mut stale = proposal(&instance(1), &before, record(1), Effects::default());
    stale.now = ledger.now(&instance(1));
    let found = conflict(ledger.commit(&stale).await.unwrap());
    assert_eq!(found.version, 0);
    assert_ne!(found.partition, before.partition);
    assert!(found.partition.hold_down_until > found.now);
    until("the others are looked at", async || ledger.health().recovering == 64).await;
}

/// The connection stays, and the server is the same one: only the missing epochs show it.
#[tokio::test]
async fn lost_data_closes_every_partition() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let before = ledger.read(&instance(1), None).await.unwrap();
    server.ask::<()>(&["FLUSHALL"]).await;
    let mut stale = proposal(&instance(1), &before, record(2), Effects::default());
    stale.now = ledger.now(&instance(1));
    let found = conflict(ledger.commit(&stale).await.unwrap());
    assert_eq!(found.version, 0);
    assert_ne!(found.partition.epoch, before.partition.epoch);
    assert!(found.partition.hold_down_until > found.now);
    until("the others are looked at", async || ledger.health().recovering == 64).await;
}

#[tokio::test]
async fn one_missing_epoch_closes_its_partition() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let before = ledger.read(&instance(1), None).await.unwrap();
    let epochs: Vec<String> = server.ask(&["KEYS", "*epoch"]).await;
    assert_eq!(epochs.len(), 64);
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let records: Vec<String> = server.ask(&["KEYS", "*record*"]).await;
    server.ask::<()>(&["DEL", &records[0].replace("record:i-1", "epoch")]).await;
    let found = ledger.read(&instance(1), None).await.unwrap();
    assert_ne!(found.partition, before.partition);
    assert!(found.partition.hold_down_until > found.now);
    assert_eq!(ledger.health().recovering, 1);
}

#[tokio::test]
async fn the_hold_down_runs_by_the_servers_clock() {
    let server = Server::start().await;
    let mut old = settings(&server);
    old.fresh = false;
    let (_guard, ledger) = start(old);
    until("connected", async || ledger.health().recovering == 64).await;
    let time = async || {
        let time: (u64, u64) = server.ask(&["TIME"]).await;
        Timestamp::from_micros(time.0 * 1_000_000 + time.1)
    };
    let before = time().await;
    let rest =
        ledger.read(&instance(1), None).await.unwrap().partition.hold_down_until.since(before);
    assert!(rest <= HOLD_DOWN && rest > Duration::ZERO);
    until("the clock is known", async || {
        ledger.read(&instance(1), None).await.unwrap();
        let (before, now, after) = (time().await, ledger.now(&instance(1)), time().await);
        before.since(now).max(now.since(after)) < Duration::from_millis(100)
    })
    .await;
}
