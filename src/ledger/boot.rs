//! This machine's clock, including the time during which the machine was suspended.
//!
//! Rust's and tokio's `Instant` do not advance while a virtual machine is suspended or migrated.
//! The ledger's clock and its leases do. Leases and the age of responses are therefore measured
//! here. Otherwise the clock is tokio's, paused or not.

use std::ops::Add;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A time of a clock that neither stops nor jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Instant);

impl BootInstant {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(Instant::now() + suspended())
    }

    /// Time since then. Zero if it is in the future.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Time from `earlier` to this time. Zero if it was not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

/// Smallest difference that counts as a suspension. Less is the time between two readings: a
/// simulation must replay.
const GRAIN: Duration = Duration::from_millis(10);
/// How often the clocks are read to get two readings at nearly the same time.
const READINGS: usize = 8;

/// Time for which this machine was suspended since the first call of this function.
fn suspended() -> Duration {
    static FIRST: OnceLock<Duration> = OnceLock::new();
    /// In microseconds. It never decreases.
    static SUSPENDED: AtomicU64 = AtomicU64::new(0);
    let Some(ahead) = ahead() else {
        return Duration::ZERO;
    };
    let measured = ahead.saturating_sub(*FIRST.get_or_init(|| ahead));
    let known = Duration::from_micros(SUSPENDED.load(Ordering::Relaxed));
    let suspended = if measured > known + GRAIN { measured } else { known };
    let micros = u64::try_from(suspended.as_micros()).unwrap_or(u64::MAX);
    let before = SUSPENDED.fetch_max(micros, Ordering::Relaxed);
    Duration::from_micros(before.max(micros)) + pretended()
}

/// Lead of the clock that counts suspensions over the one that does not. `None` if the platform has
/// no such clock.
#[cfg(target_os = "linux")]
fn ahead() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).ok();
    let mut best = None;
    for _ in 0..READINGS {
        let before = read(ClockId::Monotonic)?;
        let boot = read(ClockId::Boottime)?;
        let after = read(ClockId::Monotonic)?;
        // Time that passed between two readings is not counted.
        best = best.max(Some(boot.saturating_sub(after)));
        if after.saturating_sub(before) < GRAIN / 10 {
            break;
        }
    }
    best
}

#[cfg(not(target_os = "linux"))]
fn ahead() -> Option<Duration> {
    None
}

#[cfg(not(test))]
fn pretended() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
use pretend::pretended;
#[cfg(test)]
pub(crate) use pretend::suspend;

#[cfg(test)]
mod pretend {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        static PRETENDED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Simulates a suspension of this length, for this thread only.
    pub(crate) fn suspend(time: Duration) {
        PRETENDED.set(PRETENDED.get() + time);
    }

    pub(super) fn pretended() -> Duration {
        PRETENDED.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_is_tokios_clock_and_counts_suspensions() {
        let began = BootInstant::now();
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::advance(MINUTE).await;
        assert_eq!(began.elapsed(), MINUTE);
        suspend(MINUTE);
        assert_eq!(began.elapsed(), 2 * MINUTE);
        assert!(BootInstant::now() > began + MINUTE && (began + MINUTE).since(began) == MINUTE);
        assert_eq!((began + 3 * MINUTE).elapsed(), Duration::ZERO);
    }

    #[test]
    fn what_passes_between_two_readings_is_no_suspension() {
        for _ in 0..10_000 {
            assert_eq!(suspended(), Duration::ZERO);
        }
    }
}
