//! The steps of an attempt's owner, from the lock to the written answer: what it asks for next, and where each answer leads. Pure;
//! those who drive an attempt take them, and the model (`tests/model`) explores the same ones.
//!
//! ```text
//!  Asking ─────────► Reserved ─► Confirmed ─► UnderWay ─► Answered ─► written
//!    ▲  └► describe     │            │                       ▲
//!    └────────┘         └────────────┴── not to be sent ─────┘
//! ```

use crate::ledger::command::{Command, Lease, Reply, SendAnswer, Sight};
use crate::ledger::record::Attempt;
use crate::ledger::{Rule, Rules};
use crate::model::Timestamp;

/// Asks the ledger for the lock, a slot and the right to one send.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    want: Command,
    saw: Option<(Timestamp, Vec<Sight>)>,
}

/// Where the ledger's reply leads.
#[derive(Debug)]
pub enum Heard {
    /// To a send.
    Reserved(Reserved),
    /// To a describe of the instance, under the lock; then [`Asking::saw`].
    Describe,
    /// No further: nothing is reserved, as the reply says. Asking again begins anew.
    Nothing,
}

impl Asking {
    /// For an attempt of its own ([`Command::Enter`]), or to send one again ([`Command::Resend`]).
    #[must_use]
    pub fn new(want: Command) -> Self {
        Self { want, saw: None }
    }

    /// What to ask of the ledger. While the reply is not known the same is asked again.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.saw {
            None => self.want.clone(),
            Some((sent_at, rows)) => Command::Observe {
                sent_at: *sent_at,
                rows: rows.clone(),
                then: Some(Box::new(self.want.clone())),
            },
        }
    }

    /// The ledger replied, under this incarnation.
    pub fn hears(&mut self, reply: &Reply, incarnation: &str) -> Heard {
        let saw = self.saw.take().is_some();
        match reply {
            Reply::Reserved { grant, attempt, .. } => Heard::Reserved(Reserved {
                lease: *grant,
                attempt: attempt.clone(),
                incarnation: incarnation.to_owned(),
            }),
            // What is stale at birth is not asked for at once again.
            Reply::Granted { stale: true, .. } if !saw => Heard::Describe,
            _ => Heard::Nothing,
        }
    }

    /// ENS, asked at `sent_at`, showed these ENIs on the instance: recorded with the next command.
    pub fn saw(&mut self, sent_at: Timestamp, rows: Vec<Sight>) {
        self.saw = Some((sent_at, rows));
    }
}

/// Has the lock, a slot, and a written send. The ledger may still lose them.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserved {
    lease: Lease,
    attempt: Box<Attempt>,
    incarnation: String,
}

impl Reserved {
    /// The grant, and when its lease ends.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// The attempt, as written.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Under which incarnation it was written.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// Whether the ledger remembers it whatever fails now.
    ///
    /// # Errors
    /// What is not confirmed is not sent, and taken back.
    pub fn confirmed<E>(self, confirmation: Result<(), E>) -> Result<Confirmed, (Answered, E)> {
        match confirmation {
            Ok(()) => Ok(Confirmed(self)),
            Err(error) => Err((self.answered(SendAnswer::Void), error)),
        }
    }

    fn answered(self, answer: SendAnswer) -> Answered {
        Answered { reserved: self, answer }
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
    pub fn sends(self, lasts: bool, rules: &Rules) -> Result<UnderWay, Answered> {
        if lasts || !rules.hold(Rule::Lease) {
            Ok(UnderWay(self.0))
        } else {
            Err(self.0.answered(SendAnswer::Void))
        }
    }
}

/// Sent, or about to be; its answer is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct UnderWay(Reserved);

impl UnderWay {
    /// What was sent.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.0.attempt
    }

    /// ENS answered, or will not any more.
    #[must_use]
    pub fn answered(self, answer: SendAnswer) -> Answered {
        self.0.answered(answer)
    }
}

/// Its answer is known, and to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    reserved: Reserved,
    answer: SendAnswer,
}

impl Answered {
    /// What was sent, or was not.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.reserved.attempt
    }

    /// How it was answered.
    #[must_use]
    pub fn answer(&self) -> &SendAnswer {
        &self.answer
    }

    /// Writes the answer, whatever became of the lock meanwhile, and releases the lock with it if nobody goes on under it.
    #[must_use]
    pub fn command(&self, release: bool) -> Command {
        Command::Answer {
            attempt: self.reserved.attempt.clone(),
            grant: self.reserved.lease.hold,
            answer: self.answer.clone(),
            release,
        }
    }
}
