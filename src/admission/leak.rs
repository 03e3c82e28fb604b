//! A rate of one party: what it used leaks away at the rate, and a second's worth may come at once.

use std::time::Duration;

use tokio::time::Instant;

/// What the party used lately.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leak {
    level: f64,
    at: Instant,
}

impl Leak {
    /// Nothing used.
    pub(crate) fn new(now: Instant) -> Self {
        Self { level: 0.0, at: now }
    }

    /// The time until one more fits into this rate a second; zero if it does now.
    pub(crate) fn wait(&self, rate: f64, now: Instant) -> Duration {
        let excess = self.level(rate, now) + 1.0 - rate.max(1.0);
        Duration::try_from_secs_f64(excess.max(0.0) / rate).unwrap_or(Duration::MAX)
    }

    /// Counts one.
    pub(crate) fn count(&mut self, rate: f64, now: Instant) {
        *self = Self { level: self.level(rate, now) + 1.0, at: now };
    }

    /// Whether all has leaked away: forgetting it changes nothing.
    pub(crate) fn is_empty(&self, rate: f64, now: Instant) -> bool {
        self.level(rate, now) <= 0.0
    }

    fn level(&self, rate: f64, now: Instant) -> f64 {
        (self.level - (now - self.at).as_secs_f64() * rate).max(0.0)
    }
}
