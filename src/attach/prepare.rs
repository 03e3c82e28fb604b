//! Permit, credentials and date for a send: available at once before the lock is taken, or awaited
//! without the lock.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::ens::Ens;
use crate::failures::{Operation, attach as failures};
use crate::ledger::{LedgerError, LedgerStore};
use crate::model::Failure;
use crate::rate_limit::{HeldPermit, PermitError, RateClass};

use super::AttemptTask;
use super::flow::Step;
use super::retry::THROTTLE_PAUSE;
use super::send_permit::SendPermit;

/// Maximum wait under the lock.
const AT_HAND: Duration = Duration::from_millis(20);

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Permit, credentials and a new date for one send, if available at once. A request's validity
    /// counts from its date.
    ///
    /// # Errors
    /// There are no credentials, or this machine's clock is off.
    pub(super) async fn try_prepare_send(&mut self) -> Result<Option<SendPermit>, Failure> {
        let permit = match self.permits.send.take() {
            Some(permit) => permit,
            None => match self.try_permit(RateClass::Attach).await {
                Some(permit) => permit,
                None => return Ok(None),
            },
        };
        match timeout(AT_HAND, self.backends().ens.prepare()).await {
            Ok(prepared) => Ok(Some(SendPermit { permit, prepared: prepared? })),
            Err(_not_at_hand) => Ok(None),
        }
    }

    /// Waits for permit and credentials in the order of arrival, never under the lock. `missing` is
    /// the credentials' failure.
    pub(super) async fn await_permit(
        &mut self,
        missing: Option<Box<Failure>>,
    ) -> Result<Step, Failure> {
        self.release_lock().await;
        // A reply that needs no send does not wait for them.
        if let Some(step) = self.query().await? {
            return Ok(step);
        }
        if let Some(failure) = missing {
            return Err(*failure);
        }
        self.permits.return_probes();
        self.set_pending_error(failures::not_sent("the credentials did not arrive in time"));
        // No permit is held during a fetch of credentials.
        self.session.until_deadline(self.backends().ens.prepare()).await??;
        self.permits.send = self.permit(RateClass::Attach).await?;
        Ok(Step::Prepare)
    }

    /// A permit, if one is available at once.
    pub(super) async fn try_permit(&self, class: RateClass) -> Option<HeldPermit> {
        let limiter = &self.backends().limiter;
        let permit = limiter.try_permit(class).await.ok()?;
        self.leave_budget(class);
        Some(limiter.hold(permit))
    }

    /// Waits for a permit in the order of arrival, never under the lock. `None` after a pause, if
    /// the ledger failed.
    pub(super) async fn permit(&mut self, class: RateClass) -> Result<Option<HeldPermit>, Failure> {
        let limiter = self.backends().limiter.clone();
        let wait = limiter.wait(class).unwrap_or(THROTTLE_PAUSE);
        self.set_pending_error(
            Operation::Attach.no_permit(&PermitError::DeadlineExceeded { wait }),
        );
        let since = self
            .lock
            .as_ref()
            .map_or_else(Instant::now, |lock| lock.with_budget(|places| places.since(class)));
        let permit = limiter.permit_since(class, since, self.session.deadline());
        match self.session.until_deadline(permit).await? {
            Ok(permit) => {
                self.leave_budget(class);
                Ok(Some(limiter.hold(permit)))
            }
            Err(missing @ PermitError::DeadlineExceeded { .. }) => {
                Err(Operation::Attach.no_permit(&missing))
            }
            Err(PermitError::CounterUnreachable(outage)) => {
                let error = LedgerError::NotApplied(outage);
                self.pause_for_ledger(&error).await?;
                Ok(None)
            }
        }
    }

    fn leave_budget(&self, class: RateClass) {
        if let Some(lock) = &self.lock {
            lock.with_budget(|places| places.leave(class));
        }
    }
}
