//! What an attach needs besides the lock: permits of the rate limiter, fresh credentials and a date. It is acquired before the lock and
//! never awaited under it.
//!
//! Permits are kept while the attach waits in the ledger's queue, so that no caller loses its place for a permit. A breaker's probe is
//! not kept: it is the only call that ENS receives until it is answered, so it goes to a caller that can use it at once.

use std::time::Duration;

use crate::ens::{Ens, Prepared};
use crate::ledger::{LedgerError, LedgerStore};
use crate::model::Failure;
use crate::rate_limit::{Permit, PermitError, RateClass, StoreUnreachable};

use super::caller_session::CallerSession;
use super::{Attacher, LEDGER_RETRY, failures};

/// What takes longer than this to have is not at hand: it is not waited for under the lock.
const AT_HAND: Duration = Duration::from_millis(20);

/// What an attach takes along to the lock.
#[derive(Default)]
pub(super) struct SendPermits {
    /// For the send.
    pub(super) send: Option<SendPermit>,
    /// For the describe of the instance, where no permit for it was at hand under the lock.
    pub(super) describe: Option<Permit>,
}

/// What one send needs.
pub(super) struct SendPermit {
    pub(super) permit: Permit,
    pub(super) prepared: Prepared,
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// What one send needs, if it can be had now: with the permit of before, if there is one, and a date that is new, for a request
    /// grows old from it.
    pub(super) async fn try_prepare_send(&self, permits: &mut SendPermits) -> Result<Option<SendPermit>, Failure> {
        let permit = match permits.send.take() {
            Some(SendPermit { permit, .. }) => permit,
            None => match self.limiter.try_permit(RateClass::Attach).await {
                Ok(permit) => permit,
                Err(_) => return Ok(None),
            },
        };
        let missing = match tokio::time::timeout(AT_HAND, self.ens.prepare()).await {
            Ok(Ok(prepared)) => return Ok(Some(SendPermit { permit, prepared })),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Ok(None),
        };
        self.limiter.give_back(permit).await;
        missing
    }

    /// What one send needs, waited for in the order of arrival; never under the lock.
    pub(super) async fn prepare_send(
        &self,
        permits: &mut SendPermits,
        session: &CallerSession,
    ) -> Result<SendPermit, Failure> {
        self.return_probes(permits).await;
        loop {
            // No permit is held while credentials are fetched.
            session.until_deadline(self.ens.prepare()).await??;
            let permit = self.permit(RateClass::Attach, session).await?;
            let prepared = session
                .until_deadline(tokio::time::timeout(AT_HAND, self.ens.prepare()))
                .await;
            match prepared {
                Ok(Ok(Ok(prepared))) => return Ok(SendPermit { permit, prepared }),
                Ok(Ok(Err(failure))) | Err(failure) => {
                    self.limiter.give_back(permit).await;
                    return Err(failure);
                }
                Ok(Err(_not_at_hand)) => self.limiter.give_back(permit).await,
            }
        }
    }

    /// A permit, waited for in the order of arrival; never under the lock.
    pub(super) async fn permit(&self, purpose: RateClass, session: &CallerSession) -> Result<Permit, Failure> {
        loop {
            if let Some(wait) = self.limiter.wait(purpose) {
                session.set_pending_error(failures::no_permit(&PermitError::DeadlineExceeded { wait }));
            }
            let permit = session
                .until_deadline(self.limiter.permit(purpose, session.deadline()))
                .await?;
            match permit {
                Ok(permit) => return Ok(permit),
                Err(missing @ PermitError::DeadlineExceeded { .. }) => return Err(failures::no_permit(&missing)),
                Err(PermitError::CounterUnreachable(StoreUnreachable { why, down_for })) => {
                    let error = LedgerError::not_applied(why).with_outage(down_for);
                    session.pause(LEDGER_RETRY, session.ledger_unreached(&error)?).await?;
                }
            }
        }
    }

    /// Gives back all that was had.
    pub(super) async fn return_permits(&self, permits: &mut SendPermits) {
        self.return_where(permits, |_| true).await;
    }

    /// Gives back what is a breaker's probe: before every wait.
    pub(super) async fn return_probes(&self, permits: &mut SendPermits) {
        self.return_where(permits, Permit::is_probe).await;
    }

    async fn return_where(&self, permits: &mut SendPermits, unwanted: impl Fn(&Permit) -> bool) {
        let send = permits.send.take_if(|send| unwanted(&send.permit));
        let describe = permits.describe.take_if(|permit| unwanted(permit));
        for permit in send.map(|send| send.permit).into_iter().chain(describe) {
            self.limiter.give_back(permit).await;
        }
    }
}
