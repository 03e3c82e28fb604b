//! The steps of an attempt's owner, from the lock to the written answer: what it asks for next, and where each answer leads. Pure;
//! those who drive an attempt take them, and the model (`tests/model`) explores the same ones.
//!
//! ```text
//!  Asking ─────────► Reserved ─► Confirmed ─► UnderWay ─► Answered ─► written
//!    ▲  └► describe     │            │                       ▲
//!    └────────┘         └────────────┴── not to be sent ─────┘
//! ```

use crate::ledger::command::{Command, LeaseGrant, ObservedEni, Reply, SendResult};
use crate::ledger::record::Attempt;
use crate::ledger::{SafetyCheck, SafetyChecks};
use crate::model::Timestamp;

/// Asks the ledger for the lock, a slot and the right to one send.
#[derive(Debug, Clone, PartialEq)]
pub struct ReserveRequest {
    want: Command,
    observed: Option<(Timestamp, Vec<ObservedEni>)>,
}

/// Where the ledger's reply leads.
#[derive(Debug)]
pub enum NextStep {
    /// To a send.
    Reserved(Reserved),
    /// To a describe of the instance, under the lock; then [`ReserveRequest::on_observation`].
    Describe,
    /// Nothing is reserved, for the reply's reason.
    Nothing,
}

impl ReserveRequest {
    /// For an attempt of its own ([`Command::Acquire`]), or to send one again ([`Command::Resend`]).
    #[must_use]
    pub fn new(want: Command) -> Self {
        Self { want, observed: None }
    }

    /// What to ask of the ledger. While the reply is not known the same is asked again.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.observed {
            None => self.want.clone(),
            Some((sent_at, rows)) => Command::Observe {
                sent_at: *sent_at,
                rows: rows.clone(),
                then: Some(Box::new(self.want.clone())),
            },
        }
    }

    /// The ledger replied, under this epoch.
    pub fn on_reply(&mut self, reply: &Reply, epoch: &str) -> NextStep {
        let saw = self.observed.take().is_some();
        match reply {
            Reply::Reserved { grant, attempt, .. } => NextStep::Reserved(Reserved {
                lease: *grant,
                attempt: attempt.clone(),
                epoch: epoch.to_owned(),
            }),
            // An observation that is stale already is not repeated at once.
            Reply::Granted { stale: true, .. } if !saw => NextStep::Describe,
            _ => NextStep::Nothing,
        }
    }

    /// ENS, asked at `sent_at`, showed these ENIs on the instance: recorded with the next command.
    pub fn on_observation(&mut self, sent_at: Timestamp, rows: Vec<ObservedEni>) {
        self.observed = Some((sent_at, rows));
    }
}

/// Has the lock, a slot, and a written send. The ledger may still lose them.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserved {
    lease: LeaseGrant,
    attempt: Box<Attempt>,
    epoch: String,
}

impl Reserved {
    /// The grant, and when its lease ends.
    #[must_use]
    pub fn lease(&self) -> LeaseGrant {
        self.lease
    }

    /// The attempt, as written.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Under which epoch it was written.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether the ledger remembers it whatever fails now.
    ///
    /// # Errors
    /// What is not confirmed is not sent, and taken back.
    pub fn confirmed<E>(self, confirmation: Result<(), E>) -> Result<Confirmed, (Completed, E)> {
        match confirmation {
            Ok(()) => Ok(Confirmed(self)),
            Err(error) => Err((self.complete(SendResult::NoEffect), error)),
        }
    }

    fn complete(self, answer: SendResult) -> Completed {
        Completed { reserved: self, answer }
    }
}

/// The ledger will remember it: to be sent, if the lease lasts for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed(Reserved);

impl Confirmed {
    /// What is to be sent.
    #[must_use]
    pub fn reserved(&self) -> &Reserved {
        &self.0
    }

    /// The last check before the send: whether the lease lasts for it. Nothing is awaited between the check and the send.
    ///
    /// # Errors
    /// What is too late is not sent, and taken back.
    pub fn check_lease(self, lasts: bool, rules: &SafetyChecks) -> Result<InFlight, Completed> {
        if lasts || !rules.enabled(SafetyCheck::Lease) {
            Ok(InFlight(self.0))
        } else {
            Err(self.0.complete(SendResult::NoEffect))
        }
    }
}

/// Sent, or about to be; its answer is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct InFlight(Reserved);

impl InFlight {
    /// What was sent.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.0.attempt
    }

    /// ENS answered, or will not any more.
    #[must_use]
    pub fn complete(self, answer: SendResult) -> Completed {
        self.0.complete(answer)
    }
}

/// Its answer is known, and to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    reserved: Reserved,
    answer: SendResult,
}

impl Completed {
    /// What was sent, or was not.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.reserved.attempt
    }

    /// How it was answered.
    #[must_use]
    pub fn answer(&self) -> &SendResult {
        &self.answer
    }

    /// Writes the answer, whatever became of the lock meanwhile, and releases the lock with it if nobody goes on under it.
    #[must_use]
    pub fn command(&self, release: bool) -> Command {
        Command::RecordSendResult {
            attempt: self.reserved.attempt.clone(),
            grant: self.reserved.lease.token,
            answer: self.answer.clone(),
            release,
        }
    }
}
