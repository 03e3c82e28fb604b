//! Discovery of attachments that the ledger has not observed lately. Concurrent reads share one
//! describe of the instance, whose result is recorded before a read returns it. A read does not
//! wait for the account's budget, so that reads never hold up attaches. Without a permit it returns
//! the ledger's state, or a reason.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::admission::Peer;
use crate::ens::Ens;
use crate::failures::Operation;
use crate::ledger::LedgerStore;
use crate::model::{Failure, InstanceId, Timestamp};
use crate::observe::{Joined, ObserveError};
use crate::rate_limit::{Permit, PermitError, RateClass, RateLimiter};

use super::Hub;

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// Describes the instance on behalf of the peer and records the result; returns the ledger's
    /// time of the describe. Concurrent reads share it, and it continues without them.
    ///
    /// # Errors
    /// A read's reason: ENS did not answer in time or refused, or the ledger did not record the
    /// answer.
    pub(super) async fn discover(
        self: &Arc<Self>,
        instance: &InstanceId,
        peer: Peer,
        deadline: Option<Instant>,
    ) -> Result<Timestamp, Failure> {
        let observation = self.observe(instance, self.try_read_permit(peer));
        let observed = match deadline {
            None => observation.result().await,
            Some(deadline) => timeout_at(deadline, observation.result())
                .await
                .unwrap_or_else(|_late| Err(ObserveError::unanswered("no answer in time"))),
        };
        observed.map_err(|error| Operation::Read(instance).not_observed(&error))
    }

    /// A permit for one describe of a read, if the peer's share has room and the budget has one.
    pub(super) fn try_read_permit(
        &self,
        peer: Peer,
    ) -> impl Future<Output = Result<Permit, PermitError>> + Send + use<L, E> {
        let (limiter, shares) = (self.backends.limiter.clone(), self.read_shares.clone());
        async move {
            let wait = shares.wait(&peer.holder);
            if !wait.is_zero() {
                return Err(PermitError::DeadlineExceeded { wait });
            }
            let permit = limiter.try_permit(RateClass::Read).await?;
            shares.count(peer.holder);
            Ok(permit)
        }
    }

    /// The running observation of this instance, or a new one with this permit. Returns when its
    /// describe was sent.
    pub(super) fn observe(
        self: &Arc<Self>,
        instance: &InstanceId,
        permit: impl Future<Output = Result<Permit, PermitError>> + Send + 'static,
    ) -> Joined<Timestamp> {
        let (backends, described) = (self.backends.clone(), instance.clone());
        self.flights.join(instance, &self.tasks, permit, async move |permit| {
            let (sent_at, recorded) =
                backends.observe_and_record_instance(&described, permit, None).await?;
            if sent_at > recorded.now {
                // The ledger ignores observations from the future.
                return Err(ObserveError::unanswered("the ledger's clock went back meanwhile"));
            }
            Ok(sent_at)
        })
    }
}

/// A permit for one describe of followed scopes.
pub(super) async fn read_permit(
    limiter: RateLimiter,
    patience: Duration,
) -> Result<Permit, PermitError> {
    limiter.permit(RateClass::Read, Instant::now() + patience).await
}
