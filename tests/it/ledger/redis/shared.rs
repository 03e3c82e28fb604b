//! Shared settings: while replicas differ, the safer value is used, and no replica stops.

use std::time::Duration;

use eni_gateway::ledger::{Effects, LedgerStore, SharedBounds};

use super::{connected, instance, put, record, settings, until};
use crate::support::redis::Server;

async fn shared(ledger: &impl LedgerStore) -> SharedBounds {
    ledger.read(&instance(1), None).await.unwrap().partition.shared.unwrap()
}

#[tokio::test]
async fn while_replicas_differ_the_safer_of_each_setting_is_in_force() {
    let server = Server::start().await;
    let one = settings(&server);
    let mut two = one.clone();
    two.shared_settings.bounds.lag = Duration::from_secs(1);
    two.shared_settings.bounds.limit = 15;
    let (old, first) = connected(one.clone()).await;
    assert_eq!(shared(&first).await, one.shared_settings.bounds);
    let before = first.read(&instance(1), None).await.unwrap().partition;
    let (_new, second) = connected(two.clone()).await;
    let safer = one.shared_settings.bounds.join(two.shared_settings.bounds);
    assert_eq!((safer.limit, safer.lag), (10, Duration::from_secs(1)));
    for ledger in [&first, &second] {
        assert_eq!(shared(ledger).await, safer);
        assert_eq!(ledger.health().misconfigured, Vec::<String>::new());
        put(ledger, &instance(1), record(1), Effects::default()).await;
    }
    let after = second.read(&instance(1), None).await.unwrap();
    assert_ne!(
        after.partition.epoch, before.epoch,
        "what was computed by the old ones is turned back"
    );
    assert!(after.partition.hold_down_until <= after.now, "nothing was lost");
    let warnings = second.health().warnings;
    assert!(
        warnings.iter().any(|what| what.contains("limit=10") && what.contains("limit=15")),
        "{warnings:?}"
    );

    // The old replica ends, and its settings with it.
    drop(old);
    drop(first);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while shared(&second).await != two.shared_settings.bounds {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", shared(&second).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until("no difference", async || {
        !second.health().warnings.iter().any(|what| what.contains("limit="))
    })
    .await;
}

/// With the settings that are in force, though the replica that finds the loss has a shorter
/// hold-down itself.
#[tokio::test]
async fn the_hold_down_after_a_loss_is_that_of_the_longest_bounds() {
    let mut server = Server::start().await;
    let short = settings(&server);
    let mut long = short.clone();
    long.shared_settings.bounds.lag = Duration::from_secs(600);
    let (_short, ledger) = connected(short).await;
    let (gone, other) = connected(long).await;
    until("shared", async || shared(&ledger).await.lag == Duration::from_secs(600)).await;
    drop(gone);
    drop(other);
    server.restart().await;
    until("closed", async || {
        let found = ledger.read(&instance(1), None).await;
        found.is_ok_and(|found| {
            found.partition.hold_down_until.since(found.now) > Duration::from_secs(500)
        })
    })
    .await;
}
