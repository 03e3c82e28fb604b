//! "Look again": per instance, inside this process. A hint may come late, twice or for nothing; the record is the truth.
//! What must not happen is that one is lost between two looks: a [`ChangeSubscription`] remembers what it has seen, not when it waited.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::InstanceId;

/// Who listens for what. Clones share their subscribers.
#[derive(Clone, Debug, Default)]
pub struct ChangeNotifier {
    topics: Arc<Mutex<BTreeMap<Box<str>, Topic>>>,
}

#[derive(Debug, Default)]
struct Topic {
    count: Arc<Count>,
    subscribers: usize,
}

/// Counts hints: a subscriber is behind when it has seen another number. Who waited first is woken first.
#[derive(Debug, Default)]
struct Count {
    changes: AtomicU64,
    risen: Notify,
}

impl Count {
    fn rise(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.risen.notify_waiters();
    }

    fn now(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

impl ChangeNotifier {
    /// Listens for hints about an instance, from now on until the [`ChangeSubscription`] is dropped.
    #[must_use]
    pub fn subscribe(&self, instance: &InstanceId) -> ChangeSubscription {
        let mut topics = self.lock();
        let topic = topics.entry(instance.as_str().into()).or_default();
        topic.subscribers += 1;
        ChangeSubscription {
            instance: instance.clone(),
            seen: topic.count.now(),
            count: topic.count.clone(),
            changes: self.clone(),
        }
    }

    /// Tells those who listen for this instance.
    pub fn notify(&self, instance: &InstanceId) {
        self.notify_text(instance.as_str());
    }

    /// As [`ChangeNotifier::notify`], for an id off the wire: one that nobody listens for costs a look-up.
    pub(super) fn notify_text(&self, instance: &str) {
        if let Some(topic) = self.lock().get(instance) {
            topic.count.rise();
        }
    }

    /// Tells everybody: hints may have been missed.
    pub fn notify_all(&self) {
        for topic in self.lock().values() {
            topic.count.rise();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Topic>> {
        // Every critical section leaves the map whole.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscription to the hints about one instance.
#[derive(Debug)]
pub struct ChangeSubscription {
    instance: InstanceId,
    seen: u64,
    count: Arc<Count>,
    changes: ChangeNotifier,
}

impl ChangeSubscription {
    /// Resolves when a hint came since the last time this resolved, or since the subscription. Safe to cancel.
    pub async fn changed(&mut self) {
        loop {
            let risen = self.count.risen.notified();
            tokio::pin!(risen);
            // A hint between the look and the wait is not missed.
            risen.as_mut().enable();
            let now = self.count.now();
            if now != self.seen {
                self.seen = now;
                return;
            }
            risen.await;
        }
    }
}

impl Drop for ChangeSubscription {
    fn drop(&mut self) {
        let mut topics = self.changes.lock();
        if let Some(topic) = topics.get_mut(self.instance.as_str()) {
            topic.subscribers -= 1;
            if topic.subscribers == 0 {
                topics.remove(self.instance.as_str());
            }
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
    async fn a_hint_between_two_looks_is_not_lost() {
        let changes = ChangeNotifier::default();
        let mut hint = changes.subscribe(&id("i-1"));
        assert!(hint.changed().now_or_never().is_none());
        changes.notify(&id("i-1"));
        changes.notify(&id("i-1"));
        hint.changed().now_or_never().expect("came before the look");
        assert!(hint.changed().now_or_never().is_none(), "two hints, one look");
        changes.notify(&id("i-2"));
        assert!(hint.changed().now_or_never().is_none(), "about another instance");
        changes.notify_all();
        hint.changed().now_or_never().expect("told with everybody");
    }

    #[tokio::test]
    async fn every_subscriber_is_told_and_the_last_one_clears_up() {
        let changes = ChangeNotifier::default();
        let (mut first, mut second) = (changes.subscribe(&id("i-1")), changes.subscribe(&id("i-1")));
        changes.notify(&id("i-1"));
        first.changed().now_or_never().expect("first");
        drop(first);
        second.changed().now_or_never().expect("second");
        assert_eq!(changes.lock().len(), 1);
        drop(second);
        assert_eq!(changes.lock().len(), 0);
    }
}
