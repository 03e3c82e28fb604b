//! An attempt to attach one ENI, or an external attachment, with its state. Each state has the data
//! that only it needs.

use serde::{Deserialize, Serialize};

use crate::ledger::bounds::MAX_SENDS;
use crate::model::attachment::MAX_TRANSITIONS;
use crate::model::failure::{MAX_WORD, cut};
use crate::model::stored::{Open, stored};
use crate::model::{
    Attachment, Caller, Failure, InstanceId, InterfaceId, Reason, Revision, Timestamp,
    TraceContext, Transition, Uid, Unknown,
};

use super::request::RequestKey;
use super::send::SendEntry;

/// Maximum kept length of `tracestate`, the minimum that the W3C requires.
const MAX_TRACE_STATE: usize = 512;

stored! {
    /// An attempt to attach one ENI to one instance, with all data needed to finish it. Also an
    /// external attachment.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Attempt {
        /// The instance.
        pub instance: InstanceId,
        /// The ENI.
        pub eni: InterfaceId,
        /// The uid of this attempt.
        pub uid: Uid,
        /// The origin of the attachment.
        pub origin: Origin = open,
        /// The state, with its data.
        pub state: AttemptState,
        /// The instance's revision at the last change of this attempt.
        pub revision: Revision,
        /// When the slot was reserved, or the external attachment first seen.
        pub created_at: Timestamp,
        /// When it last changed.
        pub updated_at: Timestamp,
        /// Every state with its time, oldest first, at most [`MAX_TRANSITIONS`].
        pub transitions: Vec<Transition>,
        /// The ENI's status in ENS's own words. Empty before the first Describe call.
        pub ens_status: String = optional,
        /// When the Describe call that showed `ens_status` was sent.
        pub observed_at: Option<Timestamp> = optional,
        /// ENS's RequestId of the accepted Attach call. Empty where the reply was lost or nothing
        /// was sent.
        pub ens_request_id: String = optional,
        /// Every send, recorded before it went out.
        pub sends: Vec<SendEntry>,
        /// Number of Describe calls since the last send.
        pub poll_count: u32,
        /// When the newest recorded Describe call for it was sent.
        pub described_at: Option<Timestamp> = optional,
        /// When the newest Describe call that showed the ENI on this instance was sent.
        pub observed_attached_at: Option<Timestamp> = optional,
        /// Whether the ENI was seen on this instance within one lag before the reservation. A row
        /// that shows it here may then be old.
        pub was_recently_attached: bool = optional,
        /// When its times restarted because the epoch changed. `created_at` may then be by another
        /// clock.
        pub restarted_at: Option<Timestamp> = optional,
        /// The trace of the RPC that began it.
        pub trace: Option<TraceContext> = optional,
        /// The request id that began it.
        pub request: Option<RequestKey> = optional,
        /// The caller that began it, where `request` does not name it.
        pub caller: Option<Caller> = optional,
    }
}

stored! {
    /// The state of an attempt. [`AttemptState::kind`] is what callers see.
    #[derive(Clone, Debug, PartialEq)]
    pub enum AttemptState {
        /// The slot is reserved and the send recorded. ENS has not answered yet.
        Pending(InFlight) = "pending",
        /// The send has no response, or the response proves nothing. The ENI's status decides.
        Verifying(InFlight) = "verifying",
        /// As `Verifying`, but a Describe call one lag after the last send shows the ENI free. It
        /// may be sent again.
        Resendable(InFlight) = "resendable",
        /// ENS accepted the request, or shows the ENI attaching here.
        Attaching(InFlight) = "attaching",
        /// ENS shows the ENI in use on this instance.
        Attached(Attached) = "attached",
        /// ENS refused the request, or the ENI is proven not to be attached by it.
        Failed(Failed) = "failed",
        /// ENS shows the ENI being detached from this instance.
        Detaching(Detaching) = "detaching",
        /// ENS no longer shows the ENI on this instance.
        Detached(Detached) = "detached",
    }
}

