//! Shares of the reads' describes. A peer that reads many unknown instances leaves describes to the
//! others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::{Holder, Leak};

/// Number of peers above which those without describes are forgotten.
const MANY: usize = 1024;

/// What the peers use.
#[derive(Debug)]
pub(super) struct ReadShares {
    /// Maximum for one peer, in describes a second.
    rate: f64,
    used: Mutex<BTreeMap<Holder, Leak>>,
}

impl ReadShares {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, used: Mutex::default() }
    }

    /// The time until the peer may have another describe; zero if it may now.
    pub(super) fn wait(&self, peer: &Holder) -> Duration {
        let wait = |used: &Leak| used.wait(self.rate, Instant::now());
        self.lock().get(peer).map_or(Duration::ZERO, wait)
    }

    /// Counts a describe of the peer.
    pub(super) fn count(&self, peer: Holder) {
        let (now, mut used) = (Instant::now(), self.lock());
        if used.len() > MANY {
            used.retain(|_, used| !used.is_empty(self.rate, now));
        }
        used.entry(peer).or_insert_with(|| Leak::new(now)).count(self.rate, now);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Holder, Leak>> {
        // Counting cannot panic half-way.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> Holder {
        Holder::Caller([number; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn each_peer_has_its_rate() {
        let shares = ReadShares::new(2.0);
        shares.count(peer(1));
        assert!(shares.wait(&peer(1)).is_zero());
        shares.count(peer(1));
        assert!(shares.wait(&peer(2)).is_zero());
        let wait = shares.wait(&peer(1));
        assert_eq!(wait, Duration::from_millis(500));
        tokio::time::advance(wait).await;
        assert!(shares.wait(&peer(1)).is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_rate_has_one_at_once() {
        let shares = ReadShares::new(0.1);
        assert!(shares.wait(&peer(1)).is_zero());
        shares.count(peer(1));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(!shares.wait(&peer(1)).is_zero());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(shares.wait(&peer(1)).is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn peers_without_describes_are_forgotten() {
        let shares = ReadShares::new(1.0);
        for number in 0..=MANY {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&number.to_be_bytes());
            shares.count(Holder::Caller(name));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        shares.count(peer(255));
        assert_eq!(shares.lock().len(), 1);
    }
}
