//! A permit that returns to the limiter when it is dropped.

use tokio::runtime::Handle;
use tracing::Instrument;

use super::{Permit, RateLimiter};

/// A permit that is kept for a call. An unspent one returns to the store on drop, in its own task.
pub struct HeldPermit {
    permit: Permit,
    limiter: RateLimiter,
    spent: bool,
}

impl RateLimiter {
    /// Wraps a permit so that it returns to the limiter unless it is spent.
    #[must_use]
    pub fn hold(&self, permit: Permit) -> HeldPermit {
        HeldPermit { permit, limiter: self.clone(), spent: false }
    }
}

impl HeldPermit {
    /// Takes the permit, for a call that is made now.
    pub fn spend(mut self) -> Permit {
        self.spent = true;
        self.permit.copy()
    }

    /// Takes the permit for one call, which is made now, and returns the rest.
    pub fn spend_one(self) -> (Permit, Option<Self>) {
        let limiter = self.limiter.clone();
        let (one, rest) = self.spend().split();
        (one, rest.map(|rest| limiter.hold(rest)))
    }

    /// Adds the calls of another permit of the same class.
    pub fn add(&mut self, other: Self) {
        self.permit.add(other.spend());
    }

    /// Whether the breaker is open, and the call is its probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.permit.is_probe()
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        if self.spent || self.limiter.return_to_chunk(&self.permit) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (limiter, permit) = (self.limiter.clone(), self.permit.copy());
            self.limiter.spawn_on(
                async move { limiter.give_back(permit).await }.in_current_span(),
                &runtime,
            );
        }
    }
}
