//! Commands on an instance's record, and their replies.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Caller, Failure, FencingToken, InstanceId, InterfaceId, Ticket, Timestamp, TraceContext, Uid,
};

use super::freeze::Freeze;
use super::record::{Attempt, RequestEntry, RequestKey};

/// One step on one instance's record.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Reads, and changes nothing.
    Read,
    /// Answers an attach from what is known. Otherwise takes, as far as possible, a place in the
    /// queue, the lock, a slot and the right to one send.
    Acquire(Acquire),
    /// Takes the right to another send for an attempt without a response, under the rules of a
    /// first send.
    Resend {
        /// The caller's ticket for the lock.
        ticket: Ticket,
        /// The attempt to resend.
        uid: Uid,
        /// The attempt's ENI.
        eni: InterfaceId,
    },
    /// Records what a Describe call for the whole instance showed, then runs `then` in the same
    /// commit.
    Observe {
        /// When the Describe call was sent, by the ledger's clock.
        sent_at: Timestamp,
        /// Every row of the response.
        rows: Vec<ObservedEni>,
        /// The command for which the lock holder needed the observation.
        then: Option<Box<Command>>,
    },
    /// Records the result of a send.
    RecordSendResult {
        /// The attempt as it was when it was sent. Restored from here if the ledger lost it.
        attempt: Arc<Attempt>,
        /// The token of the lock under which it was sent.
        token: LockToken,
        /// The result.
        result: SendResult,
        /// Whether the lock is released in the same commit.
        release: bool,
    },
    /// Records what Describe calls by id showed of attempts in flight.
    RecordStatuses {
        /// When the Describe call was sent, by the ledger's clock.
        sent_at: Timestamp,
        /// The observation of each ENI.
        observations: Vec<(InterfaceId, EniObservation)>,
    },
    /// Follows an observation made only for reconciliation. Schedules attempts that are missing
    /// from the due queue, and reports the drift.
    Reconcile,
    /// Leaves the queue, or releases the lock.
    Release {
        /// The ticket to remove.
        ticket: Ticket,
    },
}

/// The fields of [`Command::Acquire`].
#[derive(Debug, Clone, PartialEq)]
pub struct Acquire {
    /// The caller's ticket for the lock.
    pub ticket: Ticket,
    /// The uid of the attempt, if one begins.
    pub uid: Uid,
    /// The ENI.
    pub eni: InterfaceId,
    /// The caller's request id.
    pub request: Option<RequestKey>,
    /// The caller, where `request` does not name it.
    pub caller: Option<Caller>,
    /// The trace of the RPC.
    pub trace: Option<TraceContext>,
    /// The last step that it may take.
    pub mode: Mode,
    /// Describe calls sent before this time do not confirm that the ENI is attached.
    pub confirmed_since: Timestamp,
}

/// The last step that an [`Acquire`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Answers from what is known; takes nothing.
    Query,
    /// Takes a place in the queue, or the lock; reserves nothing.
    Enqueue,
    /// Reserves a slot and records the send. The caller already has the permit.
    Reserve,
}

/// A grant as its holder identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockToken {
    /// The holder's ticket.
    pub ticket: Ticket,
    /// The fencing token of the grant.
    pub fencing_token: FencingToken,
}

/// One row of a Describe call for the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedEni {
    /// The ENI.
    pub eni: InterfaceId,
    /// The status in its row.
    pub status: ObservedStatus,
    /// Its status, verbatim.
    pub text: String,
    /// Whether it is the instance's primary ENI.
    pub primary: bool,
}

/// A status that shows an ENI on the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedStatus {
    /// Being attached.
    Attaching,
    /// Attached.
    InUse,
    /// Being detached.
    Detaching,
    /// Not attached (`Available`), although the response had its row.
    Available,
    /// An unknown status. The ENI occupies a slot.
    Other,
}

/// What a Describe call by id showed of one ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EniObservation {
    /// The row has this instance.
    Here {
        /// The status.
        status: ObservedStatus,
        /// Verbatim.
        text: String,
    },
    /// The row has another instance.
    Elsewhere {
        /// The other instance.
        instance: InstanceId,
        /// Verbatim.
        text: String,
    },
    /// The ENI is free.
    Available {
        /// Verbatim.
        text: String,
    },
    /// A Describe call for this ENI alone returned no row.
    Missing,
    /// A result that settles nothing: attaching without an instance, deleting, an unknown status,
    /// or a failed Describe call.
    Unclear {
        /// Verbatim; empty after a failed describe.
        text: String,
    },
}

impl EniObservation {
    /// The ENI's status, verbatim. Empty where there was none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Here { text, .. } | Self::Elsewhere { text, .. } => text,
            Self::Available { text } | Self::Unclear { text } => text,
            Self::Missing => "",
        }
    }
}

