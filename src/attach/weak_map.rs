//! Values that live as long as they are used, one for each key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Shares one `V` among all who use the same key at the same time.
pub(super) struct WeakMap<K, V>(Mutex<BTreeMap<K, Weak<V>>>);

impl<K, V> Default for WeakMap<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, V: Default> WeakMap<K, V> {
    /// The value of this key: the one in use, or else a new one.
    pub(super) fn of(&self, key: &K) -> Arc<V> {
        // Every critical section leaves the map whole.
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(key).and_then(Weak::upgrade) {
            return value;
        }
        values.retain(|_, value| value.strong_count() > 0);
        let value = Arc::new(V::default());
        values.insert(key.clone(), Arc::downgrade(&value));
        value
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
        assert!(map.0.lock().unwrap().len() <= 2, "what is unused is gone");
    }
}
