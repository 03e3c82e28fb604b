//! Numbers by their holder.

use std::collections::BTreeMap;

/// Number of places or calls by their holder; holders of none are left out.
#[derive(Debug)]
pub(super) struct Counts<K>(BTreeMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Counts<K> {
    pub(super) fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, key: K, number: usize) {
        *self.0.entry(key).or_default() += number;
    }

    pub(super) fn remove(&mut self, key: &K, number: usize) {
        if let Some(count) = self.0.get_mut(key) {
            *count = count.saturating_sub(number);
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}
