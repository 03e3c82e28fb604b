//! Reports of calls, for the rate limiter and the observers.

use std::sync::Arc;
use std::time::Duration;

use crate::rate_limit::{Permit, RateLimiter};

use super::classify::EnsReply;

/// An operation of ENS that the gateway uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "ENS's own names")]
pub enum Action {
    AttachNetworkInterface,
    DescribeNetworkInterfaces,
    DescribeInstances,
}

impl Action {
    /// `x-acs-action`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttachNetworkInterface => "AttachNetworkInterface",
            Self::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Self::DescribeInstances => "DescribeInstances",
        }
    }
}

/// The report of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallReport {
    /// The operation.
    pub action: Action,
    /// `ok`, `refused`, `denied` (the gateway's own key, signature, clock or right), `throttled`,
    /// `not_sent` or `unanswered`.
    pub outcome: &'static str,
    /// Time from signing to the last byte.
    pub duration: Duration,
}

/// An observer of every call.
pub type CallObserver = Arc<dyn Fn(CallReport) + Send + Sync>;

impl EnsReply {
    /// Reports the reply to the call of this permit. Any answer of ENS that is no throttling closes
    /// the breaker, also an error.
    pub async fn report(&self, permit: Permit, limiter: &RateLimiter) {
        match self.throttling() {
            Some(throttling) => limiter.record_throttled(&permit, throttling.retry_after).await,
            None if self.is_from_ens() => limiter.record_passed(&permit).await,
            // The probe proved nothing, so the next one need not wait for its expiry.
            None if permit.is_probe() => limiter.give_back(permit).await,
            None => {}
        }
    }
}
