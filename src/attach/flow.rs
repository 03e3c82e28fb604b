//! The steps of an attempt and their data. The driver is in `attach.rs`.

use std::time::Duration;

use tokio::time::Instant;

use crate::admission::AdmissionPermit;
use crate::model::{Attachment, Failure, Uid};

use super::send_permit::SendPermit;
use super::steps::{Completed, ReserveRequest, Reserved};

/// The next step of an attempt.
pub(super) enum Step {
    /// Queries what needs no lock, and waits for the head of the instance's queue.
    Enter,
    /// Waits for a place among the attaches to unknown instances.
    AwaitPlace,
    /// Describes an instance that the ledger, or at least this replica, does not know.
    Discover(AdmissionPermit),
    /// Takes permit and credentials for a send, if no other ticket is ahead.
    Prepare,
    /// Waits for permit and credentials without the lock. The failure is that of the credentials.
    AwaitPermit(Option<Box<Failure>>),
    /// Takes the lock and a slot, and records the send.
    Reserve(Box<Reserving>),
    /// Observes the instance, under the lock, for the reservation.
    Observe(Box<Reserving>),
    /// Sends the attach.
    Send(Box<Reserved>, SendPermit),
    /// Records the result of the send, and releases the lock.
    Record(Box<Sent>),
    /// Observes the ENI, which is attached by the ledger's record.
    Refresh,
    /// Waits for the outcome of an attempt that is not settled, outside the queue.
    AwaitOutcome(PendingOutcome),
    /// Answers the caller.
    Done(Box<Attachment>),
}

/// A reservation that is requested, with what its send needs.
pub(super) struct Reserving {
    pub(super) request: ReserveRequest,
    pub(super) permit: SendPermit,
    /// Whether a reply was lost, so that the reservation may exist.
    pub(super) in_doubt: bool,
}

/// A send without effect: the pause before a retry, and the reason.
pub(super) type NoEffect = (Duration, Failure);

/// A send, with its result for the ledger and for the caller.
pub(super) struct Sent {
    pub(super) completed: Completed,
    pub(super) no_effect: Option<NoEffect>,
    /// Whether the commit of the result also releases the lock.
    pub(super) release: bool,
    pub(super) at: Instant,
}

impl Sent {
    pub(super) fn pending(&self, sent: bool) -> PendingOutcome {
        let uid = self.completed.attempt().uid;
        PendingOutcome { uid, sent }
    }
}

/// An unsettled attempt that is awaited.
#[derive(Clone, Copy)]
pub(super) struct PendingOutcome {
    pub(super) uid: Uid,
    /// Whether this call sent it, or may have. It must then not report that nothing was sent.
    pub(super) sent: bool,
}
