//! What may be done to an instance's record, and what comes back.

use std::time::Duration;

use crate::model::{Failure, Fence, InstanceId, InterfaceId, Ticket, Timestamp, Uid};

use super::record::{Attempt, RequestEntry, RequestKey, TraceContext};

/// One step on one instance's record.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Reads, and changes nothing.
    Read,
    /// Answers an attach from what is known, or takes a place in the queue, the lock, a slot and the right to one send: as far
    /// as it gets.
    Acquire(Acquire),
    /// Takes the right to another send for an attempt that went unanswered, as for a first one.
    Resend {
        /// Who wants the lock.
        ticket: Ticket,
        /// Whose resend.
        uid: Uid,
        /// Of which ENI.
        eni: InterfaceId,
    },
    /// Records what a describe of the whole instance showed, and goes on with `then` in the same commit.
    Observe {
        /// When the describe was sent, by the ledger's clock.
        sent_at: Timestamp,
        /// Every row of the answer.
        rows: Vec<ObservedEni>,
        /// What the holder of the lock wanted it for.
        then: Option<Box<Command>>,
    },
    /// Records how a send was answered.
    RecordSendResult {
        /// The attempt as it was when it was sent: written anew if the ledger lost it.
        attempt: Box<Attempt>,
        /// The grant under which it was sent.
        grant: LockToken,
        /// How it was answered.
        answer: SendResult,
        /// Whether the lock is released in the same commit.
        release: bool,
    },
    /// Records what describes by id showed of attempts under way.
    RecordStatuses {
        /// When the describe was sent, by the ledger's clock.
        sent_at: Timestamp,
        /// What it showed.
        findings: Vec<(InterfaceId, EniObservation)>,
    },
    /// After an observation that was made for nothing else: puts what nobody drives back into the queue, and says what differed.
    Reconcile,
    /// Leaves the queue, or releases the lock.
    Release {
        /// Whose place.
        ticket: Ticket,
    },
}

/// The parts of [`Command::Acquire`].
#[derive(Debug, Clone, PartialEq)]
pub struct Acquire {
    /// Who wants the lock.
    pub ticket: Ticket,
    /// The attempt, should it come to one.
    pub uid: Uid,
    /// The ENI.
    pub eni: InterfaceId,
    /// The caller's request id.
    pub request: Option<RequestKey>,
    /// The trace of the RPC.
    pub trace: Option<TraceContext>,
    /// How far it may go.
    pub mode: Mode,
    /// What ENS was asked before this time does not affirm that the ENI is attached.
    pub confirmed_since: Timestamp,
}

/// How far an [`Acquire`] may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Answers from what is known; takes nothing.
    Query,
    /// Takes a place in the queue, or the lock; reserves nothing.
    Enqueue,
    /// Reserves a slot and writes the send: the permit for it is at hand.
    Reserve,
}

/// A grant as its holder names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockToken {
    /// Whose it is.
    pub ticket: Ticket,
    /// Which grant it is.
    pub fence: Fence,
}

/// One row of a describe of the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedEni {
    /// The ENI.
    pub eni: InterfaceId,
    /// What its row says of it.
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
    /// Not on it (`Available`), though the row stood in the answer.
    Available,
    /// Another word: it occupies.
    Other,
}

/// What a describe by id showed of one ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EniObservation {
    /// It names this instance.
    Here {
        /// How.
        status: ObservedStatus,
        /// Verbatim.
        text: String,
    },
    /// It names another instance.
    Elsewhere {
        /// Which.
        instance: InstanceId,
        /// Verbatim.
        text: String,
    },
    /// It is free.
    Available {
        /// Verbatim.
        text: String,
    },
    /// Asked for alone, it was not there.
    Missing,
    /// Nothing that settles anybody: attaching without an instance, deleting, an unknown word, a failed describe.
    Unclear {
        /// Verbatim; empty after a failed describe.
        text: String,
    },
}

