//! A map whose entries expire, as keys in Redis do.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Timestamp;

/// Entries expire exactly at their time. The next [`Expiring::set`] removes expired entries.
#[derive(Debug, Clone)]
pub(super) struct Expiring<K, V> {
    entries: BTreeMap<K, (V, Option<Timestamp>)>,
    ends: BTreeSet<(Timestamp, K)>,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), ends: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> Expiring<K, V> {
    pub(super) fn get(&self, key: &K, now: Timestamp) -> Option<&V> {
        let (value, end) = self.entries.get(key)?;
        end.is_none_or(|end| end > now).then_some(value)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some((_, Some(end))) = self.entries.remove(key) {
            self.ends.remove(&(end, key.clone()));
        }
    }

    /// Sets an entry and its end. `None` means without end.
    pub(super) fn set(&mut self, key: K, value: V, end: Option<Timestamp>, now: Timestamp) {
        self.remove(&key);
        self.ends.extend(end.map(|end| (end, key.clone())));
        self.entries.insert(key, (value, end));
        while let Some((_, key)) = self.ends.first().filter(|(end, _)| *end <= now).cloned() {
            self.ends.pop_first();
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_gone_and_cleared_away() {
        let at = Timestamp::from_micros;
        let mut map = Expiring::default();
        map.set("a", 1, Some(at(10)), at(0));
        map.set("b", 2, Some(at(10)), at(0));
        map.set("b", 3, None, at(5));
        assert_eq!((map.get(&"a", at(9)), map.get(&"a", at(10))), (Some(&1), None));
        map.set("c", 4, Some(at(30)), at(20));
        assert_eq!(map.entries.keys().collect::<Vec<_>>(), [&"b", &"c"]);
        assert_eq!(map.get(&"b", at(1_000)), Some(&3));
        assert_eq!(map.ends.len(), 1);
        map.remove(&"c");
        assert_eq!((map.get(&"c", at(20)), map.ends.len()), (None, 0));
    }
}
