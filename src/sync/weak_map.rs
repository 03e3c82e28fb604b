//! Values that live as long as they are used, one for each key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Shares one `V` among all concurrent users of a key.
///
/// Keys of unused values are removed when the map has doubled, so insertion is O(1) amortized.
#[derive(Debug)]
pub struct WeakMap<K, V> {
    values: Mutex<BTreeMap<K, Weak<V>>>,
    sweep_at: AtomicUsize,
}

impl<K, V> Default for WeakMap<K, V> {
    fn default() -> Self {
        Self { values: Mutex::default(), sweep_at: AtomicUsize::new(1) }
    }
}

impl<K: Ord + Clone, V> WeakMap<K, V> {
    /// The value of this key: the one in use, or else a default one.
    pub fn of(&self, key: &K) -> Arc<V>
    where
        V: Default,
    {
        self.of_with(key, V::default)
    }

    /// The value of this key: the one in use, or else what `make` returns.
    pub fn of_with(&self, key: &K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut values = self.lock();
        if let Some(value) = values.get(key).and_then(Weak::upgrade) {
            return value;
        }
        if values.len() >= self.sweep_at.load(Ordering::Relaxed) {
            values.retain(|_, value| value.strong_count() > 0);
            self.sweep_at.store(values.len().max(1) * 2, Ordering::Relaxed);
        }
        let value = Arc::new(make());
        values.insert(key.clone(), Arc::downgrade(&value));
        value
    }

    /// The value of this key, if one is in use.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.lock().get(key).and_then(Weak::upgrade)
    }

    /// The values in use, in the order of their keys.
    pub fn live(&self) -> Vec<(K, Arc<V>)> {
        let values = self.lock();
        let live = values.iter().filter_map(|(key, value)| Some((key.clone(), value.upgrade()?)));
        live.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Weak<V>>> {
        // No critical section leaves the map inconsistent.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shared_while_it_is_used() {
        let map = WeakMap::<u8, Mutex<u8>>::default();
        let (one, other) = (map.of(&1), map.of(&2));
        *one.lock().unwrap() = 7;
        assert_eq!(*map.of(&1).lock().unwrap(), 7);
        assert_eq!(*other.lock().unwrap(), 0);
        drop(one);
        assert_eq!(*map.of(&1).lock().unwrap(), 0, "a new one");
        drop(map.of(&3));
        drop(map.of(&4));
        assert!(map.lock().len() <= 2, "what is unused is gone");
        assert!(map.get(&4).is_none());
        assert_eq!(map.live().len(), 1);
    }
}