impl EniObservation {
    /// The ENI's status, verbatim; empty where there was none.
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
    /// The request id that it decides by.
    #[must_use]
    pub fn request(&self) -> Option<&RequestKey> {
        match self {
            Self::Acquire(enter) => enter.request.as_ref(),
            Self::Observe { then, .. } => then.as_ref().and_then(|then| then.request()),
            _ => None,
        }
    }
}

/// How one send was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum SendResult {
    /// ENS took it.
    Accepted {
        /// ENS's RequestId.
        ens_request_id: String,
    },
    /// ENS refused it.
    Refused(Failure),
    /// ENS refused it for the ENI's status: a re-read says what that means.
    StatusConflict(Failure),
    /// ENS refused it by a code that proves nothing: it may still be applied, and is not sent again.
    Unproven(Failure),
    /// It never went out, nothing reached ENS, or ENS throttled it: as if it had never been written.
    NoEffect,
    /// Nobody knows.
    NoResponse,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Command::Read`], and to whatever else has nothing more to say.
    Ok,
    /// This request id had its definite answer before.
    Replayed(RequestEntry),
    /// This request id came before with another ENI.
    RequestIdReused(RequestEntry),
    /// The same pair is under way: joined.
    Joined(Box<Attempt>),
    /// The ledger has it on the instance. If not `fresh`, look before believing it.
    AlreadyAttached {
        /// The attempt or foreign attachment.
        attempt: Box<Attempt>,
        /// Whether ENS showed it there since [`Acquire::confirmed_since`].
        fresh: bool,
    },
    /// The ledger has it attached, and ENS, asked since, does not show it there: either may be the past.
    Unconfirmed {
        /// From when on a describe settles it.
        until: Timestamp,
    },
    /// No slot is free.
    CapacityExceeded(CapacityExceeded),
    /// Not before this time: the ledger recovers from a loss.
    Recovering(Timestamp),
    /// Somebody else holds the lock.
    Queued {
        /// How many stand before.
        ahead: usize,
    },
    /// To [`Mode::Query`]: nothing known stands against it.
    Admissible,
    /// The lock is held, and nothing is reserved yet.
    Granted {
        /// The grant.
        grant: LeaseGrant,
        /// Whether the observation is too old: describe the instance first.
        stale: bool,
        /// Slots that are left by what is known.
        room: usize,
    },
    /// The lock is held, a slot reserved, the send written: send it.
    Reserved {
        /// The grant.
        grant: LeaseGrant,
        /// As written.
        attempt: Box<Attempt>,
        /// Slots that are left after this one.
        room: usize,
    },
    /// The attempts that the command spoke of, as they stand now.
    Attempts(Vec<AttemptUpdate>),
    /// To [`Command::Reconcile`]: what differed, and is put right.
    Reconciled(ReconcileReport),
    /// The grant or the attempt that the command named is gone.
    NotFound,
}

/// In what the ledger and ENS differed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// ENIs that ENS shows on the instance and the ledger did not have.
    pub adopted: usize,
    /// ENIs that the ledger had attached and ENS shows no more.
    pub detached: usize,
    /// Attempts under way that nobody drove.
    pub requeued: usize,
}

impl ReconcileReport {
    /// How many in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.adopted + self.detached + self.requeued
    }
}

/// One attempt after [`Command::RecordStatuses`] or [`Command::RecordSendResult`].
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptUpdate {
    /// As it stands now.
    pub attempt: Attempt,
    /// Whether ENS was asked and shows it free: it may be sent again.
    pub resend: bool,
}

/// The lock, held: until when, by the ledger's clock.
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
    /// ENIs that ENS shows, or was seen to have taken.
    pub attached: usize,
    /// Slots reserved beside them.
    pub in_flight: usize,
    /// When ENS was asked.
    pub observed_at: Timestamp,
    /// How long that is good for.
    pub retry_after: Duration,
}

/// What changed, for those who tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The attempt after it.
    pub attempt: Attempt,
    /// Its state before; `None` if it is new.
    pub from: Option<crate::model::State>,
    /// Whether it was found stuck only now.
    pub turned_stuck: bool,
}
