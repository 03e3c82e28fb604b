//! Redis' clock steps back or forward while replicas use it.

use std::time::Duration;

use eni_gateway::ledger::{ClockSteps, Effects, LedgerStore};

use super::{HOLD_DOWN, connected, instance, put, record, settings, until};
use crate::ledger::contract::{conflict, proposal};
use crate::support::redis::Server;

/// Every replica sees the step, and what was read before it is of another epoch. Nothing was lost,
/// so nothing is held.
#[tokio::test]
async fn a_step_of_the_clock_changes_every_epoch_and_holds_nothing() {
    let server = Server::with_clock().await;
    let ((_a, one), (_b, other)) =
        tokio::join!(connected(settings(&server)), connected(settings(&server)));
    let mut seen = ClockSteps::default();
    for (ahead, back) in [(-60, true), (-3660, true), (-60, false)] {
        let before = one.read(&instance(1), None).await.unwrap();
        server.set_clock(ahead);
        let mut stale = proposal(&instance(1), &before, record(1), Effects::default());
        stale.now = one.now(&instance(1));
        let found = conflict(one.commit(&stale).await.unwrap());
        assert_ne!(found.partition.epoch, before.partition.epoch);
        assert!(found.partition.hold_down_until.since(found.now) < HOLD_DOWN / 2);
        if back {
            seen.back += 1
        } else {
            seen.forward += 1
        }
        for ledger in [&one, &other] {
            until("every replica sees it", async || ledger.health().clock_steps == seen).await;
            let warnings = ledger.health().warnings;
            assert!(warnings.iter().any(|warning| warning.contains("clock")), "{warnings:?}");
        }
        for number in 1..100 {
            until("the replicas agree", async || {
                let found = one.read(&instance(number), None).await.unwrap();
                let same = found.partition.epoch
                    == other.read(&instance(number), None).await.unwrap().partition.epoch;
                same && found.partition.hold_down_until <= found.now
            })
            .await;
        }
        assert_eq!(one.health().recovering, 0);
    }
}

#[tokio::test]
async fn what_was_due_by_another_clock_is_due_now() {
    let server = Server::with_clock().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let soon = ledger.now(&instance(1)) + Duration::from_secs(5);
    let due = Effects {
        due: [("eni-1".parse().unwrap(), Some(soon))].into(),
        reconcile: eni_gateway::ledger::ReconcileSchedule::At(soon),
        ..Effects::default()
    };
    put(&ledger, &instance(1), record(1), due).await;
    assert!(ledger.due(1).await.unwrap().is_empty());
    server.set_clock(-7200);
    until("the attempt is due", async || !ledger.due(1).await.unwrap_or_default().is_empty()).await;
    until("the comparison is due", async || {
        !ledger.due_reconciliations(1).await.unwrap_or_default().is_empty()
    })
    .await;
}

/// A hold-down that is under way ends neither sooner nor an hour later.
#[tokio::test]
async fn a_hold_down_continues_over_a_step_of_the_clock() {
    for ahead in [-3600, 3600] {
        let server = Server::with_clock().await;
        let mut old = settings(&server);
        old.fresh = false;
        let (_guard, ledger) = connected(old).await;
        assert_eq!(ledger.health().recovering, 64);
        server.set_clock(ahead);
        until("seen", async || ledger.health().clock_steps != ClockSteps::default()).await;
        let found = ledger.read(&instance(1), None).await.unwrap();
        assert!(found.partition.hold_down_until > found.now, "{ahead}");
        assert!(found.partition.hold_down_until.since(found.now) <= HOLD_DOWN, "{ahead}");
        until("open", async || ledger.health().recovering == 0).await;
    }
}
