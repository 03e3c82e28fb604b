//! What this process knows of a breaker: enough to report to the store, which keeps the breaker itself. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// First pause after throttling without `x-acs-retry-after`; doubles with every further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest such pause.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Breaker {
    /// Since when it is known to be open.
    opened: Option<Instant>,
    /// Until when everybody stops.
    stopped_until: Option<Instant>,
    /// How often it was tripped in a row.
    trips: u32,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// ENS throttled. How long everybody is to stop, unless a stop as long as that is under way; `jitter` is in `0.0..1.0`.
    pub(super) fn trip(&mut self, now: Instant, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
        let stopped = self.stopped_until.filter(|until| *until > now);
        if stopped.is_some() && retry_after.is_none() {
            // Another call of the same burst said so already.
            return None;
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.trips.min(5)).min(MAX_BACKOFF);
        let pause = retry_after.unwrap_or_else(|| backoff.mul_f64(1.0 + jitter / 4.0));
        if stopped.is_some_and(|until| until >= now + pause) {
            return None;
        }
        if stopped.is_none() {
            self.trips = self.trips.saturating_add(1);
        }
        self.opened = Some(now);
        self.stopped_until = Some(now + pause);
        Some(pause)
    }

    /// The store granted a probe: the breaker is open, whichever replica opened it.
    pub(super) fn probe(&mut self, now: Instant) {
        self.opened.get_or_insert(now);
    }

    /// A call whose permit was taken at `taken` passed: whether that closes the breaker. One that began before it opened proves
    /// nothing about it.
    pub(super) fn passed(&mut self, taken: Instant, probe: bool) -> bool {
        let closes = self.opened.is_some_and(|opened| probe || taken > opened);
        if closes {
            *self = Self::default();
        }
        closes
    }
}
