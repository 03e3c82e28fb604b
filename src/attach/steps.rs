//! The steps from the lock to the recorded result: the next request, and the step after each reply.
//! Pure: attaches and resends use them, and the model (`tests/model`) explores them.
//!
//! ```text
//!  ReserveRequest ──► Reserved ─► Confirmed ─► SentAttempt ─► Completed ─► recorded
//!    ▲    └► observe       │           │                        ▲
//!    └───────┘             └───────────┴──── not to be sent ────┘
//! ```

use std::sync::Arc;

use crate::ledger::command::{Command, LeaseGrant, ObservedEni, Reply, SendResult};
use crate::ledger::record::Attempt;
use crate::model::Timestamp;

/// A request for the lock, a slot and the right to one send.
#[derive(Debug, Clone, PartialEq)]
pub struct ReserveRequest {
    want: Command,
    observed: Option<(Timestamp, Vec<ObservedEni>)>,
    needs_observation: bool,
}

impl ReserveRequest {
    /// A request for a new attempt ([`Command::Acquire`]) or a resend ([`Command::Resend`]).
    #[must_use]
    pub fn new(want: Command) -> Self {
        Self { want, observed: None, needs_observation: false }
    }

    /// The command to execute. It stays the same while the reply is unknown.
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

    /// The reservation, if the reply under this epoch is one.
    pub fn on_reply(&mut self, reply: &Reply, epoch: &Arc<str>) -> Option<Reserved> {
        let observed = self.observed.take().is_some();
        // A stale observation is not repeated at once.
        self.needs_observation = matches!(reply, Reply::Granted { stale: true, .. }) && !observed;
        match reply {
            Reply::Reserved { grant, attempt, .. } => {
                Some(Reserved { lease: *grant, attempt: attempt.clone(), epoch: epoch.clone() })
            }
            _ => None,
        }
    }

    /// Whether [`ReserveRequest::on_observation`] needs an observation under the lock.
    #[must_use]
    pub fn needs_observation(&self) -> bool {
        self.needs_observation
    }

    /// Adds an observation of the instance, sent at `sent_at`, to the next command.
    pub fn on_observation(&mut self, sent_at: Timestamp, rows: Vec<ObservedEni>) {
        self.observed = Some((sent_at, rows));
        self.needs_observation = false;
    }
}

/// A reservation with lock, slot and recorded send. The ledger may still lose it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserved {
    lease: LeaseGrant,
    attempt: Arc<Attempt>,
    epoch: Arc<str>,
}

impl Reserved {
    /// The grant and the end of its lease.
    #[must_use]
    pub fn lease(&self) -> LeaseGrant {
        self.lease
    }

    /// The attempt as recorded.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// The epoch of the record.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The reservation that the ledger keeps whatever fails.
    ///
    /// # Errors
    /// An unconfirmed reservation is not sent, and withdrawn.
    pub fn confirmed<E>(self, confirmation: Result<(), E>) -> Result<Confirmed, (Completed, E)> {
        match confirmation {
            Ok(()) => Ok(Confirmed(self)),
            Err(error) => Err((self.complete(SendResult::NoEffect), error)),
        }
    }

    fn complete(self, result: SendResult) -> Completed {
        Completed { reserved: self, result }
    }
}

/// A confirmed reservation, to be sent if the lease lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed(Reserved);

impl Confirmed {
    /// The reservation.
    #[must_use]
    pub fn reserved(&self) -> &Reserved {
        &self.0
    }

    /// The last check before the send. Nothing is awaited in between.
    ///
    /// # Errors
    /// The lease is too short; the reservation is withdrawn.
    pub fn check_lease(self, lasts: bool) -> Result<SentAttempt, Completed> {
        if lasts { Ok(SentAttempt(self.0)) } else { Err(self.0.complete(SendResult::NoEffect)) }
    }
}

/// A send whose answer is awaited.
#[derive(Debug, Clone, PartialEq)]
pub struct SentAttempt(Reserved);

impl SentAttempt {
    /// The attempt that was sent.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.0.attempt
    }

    /// Completes the send with its result.
    #[must_use]
    pub fn complete(self, result: SendResult) -> Completed {
        self.0.complete(result)
    }
}

/// A result that is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    reserved: Reserved,
    result: SendResult,
}

impl Completed {
    /// The attempt.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.reserved.attempt
    }

    /// The result of the send.
    #[must_use]
    pub fn result(&self) -> &SendResult {
        &self.result
    }

    /// The command that records the result, whatever holds the lock. `release` also releases the
    /// lock.
    #[must_use]
    pub fn command(&self, release: bool) -> Command {
        Command::RecordSendResult {
            attempt: self.reserved.attempt.clone(),
            token: self.reserved.lease.token,
            result: self.result.clone(),
            release,
        }
    }
}
