//! What the ledger remembers of one instance: the lock, the queue, the observation, the attempts. Stored as JSON; fields
//! that this version does not know are kept.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{Attachment, Caller, Failure, Fence, InterfaceId, RequestId, Revision, Ticket, Timestamp, Uid};

/// The format that this version writes. It reads this one and the one before.
pub const FORMAT: u32 = 1;

/// The record of one instance. The default is that of an instance never seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The [`FORMAT`] it was written in.
    pub format: u32,
    /// The incarnation of its partition at the last write; at another one, lock, queue and observation are void.
    pub incarnation: String,
    /// The last revision given to any attachment.
    pub revision: Revision,
    /// The last fence given to any grant.
    pub fence: Fence,
    /// Who may touch the instance now.
    pub lock: Option<Grant>,
    /// Who waits for it, first come first.
    pub queue: VecDeque<Waiter>,
    /// What the last describe of the instance showed.
    pub observation: Option<Observation>,
    /// ENIs settled here, and when: they occupy until an observation sent later than that plus the lag.
    pub settled: BTreeMap<InterfaceId, Timestamp>,
    /// A limit that ENS itself enforced.
    pub learned_limit: Option<LearnedLimit>,
    /// The newest attempt of each ENI.
    pub attempts: BTreeMap<InterfaceId, Attempt>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            format: FORMAT,
            incarnation: String::new(),
            revision: Revision::default(),
            fence: Fence::default(),
            lock: None,
            queue: VecDeque::new(),
            observation: None,
            settled: BTreeMap::new(),
            learned_limit: None,
            attempts: BTreeMap::new(),
            unknown: Map::new(),
        }
    }
}

/// The lock, held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose it is.
    pub ticket: Ticket,
    /// Which grant it is.
    pub fence: Fence,
    /// When the lease ends; for a provisional grant, when it lapses.
    pub expires_at: Timestamp,
    /// Handed over, and not yet confirmed by the grantee's next poll.
    pub provisional: bool,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Whose it is.
    pub ticket: Ticket,
    /// When it is dead unless polled again.
    pub expires_at: Timestamp,
}

/// What a describe of the instance showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When the describe was sent.
    pub sent_at: Timestamp,
    /// The ENIs that occupied a slot.
    pub occupied: Vec<InterfaceId>,
    /// How long it is good for.
    pub good_for: Duration,
}

impl Observation {
    /// When it is too old to decide by.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.sent_at + self.good_for
    }
}

/// A limit below the configured one, learnt from ENS's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedLimit {
    /// How many ENIs the instance had when ENS refused one more.
    pub limit: usize,
    /// When that attach was sent.
    pub at: Timestamp,
    /// When it is forgotten.
    pub until: Timestamp,
}

/// An attachment with what it takes to bring it to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// As callers see it.
    pub attachment: Attachment,
    /// Whether it holds a slot beside what ENS shows.
    pub reserved: bool,
    /// Whether this gateway sent it; otherwise others made it and ENS showed it.
    pub ours: bool,
    /// When the lease ends under which its owner may still send.
    pub owned_until: Timestamp,
    /// Every send, written before it went out.
    pub sends: Vec<Send>,
    /// When the newest describe that was recorded for it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub described_at: Option<Timestamp>,
    /// When the first describe that showed it attaching was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attaching_seen_at: Option<Timestamp>,
    /// When the last describe that showed the ENI on this instance before the reserve was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here_before: Option<Timestamp>,
    /// What ENS said to a copy that it refused while another copy is unanswered, or while its status is re-read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Failure>,
    /// How often it was looked at since the last send.
    pub looks: u32,
    /// When to look at it next; `None`: nothing is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The trace of the RPC that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// The request id that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestKey>,
    /// The ended attempt of the same ENI that it took the place of; back again if it is withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Box<Attachment>>,
}

impl Attempt {
    /// Which attempt it is.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.attachment.uid
    }

    /// The last send, if any.
    #[must_use]
    pub fn last_send(&self) -> Option<&Send> {
        self.sends.last()
    }

    /// Whether a send may still be applied for all that ENS answered.
    #[must_use]
    pub fn has_unanswered_send(&self) -> bool {
        self.sends.iter().any(|send| !send.answered)
    }
}

/// One `AttachNetworkInterface`, written before it went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// Not before its `x-acs-date`.
    pub at: Timestamp,
    /// Whether ENS's answer settled this copy.
    pub answered: bool,
}

/// W3C trace context, as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TraceContext {
    /// `traceparent`, with its sampled flag.
    pub parent: String,
    /// `tracestate`; often empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
}

/// A request id in its scope; the instance is the record's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// Who sent it.
    pub caller: Caller,
    /// The id.
    pub id: RequestId,
}

/// What is remembered of a request id, for 24 hours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// The ENI that it named.
    pub eni: InterfaceId,
    /// The attempt that it began or joined.
    pub uid: Uid,
    /// The definite answer, once there is one: the attachment as accepted, or as refused (then with its `error`).
    pub answer: Option<Attachment>,
}
