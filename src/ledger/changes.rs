//! Changes: what a store lists of them, and notifications inside this process, of an instance or of
//! a partition.
//!
//! A notification may come late, twice or for nothing; the record is the truth. None is lost
//! between two waits: a [`ChangeSubscription`] remembers which changes it has seen, not when it
//! waited.

use std::sync::Arc;

use crate::model::{InstanceId, Position};
use crate::sync::{WeakMap, watch};

use super::partition::{Partition, PartitionId};

/// Instances of one partition that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedInstances {
    /// The state of the partition. Positions of another epoch are void.
    pub partition: Partition,
    /// The position of the last change in the partition.
    pub last: Position,
    /// The instances, by the position of their last change.
    pub instances: Vec<(Position, InstanceId)>,
}

/// Passes change notifications to the subscriptions of their instance and of its partition. Clones
/// share them.
#[derive(Clone, Debug, Default)]
pub struct ChangeNotifier(Arc<Subscribed>);

#[derive(Debug, Default)]
struct Subscribed {
    instances: WeakMap<InstanceId, watch::Sender<u64>>,
    partitions: WeakMap<PartitionId, watch::Sender<u64>>,
}

impl ChangeNotifier {
    /// Subscribes to an instance, from now on until the [`ChangeSubscription`] is dropped.
    #[must_use]
    pub fn subscribe(&self, instance: &InstanceId) -> ChangeSubscription {
        ChangeSubscription::new(self.0.instances.of(instance))
    }

    /// Subscribes to the instances of a partition, likewise.
    #[must_use]
    pub fn subscribe_partition(&self, partition: PartitionId) -> ChangeSubscription {
        ChangeSubscription::new(self.0.partitions.of(&partition))
    }

    /// Notifies the subscriptions of this instance.
    pub fn notify(&self, instance: &InstanceId) {
        let of_instance = self.0.instances.get(instance);
        let of_partition = self.0.partitions.get(&PartitionId::of(instance));
        for changes in of_instance.into_iter().chain(of_partition) {
            changes.send_modify(|count| *count += 1);
        }
    }

    /// As [`ChangeNotifier::notify`], for an id off the wire. What is not an id has no
    /// subscription.
    pub(super) fn notify_text(&self, instance: &str) {
        if let Ok(instance) = instance.parse() {
            self.notify(&instance);
        }
    }

    /// Notifies every subscription, because notifications may have been missed.
    pub fn notify_all(&self) {
        let instances = self.0.instances.live().into_iter().map(|(_, changes)| changes);
        let partitions = self.0.partitions.live().into_iter().map(|(_, changes)| changes);
        for changes in instances.chain(partitions) {
            changes.send_modify(|count| *count += 1);
        }
    }
}

/// A subscription to the changes of one instance or partition.
#[derive(Debug)]
pub struct ChangeSubscription {
    /// Counts the changes. It has no other owners than the subscriptions.
    changes: Arc<watch::Sender<u64>>,
    seen: u64,
}

impl ChangeSubscription {
    fn new(changes: Arc<watch::Sender<u64>>) -> Self {
        let seen = *changes.borrow();
        Self { changes, seen }
    }

    /// Resolves when a change came since this resolved last, or since the subscription. Safe to
    /// cancel.
    pub async fn changed(&mut self) {
        let newer = self.changes.subscribe();
        // The sender lives as long as the subscription.
        if let Ok(seen) = newer.wait_for(|count| *count != self.seen).await {
            self.seen = seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_notification_between_two_reads_is_not_lost() {
        let changes = ChangeNotifier::default();
        let mut subscription = changes.subscribe(&id("i-1"));
        let mut partition = changes.subscribe_partition(PartitionId::of(&id("i-1")));
        assert!(subscription.changed().now_or_never().is_none());
        changes.notify(&id("i-1"));
        changes.notify(&id("i-1"));
        subscription.changed().now_or_never().expect("came before the read");
        assert!(subscription.changed().now_or_never().is_none(), "two notifications, one read");
        partition.changed().now_or_never().expect("an instance of it changed");
        changes.notify(&id("i-2"));
        assert!(partition.changed().now_or_never().is_none(), "about another partition");
        assert!(subscription.changed().now_or_never().is_none(), "about another instance");
        changes.notify_all();
        subscription.changed().now_or_never().expect("notified with all");
        partition.changed().now_or_never().expect("notified with all");
    }

    #[tokio::test]
    async fn every_subscription_is_notified_and_the_last_one_clears_up() {
        let changes = ChangeNotifier::default();
        let (mut first, mut second) =
            (changes.subscribe(&id("i-1")), changes.subscribe(&id("i-1")));
        changes.notify(&id("i-1"));
        first.changed().now_or_never().expect("first");
        drop(first);
        second.changed().now_or_never().expect("second");
        assert_eq!(changes.0.instances.live().len(), 1);
        drop(second);
        assert_eq!(changes.0.instances.live().len(), 0);
    }
}
