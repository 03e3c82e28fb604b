//! One ENI on one instance, as callers see it, and the states that it goes through.

use serde::{Deserialize, Serialize};

use super::failure::{MAX_WORD, cut};
use super::stored::{Open, stored};
use super::{Failure, InstanceId, InterfaceId, Revision, Timestamp, Uid, Unknown};

/// Most transitions that an attachment remembers; the oldest after the first are forgotten.
pub const MAX_TRANSITIONS: usize = 32;

/// Where an attachment stands. `Attached`, `Failed` and `Detached` are terminal: within one [`Uid`] only
/// `Attached → Detaching → Detached` follows one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A slot is reserved, nothing was answered yet.
    Pending,
    /// A send went unanswered; ENS's own status will settle it.
    Verifying,
    /// ENS accepted and is attaching.
    Attaching,
    /// ENS shows the ENI in use on this instance.
    Attached,
    /// ENS refused, or showed the ENI free again.
    Failed,
    /// ENS shows the ENI being detached.
    Detaching,
    /// ENS no longer shows the ENI on this instance.
    Detached,
    /// A state that a newer version wrote, and this one does not know: under way, as far as this version can say. It is left to
    /// the newer version.
    Unknown,
}

impl Open for State {
    const OTHER: Self = Self::Unknown;
}

impl State {
    /// Its name in the API, without the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Verifying => "VERIFYING",
            Self::Attaching => "ATTACHING",
            Self::Attached => "ATTACHED",
            Self::Failed => "FAILED",
            Self::Detaching => "DETACHING",
            Self::Detached => "DETACHED",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether nothing is under way any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Attached | Self::Failed | Self::Detached)
    }

    /// Whether an attach is under way.
    #[must_use]
    pub const fn is_attaching(self) -> bool {
        matches!(self, Self::Pending | Self::Verifying | Self::Attaching)
    }

    /// Whether `next` may follow this state within one attempt.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => !matches!(next, Self::Pending),
            Self::Verifying | Self::Attaching => !matches!(next, Self::Pending),
            Self::Attached => matches!(next, Self::Detaching | Self::Detached),
            Self::Detaching => matches!(next, Self::Detached),
            Self::Failed | Self::Detached => false,
            Self::Unknown => true,
        }
    }
}

stored! {
    /// One state and when it began.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Transition {
        /// The state entered.
        pub state: State = open,
        /// When.
        pub time: Timestamp,
    }
}

impl Transition {
    /// `state` was entered at `time`.
    #[must_use]
    pub fn new(state: State, time: Timestamp) -> Self {
        let unknown = Unknown::default();
        Self { state, time, unknown }
    }
}

stored! {
    /// One attempt to attach one ENI to one instance, or an attachment that others made and ENS shows.
    #[derive(Clone, PartialEq, Debug)]
    pub struct Attachment {
        /// The instance.
        pub instance: InstanceId,
        /// The ENI.
        pub eni: InterfaceId,
        /// This attempt.
        pub uid: Uid,
        /// Where it stands.
        pub state: State = open,
        /// The ENI's status in ENS's own words; empty before the first look.
        pub ens_status: String = optional,
        /// When the describe that showed `ens_status` was sent.
        pub observed_at: Option<Timestamp> = optional,
        /// The instance's revision at the last change of this attachment.
        pub revision: Revision,
        /// When the slot was reserved, or the attachment first seen.
        pub created_at: Timestamp,
        /// When it last changed.
        pub updated_at: Timestamp,
        /// ENS's RequestId of the accepted Attach call; empty where its reply was lost or nothing was sent.
        pub ens_request_id: String = optional,
        /// Why it failed.
        pub error: Option<Failure> = optional,
        /// Every state with its time, oldest first, at most [`MAX_TRANSITIONS`].
        pub transitions: Vec<Transition>,
        /// Under way for longer than `tracker.stuck_after`.
        pub stuck: bool = optional,
    }
}

impl Attachment {
    /// Enters `state` at `now`, with a new `revision`. The first transition is kept when the list is full.
    pub fn enter(&mut self, state: State, revision: Revision, now: Timestamp) {
        self.state = state;
        self.touch(revision, now);
        if self.transitions.len() == MAX_TRANSITIONS {
            self.transitions.remove(1);
        }
        self.transitions.push(Transition::new(state, now));
    }

    /// Takes in ENS's own word for the ENI, from a describe sent at `time`; an empty one says nothing.
    pub fn show(&mut self, ens_status: &str, time: Timestamp) {
        if !ens_status.is_empty() {
            self.observed_at = Some(time);
            ens_status.clone_into(&mut self.ens_status);
        }
    }

    /// Cuts what ENS wrote into it to what a record has room for.
    pub fn trim(&mut self) {
        cut(&mut self.ens_status, MAX_WORD);
        cut(&mut self.ens_request_id, MAX_WORD);
        self.error.iter_mut().for_each(Failure::trim);
    }

    /// About how many bytes it takes as JSON.
    #[must_use]
    pub fn size(&self) -> usize {
        let texts = [
            self.instance.as_str(),
            self.eni.as_str(),
            &self.ens_status,
            &self.ens_request_id,
        ];
        let transitions = self.transitions.iter().map(|transition| 45 + transition.unknown.size());
        let error = self.error.as_ref().map_or(0, Failure::size);
        let texts = texts.iter().map(|text| text.len()).sum::<usize>();
        270 + texts + transitions.sum::<usize>() + error + self.unknown.size()
    }

    /// ENS's RequestId of the accepted call, or of the refusal that ended it; empty if ENS answered nothing.
    #[must_use]
    pub fn last_request_id(&self) -> &str {
        let refusal = self.error.as_ref().map_or("", |error| &error.ens_request_id);
        match self.ens_request_id.as_str() {
            "" => refusal,
            accepted => accepted,
        }
    }

    /// Records a change that is no change of state.
    pub fn touch(&mut self, revision: Revision, now: Timestamp) {
        self.revision = revision;
        self.updated_at = now;
    }
}
