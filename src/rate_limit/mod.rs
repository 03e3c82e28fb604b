//! The account's budget of ENS calls, shared by all replicas: a rate limiter with a circuit
//! breaker.
//!
//! [`RateLimiter`] hands out permits in this process, in the order of arrival. A [`RateLimitStore`]
//! keeps the shared token buckets and breaker. [`TokenBuckets`] does so in memory, and
//! `ledger/redis/take.lua` in Redis.

mod arrival_queue;
mod breaker;
mod bucket;
mod class_queues;
mod held;
mod limiter;
mod permit;

use std::future::Future;
use std::time::Duration;

use crate::model::Outage;

pub use bucket::{
    InvalidRate, Lane, PROBE_PERMIT, PROBE_RETRY, Rates, TokenBuckets, family, micros,
};
pub use held::HeldPermit;
pub use limiter::{Random, RateLimiter, StoreFunction};
pub use permit::{Permit, PermitError};

/// The purpose of a permit. Attaches and describes have separate budgets. Attaches get at most
/// three eighths of the describes and reads one eighth, so at least half are the tracker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateClass {
    /// One `AttachNetworkInterface`.
    Attach,
    /// A describe for an attach: at most three eighths of all describes.
    Describe,
    /// A describe for Get, List, Watch or `validate_only`: at most an eighth.
    Read,
    /// A describe of the tracker.
    Track,
    /// A describe for a reconciliation: at most a twentieth.
    Reconcile,
}

/// The wait of a request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Time waited so far.
    pub since: Duration,
    /// Maximum further wait. No later token is kept for it.
    pub most: Duration,
}

/// A request to the shared store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitRequest {
    /// One token, if one is available and no other request has waited longer. `None`: the caller
    /// does not wait, and yields to all that do.
    Take(RateClass, Option<Waits>),
    /// Returns an unused token.
    GiveBack {
        /// Its class.
        class: RateClass,
        /// Whether it is the breaker's probe, so that the next one may be taken at once.
        probe: bool,
    },
    /// ENS throttled a call. No tokens for this long, then one probe at a time until
    /// [`RateLimitRequest::Close`].
    Trip(RateClass, Duration),
    /// A call succeeded. The breaker closes unless its pause is running: the call was then sent
    /// before the throttling.
    Close(RateClass),
}

/// The store's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitDecision {
    /// One token.
    Granted,
    /// One token and this many more for use at once. Above a hundred a second tokens come in
    /// chunks.
    Chunk(u32),
    /// One token from an open breaker. The call is its probe, whose success closes it.
    Probe,
    /// No token before this time has passed.
    Wait(Duration),
}

/// Keeps the token buckets and breakers that all replicas share.
pub trait RateLimitStore: Send + Sync + 'static {
    /// Decides one request.
    ///
    /// # Errors
    /// The store did not answer in time. A token may have been taken.
    fn take(
        &self,
        request: RateLimitRequest,
    ) -> impl Future<Output = Result<RateLimitDecision, Outage>> + Send;
}
