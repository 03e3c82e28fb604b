//! One attempt as its owner takes it, step by step: what it asks of the ledger next, and where the answer leads. The steps are
//! those of `attach.rs` and `attach/send.rs`; everything that is decided about the record is decided by `apply`.

use eni_gateway::ledger::command::{Command, Enter, Hold, Lease, Reach, Reply, SendAnswer};
use eni_gateway::ledger::record::Attempt;
use eni_gateway::model::{Failure, InterfaceId, Reason, Ticket, Uid};
use uuid::Uuid;

use crate::plan::Eni;

pub(crate) fn id(eni: Eni) -> InterfaceId {
    format!("eni-{eni}").parse().unwrap()
}

/// Where an attempt's owner is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Asks for the lock, a slot and the right to send; or, of an attempt that went unanswered, for the right to send again.
    Enter,
    /// Asks ENS who is on the instance; then enters again.
    Describe {
        sent_at: u64,
    },
    /// May send: the lease ends then; under which incarnation it was reserved, and whether Redis' replicas have that.
    Send {
        lease: Lease,
        attempt: Box<Attempt>,
        incarnation: String,
        confirmed: bool,
    },
    /// Has sent, and waits for the answer.
    Wait {
        hold: Hold,
        attempt: Box<Attempt>,
    },
    /// Writes the answer.
    Answer {
        hold: Hold,
        attempt: Box<Attempt>,
        answer: SendAnswer,
    },
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) number: u128,
    pub(crate) eni: Eni,
    /// The attempt that it sends again; otherwise it begins one.
    pub(crate) resends: Option<Uid>,
    pub(crate) step: Step,
}

impl Task {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(Uuid::from_u128(self.number))
    }

    pub(crate) fn enter(&self) -> Command {
        let (ticket, eni) = (self.ticket(), id(self.eni));
        match self.resends {
            Some(uid) => Command::Resend { ticket, uid, eni },
            None => Command::Enter(Enter {
                ticket,
                uid: Uid(Uuid::from_u128(self.number)),
                eni,
                request: None,
                trace: None,
                reach: Reach::Reserve,
            }),
        }
    }

    /// What it asks of the ledger now, if anything.
    pub(crate) fn command(&self) -> Option<Command> {
        match &self.step {
            Step::Enter => Some(self.enter()),
            Step::Answer { hold, attempt, answer } => Some(Command::Answer {
                attempt: attempt.clone(),
                grant: *hold,
                answer: answer.clone(),
                release: true,
            }),
            Step::Describe { .. } | Step::Send { .. } | Step::Wait { .. } | Step::Over => None,
        }
    }

    /// Where the ledger's reply leads.
    pub(crate) fn hears(&mut self, reply: &Reply, incarnation: &str, now: u64) {
        self.step = match (reply, &self.step) {
            (Reply::Reserved { grant, attempt, .. }, _) => Step::Send {
                lease: *grant,
                attempt: attempt.clone(),
                incarnation: incarnation.to_owned(),
                confirmed: false,
            },
            (Reply::Granted { stale: true, .. }, _) => Step::Describe { sent_at: now },
            // The poll is the acquire.
            (Reply::Queued { .. } | Reply::Recovering(_), step) => step.clone(),
            _ => Step::Over,
        };
    }
}

/// A refusal that is final.
pub(crate) fn refusal() -> SendAnswer {
    SendAnswer::Refused(Failure::new(Reason::NetworkMismatch, "another network"))
}

/// A refusal for the ENI's status.
pub(crate) fn conflict() -> SendAnswer {
    SendAnswer::Conflicting(Failure::new(Reason::EniNotAvailable, "not available"))
}
