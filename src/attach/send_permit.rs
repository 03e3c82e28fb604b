//! Permits, fresh credentials and a date for an attach. They are acquired before the lock, and
//! never awaited under it.
//!
//! An attach keeps its permits in the ledger's queue, so that it never loses its place for one. It
//! does not keep a breaker's probe, the only call until ENS answers. A probe goes to a caller that
//! can use it at once. Unused permits return to the rate limiter on drop.

use crate::ens::Prepared;
use crate::rate_limit::HeldPermit;

/// The permits that an attempt keeps while it waits.
#[derive(Default)]
pub(super) struct KeptPermits {
    /// For the send.
    pub(super) send: Option<HeldPermit>,
    /// For the describe of the instance, if none was available under the lock.
    pub(super) describe: Option<HeldPermit>,
}

impl KeptPermits {
    /// Returns a breaker's probe, before every wait.
    pub(super) fn return_probes(&mut self) {
        for kept in [&mut self.send, &mut self.describe] {
            kept.take_if(|permit| permit.is_probe());
        }
    }
}

/// Permit, credentials and date of one send.
pub(super) struct SendPermit {
    pub(super) permit: HeldPermit,
    pub(super) prepared: Prepared,
}
