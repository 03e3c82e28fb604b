//! Change notifications, and the lists of changed instances.

use std::time::Duration;

use eni_gateway::ledger::keys::PartitionId;
use eni_gateway::ledger::{ChangeSubscription, ChangedInstances, Effects, LedgerStore};
use eni_gateway::model::{InstanceId, Position};

use super::{instance, put, record, until};

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

/// Instances of one partition.
fn neighbours() -> (PartitionId, Vec<InstanceId>) {
    let partition = PartitionId::of(&instance(1));
    let of_it = (1..).map(instance).filter(|id| PartitionId::of(id) == partition);
    (partition, of_it.take(4).collect())
}

fn listed(changed: &ChangedInstances) -> Vec<&InstanceId> {
    assert!(changed.instances.is_sorted(), "{changed:?}");
    changed.instances.iter().map(|(_, instance)| instance).collect()
}

pub(crate) async fn changed_instances_are_listed_in_the_order_of_their_last_changes(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let (partition, ids) = neighbours();
    let (a, b, c) = (&ids[0], &ids[1], &ids[2]);
    let start = Position::default();
    let empty = one.changed_since(partition, start, 9).await.unwrap();
    assert_eq!((empty.last, empty.instances.len()), (start, 0));
    put(one, a, record(1), notice()).await;
    put(other, b, record(1), notice()).await;
    // New to the list, although nothing that callers see changed.
    put(one, c, record(1), Effects::default()).await;
    let all = other.changed_since(partition, start, 9).await.unwrap();
    assert_eq!(listed(&all), [a, b, c]);
    assert_eq!(all.last, all.instances[2].0);
    assert_eq!(all.partition, one.read(a, None).await.unwrap().partition);
    let page = one.changed_since(partition, start, 2).await.unwrap();
    assert_eq!(listed(&page), [a, b]);
    let rest = one.changed_since(partition, page.instances[1].0, 1).await.unwrap();
    assert_eq!(listed(&rest), [c]);

    put(one, b, record(2), Effects::default()).await;
    assert_eq!(one.changed_since(partition, start, 9).await.unwrap(), all, "none to see");
    put(one, b, record(3), notice()).await;
    put(other, a, record(2), notice()).await;
    let moved = one.changed_since(partition, all.last, 9).await.unwrap();
    assert_eq!(listed(&moved), [b, a]);
    assert_eq!(listed(&one.changed_since(partition, start, 9).await.unwrap()), [c, b, a]);
    assert!(one.changed_since(partition, moved.last, 9).await.unwrap().instances.is_empty());
}

pub(crate) async fn an_instance_without_a_record_is_listed_no_longer(
    one: &impl LedgerStore,
    _other: &impl LedgerStore,
) {
    let (partition, ids) = neighbours();
    let brief = Effects { expire_after: Some(Duration::from_millis(1)), ..notice() };
    for id in &ids[..3] {
        put(one, id, record(1), brief.clone()).await;
    }
    until("expired", async || {
        put(one, &ids[3], record(1), notice()).await;
        let changed = one.changed_since(partition, Position::default(), 9).await.unwrap();
        listed(&changed) == [&ids[3]]
    })
    .await;
}
