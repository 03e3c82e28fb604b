//! One attempt and its owner's progress. The steps are those of `attach::steps`, and `apply` makes
//! every decision about the record.

use eni_gateway::attach::steps::{Completed, Confirmed, ReserveRequest, Reserved, SentAttempt};
use eni_gateway::ledger::command::{Acquire, Command, Mode, SendResult};
use eni_gateway::model::{Failure, InterfaceId, Reason, Ticket, Uid};
use uuid::Uuid;

use crate::plan::{Eni, Replica};

pub(crate) fn id(eni: Eni) -> InterfaceId {
    format!("eni-{eni}").parse().unwrap()
}

/// Where an attempt's owner is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// In line, or has to ask again. To its owner's knowledge the ledger has nothing of it.
    Waiting,
    /// Has asked; if there is no reply, asks the same again.
    Asking(ReserveRequest),
    /// Asks ENS who is on the instance, under the lock.
    Describing {
        asking: ReserveRequest,
        sent_at: u64,
    },
    Reserved(Reserved),
    Confirmed(Confirmed),
    UnderWay(SentAttempt),
    Answered(Completed),
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) number: u128,
    pub(crate) eni: Eni,
    pub(crate) replica: Replica,
    /// The attempt that it sends again; otherwise it begins one.
    pub(crate) resends: Option<Uid>,
    /// How many attempts of its own it took back.
    pub(crate) taken_back: u8,
    pub(crate) step: Step,
}

impl Task {
    pub(crate) fn uid(&self) -> Uid {
        let own = u128::from(self.taken_back) << 64 | self.number;
        self.resends.unwrap_or(Uid(Uuid::from_u128(own)))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Whether its attach is on its way, or was.
    pub(crate) fn has_sent(&self) -> bool {
        matches!(self.step, Step::UnderWay(_) | Step::Answered(_))
    }

    /// Whether it asks something of the ledger now.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.step, Step::Waiting | Step::Asking(_))
    }

    /// What it asks for when its turn begins.
    pub(crate) fn asking(&self, ticket: Ticket) -> ReserveRequest {
        let (uid, eni) = (self.uid(), id(self.eni));
        ReserveRequest::new(match self.resends {
            Some(_) => Command::Resend { ticket, uid, eni },
            None => Command::Acquire(Acquire {
                ticket,
                uid,
                eni,
                request: None,
                caller: None,
                trace: None,
                mode: Mode::Reserve,
                confirmed_since: eni_gateway::model::Timestamp::default(),
            }),
        })
    }
}

/// A refusal that is final.
pub(crate) fn refusal() -> SendResult {
    SendResult::Refused(Failure::new(Reason::NetworkMismatch, "another network"))
}

/// A refusal for the ENI's status.
pub(crate) fn conflict() -> SendResult {
    SendResult::StatusConflict(Failure::new(Reason::EniNotAvailable, "not available"))
}
