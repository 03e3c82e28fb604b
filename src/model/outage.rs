//! The outage of a store, for error messages.

use std::time::Duration;

/// A failed call of a store, either the ledger's or the rate limiter's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Outage {
    /// The cause, without secrets.
    pub why: String,
    /// How long the server has been unreachable, as far as known; zero if it was just reached. In a
    /// cluster: the instance's node.
    pub down_for: Duration,
}

impl Outage {
    /// An outage of a server that was just reached.
    pub fn just_now(why: impl Into<String>) -> Self {
        Self { why: why.into(), down_for: Duration::ZERO }
    }
}
