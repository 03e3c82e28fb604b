//! The offset of this machine's clock from ENS's, from the `Date` header of ENS's answers.
//!
//! The header has a resolution of one second, and its time lies between send and answer. So each
//! answer bounds the offset from both sides. Only a range wholly outside the tolerance counts as
//! off, so a slow answer is no offset.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Maximum offset at which requests are sent.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// Minimum interval between requests that only check the clock.
const RECHECK_AFTER: Duration = Duration::from_secs(5);

/// This machine's wall clock.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl WallClock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// The known offset.
#[derive(Debug, Default)]
pub(super) struct Offset {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How far ENS's clock is ahead, if that exceeds the tolerance.
    off: Option<SignedDuration>,
    rechecked: Option<Instant>,
}

impl Offset {
    /// Learns from an answer with `date` (cut to the second), sent and answered at these local
    /// times.
    pub(super) fn learn(&self, date: Timestamp, sent: Timestamp, answered: Timestamp) {
        let least = date.duration_since(answered);
        let most = date.duration_since(sent) + SignedDuration::from_secs(1);
        let mut state = self.state();
        if least > TOLERANCE {
            state.off = Some(least);
        } else if most < -TOLERANCE {
            state.off = Some(most);
        } else if least >= -TOLERANCE && most <= TOLERANCE {
            state.off = None;
        }
        // Otherwise the known offset stays.
    }

    /// How far ENS's clock is ahead (negative: behind), if that exceeds the tolerance.
    pub(super) fn off(&self) -> Option<SignedDuration> {
        self.state().off
    }

    /// Whether this caller shall check the clock again.
    pub(super) fn may_recheck(&self) -> bool {
        let mut state = self.state();
        let due = state.rechecked.is_none_or(|at| at.elapsed() >= RECHECK_AFTER);
        if due {
            state.rechecked = Some(Instant::now());
        }
        due
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: i64 = 1_800_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(SENT + millis).expect("a time")
    }

    /// An answer after `latency` ms, written half-way by a clock that is `ahead` ms ahead.
    fn answer(offset: &Offset, ahead: i64, latency: i64) {
        let date = at(latency / 2 + ahead).as_second();
        offset.learn(Timestamp::from_second(date).expect("a time"), at(0), at(latency));
    }

    #[test]
    fn only_what_is_surely_off_counts() {
        for (ahead, latency, off) in [
            (0, 20, false),
            (4_000, 20, false),
            (-4_000, 20, false),
            (5_500, 2_000, false),
            (-5_500, 2_000, false),
            (7_000, 20, true),
            (-7_000, 20, true),
            (3_600_000, 3_000, true),
            (-3_600_000, 3_000, true),
        ] {
            let offset = Offset::default();
            answer(&offset, ahead, latency);
            assert_eq!(offset.off().is_some(), off, "{ahead} ms ahead, {latency} ms");
        }
    }

    #[test]
    fn a_newer_answer_clears_it_and_a_vague_one_does_not() {
        let offset = Offset::default();
        answer(&offset, 60_000, 20);
        assert!(offset.off().is_some_and(|off| off > SignedDuration::from_secs(58)));
        answer(&offset, 0, 14_000);
        assert!(offset.off().is_some(), "an answer that took 14 s says nothing");
        answer(&offset, 0, 20);
        assert_eq!(offset.off(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_asks_again() {
        let offset = Offset::default();
        assert!(offset.may_recheck());
        assert!(!offset.may_recheck());
        tokio::time::advance(RECHECK_AFTER).await;
        assert!(offset.may_recheck());
    }
}
