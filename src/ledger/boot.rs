//! This machine's clock, with the time in which the machine was suspended.
//!
//! Rust's and tokio's `Instant` stand still while a virtual machine is suspended or migrated; the ledger's clock and its leases
//! do not. So leases and the age of answers are counted here. The rest of the time it is tokio's clock, paused or not.

use std::ops::Add;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A moment by a clock that neither stands still nor jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Instant);

impl BootInstant {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(Instant::now() + suspended())
    }

    /// How long ago it was; zero if it is yet to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// The time from `earlier` until this moment; zero if it was not earlier.
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

/// What is less than this is taken for the time between two readings, and not for a suspension: a simulation must replay.
const GRAIN: Duration = Duration::from_millis(10);
/// How often the clocks are read to have them read at nearly one moment.
const READINGS: usize = 8;

/// How long this machine was suspended since this was asked first.
fn suspended() -> Duration {
    static FIRST: OnceLock<Duration> = OnceLock::new();
    /// In microseconds. It never falls.
    static SUSPENDED: AtomicU64 = AtomicU64::new(0);
    let Some(ahead) = ahead() else { return Duration::ZERO };
    let measured = ahead.saturating_sub(*FIRST.get_or_init(|| ahead));
    let known = Duration::from_micros(SUSPENDED.load(Ordering::Relaxed));
    let suspended = if measured > known + GRAIN { measured } else { known };
    let micros = u64::try_from(suspended.as_micros()).unwrap_or(u64::MAX);
    let before = SUSPENDED.fetch_max(micros, Ordering::Relaxed);
    Duration::from_micros(before.max(micros)) + pretended()
}

/// How far the clock that counts suspensions is ahead of the one that does not; `None` where there is none.
#[cfg(target_os = "linux")]
fn ahead() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).ok();
    let mut best = None;
    for _ in 0..READINGS {
        let before = read(ClockId::Monotonic)?;
        let boot = read(ClockId::Boottime)?;
        let after = read(ClockId::Monotonic)?;
        // Whatever passed between two readings is not counted.
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

    /// As if the machine had just been suspended for so long, as far as this thread sees.
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
