//! Change notifications.

use std::time::Duration;

use eni_gateway::ledger::{ChangeSubscription, Effects, LedgerStore};

use super::{instance, put, record};

async fn heard(hint: &mut ChangeSubscription) -> bool {
    tokio::time::timeout(Duration::from_secs(60), hint.changed()).await.is_ok()
}

fn notice() -> Effects {
    Effects { notify: true, ..Effects::default() }
}

pub(crate) async fn a_commit_with_notice_is_heard_everywhere(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    // In different partitions.
    for number in [1, 2, 5] {
        let id = instance(number);
        let (mut here, mut there) = (one.changes().subscribe(&id), other.changes().subscribe(&id));
        put(one, &id, record(1), notice()).await;
        assert!(heard(&mut here).await && heard(&mut there).await);
        put(other, &id, record(2), notice()).await;
        assert!(heard(&mut here).await && heard(&mut there).await);
    }
}

pub(crate) async fn a_commit_without_notice_is_not_heard(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let id = instance(1);
    let mut hint = other.changes().subscribe(&id);
    put(one, &id, record(1), Effects::default()).await;
    put(one, &instance(2), record(1), notice()).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), hint.changed()).await.is_err());
    put(one, &id, record(2), notice()).await;
    assert!(heard(&mut hint).await);
}
