//! One send of an attempt.

use crate::ledger::bounds::Bounds;
use crate::model::stored::stored;
use crate::model::{Timestamp, Unknown};

stored! {
    /// One `AttachNetworkInterface` request, recorded before it went out.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SendEntry {
        /// Not before its `x-acs-date`.
        pub at: Timestamp,
        /// When ENS's answer to this copy was recorded. Its effect, if any, came before.
        pub answered_at: Option<Timestamp> = optional,
        /// When its protective times restarted because the epoch changed after it. `at` may then be
        /// by another clock.
        pub restarted_at: Option<Timestamp> = optional,
    }
}

impl SendEntry {
    /// A send recorded at `at`, without a response yet.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self { at, answered_at: None, restarted_at: None, unknown: Unknown::default() }
    }

    /// Start of its visibility lag and its validity. `at` identifies the send, and does not change.
    #[must_use]
    pub fn counts_from(&self) -> Timestamp {
        self.restarted_at.unwrap_or(self.at)
    }

    /// When the effect of a copy without a response is visible in every Describe call. It may be
    /// applied while the request is valid, and shows one lag after that.
    #[must_use]
    pub fn shows_by(&self, bounds: &Bounds) -> Timestamp {
        self.counts_from() + bounds.validity + bounds.lag
    }
}
