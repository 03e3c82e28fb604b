//! What surrounds the world: keys, rate limits, the clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

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
    /// How far `x-acs-date` may be off (15 min).
    pub date_window: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: vec![AccessKey::default()],
            rates: BTreeMap::new(),
            retry_after: true,
            clock_ahead: SignedDuration::ZERO,
            date_window: super::auth::WINDOW,
        }
    }
}

/// The time of day in ENS: this machine's, and a bit ahead or behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    ahead: SignedDuration,
}

impl Clock {
    pub(super) const fn new(ahead: SignedDuration) -> Self {
        Self { ahead }
    }

    pub(super) fn now(self) -> Timestamp {
        let now = Timestamp::now();
        now.saturating_add(self.ahead).unwrap_or(now)
    }

    /// Now as a `Date` header.
    pub(super) fn date(self) -> String {
        self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}
