//! What surrounds the world: keys, rate limits, the clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::action::Action;
use super::auth::AccessKey;
use super::throttle::Rate;

/// How the simulator is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys it knows; the documented default key.
    pub keys: Vec<AccessKey>,
    /// Rate limits; none.
    pub rates: BTreeMap<Action, Rate>,
    /// Whether a throttled call is told when to come back (yes).
    pub retry_after: bool,
    /// How far ENS's clock is ahead of this machine's (0).
    pub clock_ahead: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: vec![AccessKey::default()],
            rates: BTreeMap::new(),
            retry_after: true,
            clock_ahead: SignedDuration::ZERO,
        }
    }
}

/// The time of day in ENS. It runs with tokio's clock, so that it stops with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    time_of_day: Timestamp,
}

impl Clock {
    pub(super) fn new(ahead: SignedDuration) -> Self {
        let now = Timestamp::now();
        Self {
            began: Instant::now(),
            time_of_day: now.saturating_add(ahead).unwrap_or(now),
        }
    }

    pub(super) fn at(self, instant: Instant) -> Timestamp {
        let elapsed = instant.saturating_duration_since(self.began);
        self.time_of_day.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// As a `Date` header.
    pub(super) fn date(self, instant: Instant) -> String {
        self.at(instant).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}
