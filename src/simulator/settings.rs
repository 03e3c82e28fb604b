//! Settings besides the world: keys, rate limits, the clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use super::action::Action;
use super::auth::AccessKey;
use super::throttle::Rate;

/// Settings of the simulator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The accepted keys (the documented default key).
    pub keys: Vec<AccessKey>,
    /// Rate limits (none).
    pub rates: BTreeMap<Action, Rate>,
    /// Whether a throttling answer has `x-acs-retry-after` (yes).
    pub retry_after: bool,
    /// Time by which ENS's clock is ahead of this machine's (0).
    pub clock_ahead: SignedDuration,
    /// Maximum difference of `x-acs-date` (15 min).
    pub date_window: SignedDuration,
    /// Key of the control endpoints for other hosts (none: they are refused).
    pub control_key: Option<SecretString>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: vec![AccessKey::default()],
            rates: BTreeMap::new(),
            retry_after: true,
            clock_ahead: SignedDuration::ZERO,
            date_window: super::auth::WINDOW,
            control_key: None,
        }
    }
}

/// ENS's clock: this machine's with an offset.
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

    /// The current time as a `Date` header.
    pub(super) fn date(self) -> String {
        self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}