stored! {
    /// The data of an attempt until ENS shows the ENI in use, or the attempt fails.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct InFlight {
        /// When the ENI is described next.
        pub due_at: Timestamp,
        /// In flight for longer than `tracker.stuck_after`.
        pub stuck: bool = optional,
        /// ENS's refusal of one copy, while another copy has no response or the ENI's status is
        /// read. Nothing is sent again then.
        pub refusal: Option<Box<Failure>> = optional,
        /// The ended attempt of the same ENI that this one replaced. Restored if this one is
        /// withdrawn.
        pub superseded: Option<Box<Attempt>> = optional,
    }
}

stored! {
    /// An attached ENI.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Attached {
        /// Set while the newest Describe call does not show the ENI in use here.
        pub unconfirmed: Option<Unconfirmed> = optional,
    }
}

stored! {
    /// A Describe call does not show an attached ENI in use here. It may show the past.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Unconfirmed {
        /// When that Describe call was sent.
        pub since: Timestamp,
        /// When the ENI is described next.
        pub due_at: Timestamp,
    }
}

stored! {
    /// A detaching ENI.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Detaching {
        /// When the ENI is described next.
        pub due_at: Timestamp,
        /// In flight for longer than `tracker.stuck_after`.
        pub stuck: bool = optional,
    }
}

stored! {
    /// A failed attempt.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Failed {
        /// The reason.
        pub error: Box<Failure>,
    }
}

stored! {
    /// An ENI that is gone from the instance.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Detached {}
}

/// The origin of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A gateway sent the attach.
    Gateway,
    /// ENS showed it, and no gateway sent it.
    External,
    /// An origin that this version does not know.
    Unknown,
}

impl Open for Origin {
    const OTHER: Self = Self::Unknown;
}

impl Attempt {
    /// An attempt of this gateway with a reserved slot. Nothing is sent yet, and it is due now.
    #[must_use]
    pub fn new(instance: &InstanceId, eni: &InterfaceId, uid: Uid, now: Timestamp) -> Self {
        Self {
            instance: instance.clone(),
            eni: eni.clone(),
            uid,
            origin: Origin::Gateway,
            state: AttemptState::Pending(InFlight::new(now)),
            revision: Revision::default(),
            created_at: now,
            updated_at: now,
            transitions: Vec::new(),
            ens_status: String::new(),
            observed_at: None,
            ens_request_id: String::new(),
            sends: Vec::new(),
            poll_count: 0,
            described_at: None,
            observed_attached_at: None,
            was_recently_attached: false,
            restarted_at: None,
            trace: None,
            request: None,
            caller: None,
            unknown: Unknown::default(),
        }
    }

    /// An external attachment, first seen by a Describe call sent at `seen_at`, with this
    /// `ens_status`.
    #[must_use]
    pub fn external(
        instance: &InstanceId,
        eni: &InterfaceId,
        uid: Uid,
        state: AttemptState,
        ens_status: &str,
        seen_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let mut attempt = Self {
            origin: Origin::External,
            state,
            described_at: Some(seen_at),
            observed_attached_at: Some(seen_at),
            ..Self::new(instance, eni, uid, now)
        };
        attempt.show(ens_status, seen_at);
        attempt
    }

