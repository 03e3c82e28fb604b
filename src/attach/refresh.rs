//! The observation of an ENI that is attached by the ledger's record.

use tokio::time::Instant;

use crate::ens::Ens;
use crate::failures::{Operation, attach as failures};
use crate::ledger::{LedgerError, LedgerStore};
use crate::model::Failure;
use crate::observe::ObserveError;
use crate::rate_limit::{PermitError, RateClass};

use super::AttemptTask;
use super::flow::Step;
use super::retry::{DESCRIBE_PAUSE, LEAST_ROUND};
use super::send_permit::KeptPermits;

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Observes whether the recorded ENI is still attached. It holds no lock while it waits for the
    /// permit and ENS.
    pub(super) async fn refresh(&mut self) -> Result<Step, Failure> {
        self.permits = KeptPermits::default();
        self.release_lock().await;
        let limiter = self.backends().limiter.clone();
        self.set_pending_error(match limiter.wait(RateClass::Describe) {
            Some(wait) => Operation::Attach.no_permit(&PermitError::DeadlineExceeded { wait }),
            None => failures::unconfirmed_attachment("it did not answer in time"),
        });
        let (backends, deadline) = (self.backends().clone(), self.session.deadline());
        let key = (self.request.instance.clone(), self.request.eni.clone());
        let permit = async move { limiter.permit(RateClass::Describe, deadline).await };
        let refreshes = &self.attacher.refreshes;
        let (instance, eni) = key.clone();
        // A batch asks for all of its ENIs at once.
        let is_batch = self.turn.is_some();
        let refresh = refreshes.join(&key, &self.attacher.tasks, permit, async move |permit| {
            let (sent_at, recorded) = if is_batch {
                backends.observe_and_record_instance(&instance, permit, None).await?
            } else {
                backends.observe_and_record_eni(&instance, &eni, permit).await?
            };
            let attempt = recorded.record.attempts.get(&eni);
            Ok(attempt.is_none_or(|attempt| attempt.described_at >= Some(sent_at)))
        });
        let unconfirmed = |why: Failure| failures::unconfirmed_attachment(&why.message);
        match self.session.until_deadline(refresh.result()).await? {
            Ok(settled) => {
                // An observation that settled nothing is not repeated at once.
                let pause = if settled { LEAST_ROUND } else { DESCRIBE_PAUSE };
                let why = failures::unconfirmed_attachment("its answer did not settle it");
                self.pause(pause, why).await?;
            }
            Err(ObserveError::Describe(error)) => {
                let mut retry = self.retry.after_describe(&error).map_err(unconfirmed)?;
                retry.why = unconfirmed(retry.why);
                self.pause_for(retry).await?;
            }
            Err(ObserveError::Permit(missing @ PermitError::DeadlineExceeded { wait })) => {
                let why = Operation::Attach.no_permit(&missing);
                // The shared observation may be that of a caller with an earlier deadline.
                if Instant::now() + wait >= deadline {
                    return Err(why);
                }
                self.pause(LEAST_ROUND, why).await?;
            }
            Err(ObserveError::Permit(PermitError::CounterUnreachable(outage))) => {
                let error = LedgerError::NotApplied(outage);
                self.pause_for_ledger(&error).await?;
            }
            Err(ObserveError::Ledger(error)) => self.pause_for_ledger(&error).await?,
        }
        Ok(Step::Enter)
    }
}
