//! What one send needs beside the lock: a permit of the account's budget, fresh credentials and a date. Had before the lock, and never
//! waited for under it.

use std::time::Duration;

use crate::ens::{Ens, NoPermit, Permit, Prepared, Purpose};
use crate::ledger::Ledger;
use crate::model::Failure;

use super::gate::Gate;
use super::{Attacher, LEDGER_RETRY, failures};

/// What takes longer than this to have is not at hand: it is not waited for under the lock.
const AT_HAND: Duration = Duration::from_millis(20);

/// What one send needs.
pub(super) struct Kit {
    pub(super) permit: Permit,
    pub(super) prepared: Prepared,
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// What one send needs, if it can be had now: the permit of `before`, if there is one, and a date that is new, for a request
    /// grows old from it.
    pub(super) async fn equip_now(&self, before: Option<Kit>) -> Result<Option<Kit>, Failure> {
        let permit = match before {
            Some(Kit { permit, .. }) => permit,
            None => match self.budget.try_permit(Purpose::Attach).await {
                Ok(permit) => permit,
                Err(_) => return Ok(None),
            },
        };
        let missing = match tokio::time::timeout(AT_HAND, self.ens.prepare()).await {
            Ok(Ok(prepared)) => return Ok(Some(Kit { permit, prepared })),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Ok(None),
        };
        self.budget.give_back(permit).await;
        missing
    }

    /// What one send needs, waited for in the order of arrival; never under the lock.
    pub(super) async fn equip(&self, gate: &Gate) -> Result<Kit, Failure> {
        loop {
            let permit = gate.bound(self.budget.permit(Purpose::Attach, gate.deadline())).await?;
            match permit {
                Ok(permit) => return self.prepare(gate, permit).await,
                Err(missing @ NoPermit::Late { .. }) => return Err(failures::no_permit(&missing)),
                Err(missing) => gate.pause(LEDGER_RETRY, failures::no_permit(&missing)).await?,
            }
        }
    }

    async fn prepare(&self, gate: &Gate, permit: Permit) -> Result<Kit, Failure> {
        match gate.bound(self.ens.prepare()).await {
            Ok(Ok(prepared)) => Ok(Kit { permit, prepared }),
            Ok(Err(failure)) | Err(failure) => {
                self.budget.give_back(permit).await;
                Err(failure)
            }
        }
    }
}

/// How long to wait for a permit, and what the caller hears if that is too long.
pub(super) fn wait_for(missing: &NoPermit) -> (Duration, Failure) {
    let pause = match missing {
        NoPermit::Late { wait } => *wait,
        NoPermit::CounterUnreachable(_) => LEDGER_RETRY,
    };
    (pause, failures::no_permit(missing))
}