    /// The attempt as callers see it.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        Attachment {
            instance: self.instance.clone(),
            eni: self.eni.clone(),
            uid: self.uid,
            state: self.state.kind(),
            ens_status: self.ens_status.clone(),
            observed_at: self.observed_at,
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ens_request_id: self.ens_request_id.clone(),
            error: self.state.error().cloned(),
            transitions: self.transitions.clone(),
            stuck: self.state.is_stuck(),
            unknown: Unknown::default(),
        }
    }

    /// Records ENS's own status of the ENI, from a Describe call sent at `time`. An empty status is
    /// ignored.
    pub fn show(&mut self, ens_status: &str, time: Timestamp) {
        if !ens_status.is_empty() {
            self.observed_at = Some(time);
            ens_status.clone_into(&mut self.ens_status);
        }
    }

    /// Whether callers see another state than that of the last transition.
    #[must_use]
    pub fn has_new_state(&self) -> bool {
        self.transitions.last().map(|last| last.state) != Some(self.state.kind())
    }

    /// Records a change, and a new state as a transition. The first transition is kept when the
    /// list is full.
    pub fn stamp(&mut self, revision: Revision, now: Timestamp) {
        self.revision = revision;
        self.updated_at = now;
        if self.has_new_state() {
            if self.transitions.len() == MAX_TRANSITIONS {
                self.transitions.remove(1);
            }
            self.transitions.push(Transition::new(self.state.kind(), now));
        }
    }

    /// Truncates texts from other systems to what a record has room for.
    pub fn trim(&mut self) {
        cut(&mut self.ens_status, MAX_WORD);
        cut(&mut self.ens_request_id, MAX_WORD);
        self.state.trim();
        if let Some(trace) = self.trace.as_mut().filter(|trace| trace.state.len() > MAX_TRACE_STATE)
        {
            trace.state.clear();
        }
    }

    /// Whether ENS refused it because it knows no such instance.
    #[must_use]
    pub fn found_no_instance(&self) -> bool {
        self.state.error().is_some_and(|failure| failure.reason == Reason::InstanceNotFound)
    }

    /// Approximate size in bytes, as JSON as in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let (instance, eni) = (self.instance.as_str(), self.eni.as_str());
        let texts = [instance, eni, &self.ens_status, &self.ens_request_id].map(str::len);
        let transitions = self.transitions.iter().map(|transition| 45 + transition.unknown.size());
        let sends = self.sends.iter().map(|send| 50 + send.unknown.size());
        let lists = transitions.chain(sends).sum::<usize>();
        let trace = self.trace.as_ref();
        let trace = trace.map_or(0, |trace| 40 + trace.parent.len() + trace.state.len());
        let request = self.request.as_ref().map_or(0, |key| 80 + key.caller.0.len());
        let caller = self.caller.as_ref().map_or(0, |caller| 12 + caller.0.len());
        let parts = texts.iter().sum::<usize>() + lists + trace + request + caller;
        420 + parts + self.state.size() + self.unknown.size()
    }

    /// The caller that began it; `None` for an external attachment, and for an attempt of an older
    /// version.
    #[must_use]
    pub fn begun_by(&self) -> Option<&Caller> {
        self.request.as_ref().map(|request| &request.caller).or(self.caller.as_ref())
    }

    /// Whether a gateway sent it.
    #[must_use]
    pub fn is_from_gateway(&self) -> bool {
        self.origin == Origin::Gateway
    }

    /// Whether it takes a slot that ENS does not show: a gateway's attach in flight. An attempt in
    /// an unknown state does.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let in_flight = self.is_from_gateway() && self.state.in_flight().is_some();
        in_flight || matches!(self.state, AttemptState::Unknown(_))
    }

    /// When it began, by the ledger's present clock. Base of the time after which it counts as
    /// stuck.
    #[must_use]
    pub fn in_flight_since(&self) -> Timestamp {
        self.restarted_at.unwrap_or(self.created_at)
    }

    /// Whether ENS answered every copy, and refused the last one without proof that none was
    /// applied.
    #[must_use]
    pub fn has_status_conflict(&self) -> bool {
        self.state.refusal().is_some() && !self.has_unanswered_send()
    }

    /// Whether it has no response, a Describe call was sent since, and nothing prevents another
    /// send.
    #[must_use]
    pub fn may_be_resent(&self) -> bool {
        matches!(self.state, AttemptState::Resendable(_)) && self.sends.len() < MAX_SENDS
    }
}
