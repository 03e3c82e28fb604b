//! The right to call ENS, and the reasons why a caller has none.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Outage;

use super::RateClass;

/// The right to one call of ENS, or to several of one describe. Dropping an unused one loses these
/// calls and nothing more: buckets refill, and a probe expires.
/// [`give_back`](super::RateLimiter::give_back) and [`hold`](super::RateLimiter::hold) return it at
/// once.
#[derive(Debug)]
#[must_use = "an unused permit is given back with `RateLimiter::give_back`"]
pub struct Permit {
    pub(super) class: RateClass,
    pub(super) taken: Instant,
    pub(super) probe: bool,
    /// Number of calls beyond the first.
    pub(super) further: u32,
}

impl Permit {
    /// Whether the breaker is open, and this call is its probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }

    /// The class of the call.
    #[must_use]
    pub const fn class(&self) -> RateClass {
        self.class
    }

    /// Splits it into a permit for one call and one for the rest.
    pub(super) const fn split(self) -> (Self, Option<Self>) {
        let one = Self { further: 0, ..self };
        let rest = match self.further {
            0 => None,
            further => Some(Self { further: further - 1, ..self }),
        };
        (one, rest)
    }

    /// Adds the calls of another permit.
    pub(super) const fn add(&mut self, other: Self) {
        self.further += other.further + 1;
    }

    /// A copy of the permit. Only one of the two may be used.
    pub(super) const fn copy(&self) -> Self {
        Self { ..*self }
    }
}

/// A reason why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// No permit by the deadline.
    #[error("timed out waiting for a permit of the account's budget")]
    DeadlineExceeded {
        /// Time until the next token, as far as known.
        wait: Duration,
    },
    /// The store cannot be reached.
    #[error(transparent)]
    CounterUnreachable(Outage),
}
