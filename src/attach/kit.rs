//! What an attach needs beside the lock: permits of the account's budget, fresh credentials and a date. Had before the lock, and never
//! waited for under it.
//!
//! What was had is kept while the attach stands in the ledger's queue, so that nobody loses a place for want of a permit. A breaker's
//! probe is not kept: it is the only call that ENS gets until it is answered, and goes to whoever can use it at once.

use std::time::Duration;

use crate::ens::budget::Unreachable;
use crate::ens::{Ens, NoPermit, Permit, Prepared, Purpose};
use crate::ledger::{Ledger, Unavailable};
use crate::model::Failure;

use super::gate::Gate;
use super::{Attacher, LEDGER_RETRY, failures};

/// What takes longer than this to have is not at hand: it is not waited for under the lock.
const AT_HAND: Duration = Duration::from_millis(20);

/// What an attach takes along to the lock.
#[derive(Default)]
pub(super) struct Kit {
    /// For the send.
    pub(super) send: Option<SendKit>,
    /// For the describe of the instance, where no permit for it was at hand under the lock.
    pub(super) describe: Option<Permit>,
}

/// What one send needs.
pub(super) struct SendKit {
    pub(super) permit: Permit,
    pub(super) prepared: Prepared,
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// What one send needs, if it can be had now: with the permit of before, if there is one, and a date that is new, for a request
    /// grows old from it.
    pub(super) async fn equip_now(&self, kit: &mut Kit) -> Result<Option<SendKit>, Failure> {
        let permit = match kit.send.take() {
            Some(SendKit { permit, .. }) => permit,
            None => match self.budget.try_permit(Purpose::Attach).await {
                Ok(permit) => permit,
                Err(_) => return Ok(None),
            },
        };
        let missing = match tokio::time::timeout(AT_HAND, self.ens.prepare()).await {
            Ok(Ok(prepared)) => return Ok(Some(SendKit { permit, prepared })),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Ok(None),
        };
        self.budget.give_back(permit).await;
        missing
    }

    /// What one send needs, waited for in the order of arrival; never under the lock.
    pub(super) async fn equip(&self, kit: &mut Kit, gate: &Gate) -> Result<SendKit, Failure> {
        self.put_down_probes(kit).await;
        loop {
            // No permit is held while credentials are fetched.
            gate.bound(self.ens.prepare()).await??;
            let permit = self.permit(Purpose::Attach, gate).await?;
            let prepared = gate.bound(tokio::time::timeout(AT_HAND, self.ens.prepare())).await;
            match prepared {
                Ok(Ok(Ok(prepared))) => return Ok(SendKit { permit, prepared }),
                Ok(Ok(Err(failure))) | Err(failure) => {
                    self.budget.give_back(permit).await;
                    return Err(failure);
                }
                Ok(Err(_not_at_hand)) => self.budget.give_back(permit).await,
            }
        }
    }

    /// A permit, waited for in the order of arrival; never under the lock.
    pub(super) async fn permit(&self, purpose: Purpose, gate: &Gate) -> Result<Permit, Failure> {
        loop {
            if let Some(wait) = self.budget.wait(purpose) {
                gate.blocked_by(failures::no_permit(&NoPermit::Late { wait }));
            }
            let permit = gate.bound(self.budget.permit(purpose, gate.deadline())).await?;
            match permit {
                Ok(permit) => return Ok(permit),
                Err(missing @ NoPermit::Late { .. }) => return Err(failures::no_permit(&missing)),
                Err(NoPermit::CounterUnreachable(Unreachable { why, down_for })) => {
                    let error = Unavailable::before(why).after(down_for);
                    gate.pause(LEDGER_RETRY, gate.unreached(&error)?).await?;
                }
            }
        }
    }

    /// Gives back all that was had.
    pub(super) async fn put_down(&self, kit: &mut Kit) {
        let Kit { send, describe } = std::mem::take(kit);
        for permit in send.map(|send| send.permit).into_iter().chain(describe) {
            self.budget.give_back(permit).await;
        }
    }

    /// Gives back what is a breaker's probe: before every wait.
    pub(super) async fn put_down_probes(&self, kit: &mut Kit) {
        if let Some(SendKit { permit, .. }) = kit.send.take_if(|send| send.permit.is_probe()) {
            self.budget.give_back(permit).await;
        }
        if let Some(permit) = kit.describe.take_if(|permit| permit.is_probe()) {
            self.budget.give_back(permit).await;
        }
    }
}
