//! The account's budget of ENS calls, shared by all replicas: a rate limiter with a circuit breaker.
//!
//! [`RateLimiter`] hands out permits in this process, first come, first served. A [`RateLimitStore`] keeps the token buckets and
//! the breaker that all replicas share; [`TokenBuckets`] is the one in memory, and `ledger/redis/take.lua` decides the same in Redis.

mod breaker;
mod bucket;
mod limiter;

use std::future::Future;
use std::time::Duration;

pub use bucket::{InvalidRate, Lane, PROBE_PERMIT, PROBE_RETRY, Rates, TokenBuckets, family, micros};
pub use limiter::{Permit, PermitError, Random, RateLimiter, Source};

/// What a permit is for. Attaches and describes have budgets of their own. Of the describes, attaches get three eighths at most and
/// reads one eighth, so that at least half are the tracker's, and reads take nothing from attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateClass {
    /// One `AttachNetworkInterface`.
    Attach,
    /// A describe on behalf of an attach: at most three eighths of all describes.
    Describe,
    /// A describe on behalf of a call that attaches nothing (Get, List, Watch, `validate_only`): at most an eighth.
    Read,
    /// A describe of the tracker.
    Track,
    /// A describe that compares the ledger with ENS: at most a twentieth.
    Reconcile,
}

/// How long a request for a token waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// How long it has waited by now.
    pub since: Duration,
    /// How long it can wait from now on: no later token is kept for it.
    pub most: Duration,
}

/// A request to the shared store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitRequest {
    /// One token, if there is one now, and no other request has waited for longer. `None`: the caller does not wait, and stands
    /// behind all that do.
    Take(RateClass, Option<Waits>),
    /// Returns an unused token.
    GiveBack {
        /// What it was for.
        class: RateClass,
        /// Whether it is the breaker's probe: the next one may be taken at once.
        probe: bool,
    },
    /// ENS throttled a call: no token for this long, then one probe at a time until [`RateLimitRequest::Close`].
    Trip(RateClass, Duration),
    /// A call succeeded: the breaker closes, unless the pause of its trip is not over. Such a call was sent before the throttling.
    Close(RateClass),
}

/// The store's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitDecision {
    /// One token.
    Granted,
    /// One token and so many more, for use at once: above a hundred a second they are leased in chunks.
    Chunk(u32),
    /// One token, and the breaker is open: this call is its probe, whose success closes it.
    Probe,
    /// No token before this long.
    Wait(Duration),
}

/// The store cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct StoreUnreachable {
    /// What happened, for people.
    pub why: String,
    /// How long it has been out of reach by now, as far as is known.
    pub down_for: Duration,
}

/// Keeps the token buckets and breakers that all replicas share.
pub trait RateLimitStore: Send + Sync + 'static {
    /// Decides one request.
    ///
    /// # Errors
    /// The store cannot be reached, or not in time. A token may have been taken all the same.
    fn take(
        &self,
        request: RateLimitRequest,
    ) -> impl Future<Output = Result<RateLimitDecision, StoreUnreachable>> + Send;
}
