//! What was noted in the present period, such as the kinds of lines that were logged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time for which a key is noted.
const PERIOD: Duration = Duration::from_secs(10);
/// Maximum number of keys in one period. Further ones are never first.
const MAX_KEYS: usize = 32;

/// The keys of this period, which has ten seconds.
#[derive(Debug)]
pub struct OncePerPeriod<K>(Mutex<Option<(Instant, BTreeSet<K>)>>);

impl<K> Default for OncePerPeriod<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> OncePerPeriod<K> {
    /// Whether the key is new in this period, and among the first 32.
    pub fn is_first(&self, key: K) -> bool {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let current = period.take().filter(|(since, _)| now.duration_since(*since) < PERIOD);
        let (_, keys) = period.insert(current.unwrap_or_else(|| (now, BTreeSet::new())));
        keys.len() < MAX_KEYS && keys.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_first_once_in_a_period() {
        let keys = OncePerPeriod::default();
        assert_eq!(["a", "a", "b"].map(|key| keys.is_first(key)), [true, false, true]);
        tokio::time::advance(PERIOD).await;
        assert!(keys.is_first("a"));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let keys = OncePerPeriod::default();
        assert_eq!((0..1000).filter(|number| keys.is_first(*number)).count(), MAX_KEYS);
    }
}