impl Command {
    /// The request id whose entry the command needs.
    #[must_use]
    pub fn request(&self) -> Option<&RequestKey> {
        match self {
            Self::Acquire(wanted) => wanted.request.as_ref(),
            Self::Observe { then, .. } => then.as_ref().and_then(|then| then.request()),
            _ => None,
        }
    }
}

/// The result of one send.
#[derive(Debug, Clone, PartialEq)]
pub enum SendResult {
    /// ENS accepted it.
    Accepted {
        /// ENS's RequestId.
        ens_request_id: String,
    },
    /// ENS refused it.
    Refused(Failure),
    /// ENS refused it for the ENI's status. Another Describe call shows what that means.
    StatusConflict(Failure),
    /// ENS refused it with a code that proves nothing. It may still be applied, and is not sent
    /// again.
    Unproven(Failure),
    /// It was not sent, did not reach ENS, or ENS throttled it. The record drops the send.
    NoEffect,
    /// No usable response. The outcome is unknown.
    NoResponse,
}

/// The reply to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The reply to [`Command::Read`], and to every command without more to report.
    Ok,
    /// This request id already has a definite answer.
    Replayed(RequestEntry),
    /// This request id was already used with another ENI.
    RequestIdReused(RequestEntry),
    /// An attempt for the same ENI and instance is in flight. The caller joined it.
    Joined(Arc<Attempt>),
    /// The ledger has the ENI attached. If not `fresh`, the caller confirms it with a Describe
    /// call.
    AlreadyAttached {
        /// The attempt or external attachment.
        attempt: Arc<Attempt>,
        /// Whether a Describe call sent since [`Acquire::confirmed_since`] showed the ENI attached.
        fresh: bool,
    },
    /// The ledger has the ENI attached, but a later Describe call does not show it. Either may be
    /// out of date.
    Unconfirmed {
        /// A Describe call sent from this time on settles it.
        until: Timestamp,
    },
    /// No slot is free.
    CapacityExceeded(CapacityExceeded),
    /// Nothing is granted before this time, because the ledger recovers from a loss.
    Recovering(Timestamp),
    /// No attach begins, by an operator's order.
    Frozen(Freeze),
    /// Another ticket holds the lock.
    Queued {
        /// Number of tickets ahead.
        ahead: usize,
    },
    /// The reply to [`Mode::Query`]: nothing known prevents the attach.
    Admissible,
    /// The lock is held, and nothing is reserved yet.
    Granted {
        /// The grant.
        grant: LeaseGrant,
        /// Whether the observation is too old. The caller describes the instance first.
        stale: bool,
        /// Free slots, as far as known.
        free_slots: usize,
    },
    /// The lock is held, a slot is reserved and the send is recorded. The caller sends the request.
    Reserved {
        /// The grant.
        grant: LeaseGrant,
        /// The attempt as recorded.
        attempt: Arc<Attempt>,
        /// Free slots after this reservation.
        free_slots: usize,
    },
    /// The attempts that the command named, as they are now.
    Attempts(Vec<AttemptUpdate>),
    /// The reply to [`Command::Reconcile`]: the drift that was found and corrected.
    Reconciled(ReconcileReport),
    /// The grant or the attempt that the command named is gone.
    NotFound,
}

/// The drift between the ledger and ENS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// ENIs that ENS shows on the instance and the ledger did not have.
    pub adopted: usize,
    /// ENIs that the ledger had attached and ENS no longer shows.
    pub detached: usize,
    /// Attempts in flight that were missing from the due queue.
    pub requeued: usize,
}

impl ReconcileReport {
    /// The total.
    #[must_use]
    pub fn total(&self) -> usize {
        self.adopted + self.detached + self.requeued
    }
}

/// One attempt after [`Command::RecordStatuses`] or [`Command::RecordSendResult`].
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptUpdate {
    /// The attempt as it is now.
    pub attempt: Arc<Attempt>,
    /// Whether a Describe call shows the ENI free, so that the attempt may be sent again.
    pub resend: bool,
}

/// A held lock, and the end of its lease by the ledger's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The grant.
    pub token: LockToken,
    /// When the lease ends.
    pub expires_at: Timestamp,
}

/// A full instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityExceeded {
    /// The limit in force.
    pub limit: usize,
    /// ENIs that ENS shows, or whose attach was confirmed since.
    pub attached: usize,
    /// Slots reserved for other attempts.
    pub in_flight: usize,
    /// When the Describe call was sent.
    pub observed_at: Timestamp,
    /// How long this result is valid.
    pub retry_after: Duration,
}

/// One change of an attempt, for metrics, spans and logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The attempt after the change.
    pub attempt: Arc<Attempt>,
    /// Its state before the change. `None` for a new attempt.
    pub from: Option<crate::model::State>,
    /// Whether the change marked it as stuck.
    pub turned_stuck: bool,
}
