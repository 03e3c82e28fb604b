//! Queues that are served in turn.

use std::collections::{BTreeMap, VecDeque};

/// A queue for each key that has one. A key that comes first waits for one turn of all others.
#[derive(Debug)]
pub(super) struct RoundRobin<K, Q> {
    order: VecDeque<K>,
    queues: BTreeMap<K, Q>,
}

impl<K, Q> Default for RoundRobin<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: BTreeMap::new() }
    }
}

impl<K: Ord + Copy, Q: Default> RoundRobin<K, Q> {
    /// The queue of this key.
    pub(super) fn of(&mut self, key: K) -> &mut Q {
        let order = &mut self.order;
        self.queues.entry(key).or_insert_with(|| {
            order.push_back(key);
            Q::default()
        })
    }

    /// All queues.
    pub(super) fn queues(&mut self) -> impl Iterator<Item = &mut Q> {
        self.queues.values_mut()
    }

    /// The item that `take` returns for the queue whose turn it is. `take` also returns whether the
    /// queue is then empty; such a queue is removed.
    pub(super) fn next<T>(
        &mut self,
        mut take: impl FnMut(&mut Q) -> (Option<T>, bool),
    ) -> Option<T> {
        loop {
            let key = self.order.pop_front()?;
            let (found, is_empty) = self.queues.get_mut(&key).map_or((None, true), &mut take);
            if is_empty {
                self.queues.remove(&key);
            } else {
                self.order.push_back(key);
            }
            if found.is_some() {
                return found;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}
