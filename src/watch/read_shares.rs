//! Shares of the reads' describes. A peer that reads many unknown instances leaves describes to the
//! others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::admission::Holder;

/// Number of peers above which those without describes are forgotten.
const MANY: usize = 1024;

/// What the peers use.
#[derive(Debug)]
pub(super) struct ReadShares {
    /// Maximum for one peer, in describes a second.
    rate: f64,
    used: Mutex<BTreeMap<Holder, Usage>>,
}

/// Describes that leak away at the rate.
#[derive(Debug, Clone, Copy)]
struct Usage {
    level: f64,
    at: Instant,
}

impl ReadShares {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, used: Mutex::default() }
    }

    /// Whether the peer may have another describe.
    pub(super) fn has_room(&self, peer: &Holder) -> bool {
        let level = self.lock().get(peer).map_or(0.0, |usage| self.level(usage, Instant::now()));
        level + 1.0 <= self.rate.max(1.0)
    }

    /// Counts a describe of the peer.
    pub(super) fn count(&self, peer: Holder) {
        let (now, mut used) = (Instant::now(), self.lock());
        if used.len() > MANY {
            used.retain(|_, usage| self.level(usage, now) > 0.0);
        }
        let usage = used.entry(peer).or_insert(Usage { level: 0.0, at: now });
        *usage = Usage { level: self.level(usage, now) + 1.0, at: now };
    }

    fn level(&self, usage: &Usage, now: Instant) -> f64 {
        (usage.level - (now - usage.at).as_secs_f64() * self.rate).max(0.0)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Holder, Usage>> {
        // Counting cannot panic half-way.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(number: u8) -> Holder {
        Holder::Caller([number; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn each_peer_has_its_rate() {
        let shares = ReadShares::new(2.0);
        shares.count(peer(1));
        assert!(shares.has_room(&peer(1)));
        shares.count(peer(1));
        assert!(!shares.has_room(&peer(1)) && shares.has_room(&peer(2)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(shares.has_room(&peer(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_rate_has_one_at_once() {
        let shares = ReadShares::new(0.1);
        assert!(shares.has_room(&peer(1)));
        shares.count(peer(1));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(!shares.has_room(&peer(1)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(shares.has_room(&peer(1)));
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
