//! The backends of a gateway.

use std::sync::Arc;

use crate::ledger::Ledger;
use crate::rate_limit::RateLimiter;
use crate::telemetry::Metrics;

/// Ledger and ENS, with the limiter and the metrics that every use of them needs. Clones share all.
pub struct Backends<L, E> {
    /// The ledger with its rules.
    pub ledger: Arc<Ledger<L>>,
    /// The ENS client.
    pub ens: Arc<E>,
    /// The limiter of calls to ENS.
    pub limiter: RateLimiter,
    /// The metrics of this process.
    pub metrics: Metrics,
}

impl<L, E> Clone for Backends<L, E> {
    fn clone(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            ens: self.ens.clone(),
            limiter: self.limiter.clone(),
            metrics: self.metrics.clone(),
        }
    }
}
