//! Change notifications: per instance, inside this process.
//!
//! A notification may come late, twice or for nothing; the record is the truth. None is lost
//! between two waits: a [`ChangeSubscription`] remembers which changes it has seen, not when it
//! waited.

use std::sync::Arc;

use crate::model::InstanceId;
use crate::sync::{WeakMap, watch};

/// Passes change notifications to the subscriptions of their instance. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ChangeNotifier(Arc<WeakMap<InstanceId, watch::Sender<u64>>>);

impl ChangeNotifier {
    /// Subscribes to an instance, from now on until the [`ChangeSubscription`] is dropped.
    #[must_use]
    pub fn subscribe(&self, instance: &InstanceId) -> ChangeSubscription {
        let changes = self.0.of(instance);
        let seen = *changes.borrow();
        ChangeSubscription { changes, seen }
    }

    /// Notifies the subscriptions of this instance.
    pub fn notify(&self, instance: &InstanceId) {
        if let Some(changes) = self.0.get(instance) {
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
        for (_, changes) in self.0.live() {
            changes.send_modify(|count| *count += 1);
        }
    }
}

/// A subscription to the changes of one instance.
#[derive(Debug)]
pub struct ChangeSubscription {
    /// Counts the changes. It has no other owners than the subscriptions.
    changes: Arc<watch::Sender<u64>>,
    seen: u64,
}

impl ChangeSubscription {
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
        assert!(subscription.changed().now_or_never().is_none());
        changes.notify(&id("i-1"));
        changes.notify(&id("i-1"));
        subscription.changed().now_or_never().expect("came before the read");
        assert!(subscription.changed().now_or_never().is_none(), "two notifications, one read");
        changes.notify(&id("i-2"));
        assert!(subscription.changed().now_or_never().is_none(), "about another instance");
        changes.notify_all();
        subscription.changed().now_or_never().expect("notified with all");
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
        assert_eq!(changes.0.live().len(), 1);
        drop(second);
        assert_eq!(changes.0.live().len(), 0);
    }
}
