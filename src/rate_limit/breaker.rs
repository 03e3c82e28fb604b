//! This process's view of a breaker, for reports to the store, which keeps the breaker itself.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;

/// First pause after throttling without `x-acs-retry-after`; doubles each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Maximum pause.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Breaker {
    /// Since when the breaker is known to be open.
    opened: Option<Instant>,
    /// The end of the current pause.
    stopped_until: Option<Instant>,
    /// Number of consecutive trips without `x-acs-retry-after`. A pause that ENS names is no sign
    /// of the length of the others.
    trips: u32,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// Records throttling by ENS. Returns the pause to report, unless one as long is running.
    /// `jitter` is in `0.0..1.0`.
    pub(super) fn trip(
        &mut self,
        now: Instant,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> Option<Duration> {
        let stopped = self.stopped_until.filter(|until| *until > now);
        if stopped.is_some() && retry_after.is_none() {
            // Another call of the same burst has reported it.
            return None;
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.trips.min(5)).min(MAX_BACKOFF);
        let pause = retry_after.unwrap_or_else(|| backoff.mul_f64(1.0 + jitter / 4.0));
        if stopped.is_some_and(|until| until >= now + pause) {
            return None;
        }
        if stopped.is_none() && retry_after.is_none() {
            self.trips = self.trips.saturating_add(1);
        }
        self.opened = Some(now);
        self.stopped_until = Some(now + pause);
        Some(pause)
    }

    /// Records a probe: the breaker is open, on whichever replica it tripped.
    pub(super) fn probe(&mut self, now: Instant) {
        self.opened.get_or_insert(now);
    }

    /// Records a success. Returns whether it closes the breaker. A call whose permit is older than
    /// the trip proves nothing.
    pub(super) fn record_passed(&mut self, taken: Instant, probe: bool) -> bool {
        let closes = self.opened.is_some_and(|opened| probe || taken > opened);
        if closes {
            *self = Self::default();
        }
        closes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_pauses_that_ens_does_not_name_double() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        let mut trip = |retry_after: Option<Duration>| {
            now += Duration::from_secs(60);
            breaker.trip(now, retry_after, 0.0).map(|pause| pause.as_millis())
        };
        for _ in 0..8 {
            assert_eq!(trip(Some(Duration::from_millis(500))), Some(500));
        }
        assert_eq!(trip(None), Some(1_000));
        assert_eq!(trip(Some(Duration::from_millis(500))), Some(500));
        assert_eq!(trip(None), Some(2_000));
    }
}
