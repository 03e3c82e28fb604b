//! An ENI on an instance as callers see it, and its states.

use serde::{Deserialize, Serialize};

use super::stored::{Open, stored};
use super::{Failure, InstanceId, InterfaceId, Revision, Timestamp, Uid, Unknown};

/// Maximum number of kept transitions. The first one stays; the oldest after it are dropped.
pub const MAX_TRANSITIONS: usize = 32;

/// State of an attachment. `Attached`, `Failed` and `Detached` are terminal. Within one [`Uid`]
/// only `Attached → Detaching → Detached` follows one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A slot is reserved; ENS has not answered.
    Pending,
    /// A send is unanswered; ENS's status will settle it.
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
    /// A newer version's state. This version treats it as in flight, and leaves it to the newer
    /// one.
    Unknown,
}

impl Open for State {
    const OTHER: Self = Self::Unknown;
}

impl State {
    /// The API's name, without the prefix.
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

    /// Whether nothing is in flight.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Attached | Self::Failed | Self::Detached)
    }

    /// Whether an attach is in flight.
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
    /// A state and the time of its beginning.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Transition {
        /// The state entered.
        pub state: State = open,
        /// The time.
        pub time: Timestamp,
    }
}

impl Transition {
    /// The transition to `state` at `time`.
    #[must_use]
    pub fn new(state: State, time: Timestamp) -> Self {
        let unknown = Unknown::default();
        Self { state, time, unknown }
    }
}

stored! {
    /// One attempt to attach an ENI to an instance, or an attachment that others made.
    #[derive(Clone, PartialEq, Debug)]
    pub struct Attachment {
        /// The instance.
        pub instance: InstanceId,
        /// The ENI.
        pub eni: InterfaceId,
        /// The attempt's id.
        pub uid: Uid,
        /// The current state.
        pub state: State = open,
        /// The ENI's status in ENS's words; empty before the first describe.
        pub ens_status: String = optional,
        /// Time at which the describe that showed `ens_status` was sent.
        pub observed_at: Option<Timestamp> = optional,
        /// The instance's revision at the last change of this attachment.
        pub revision: Revision,
        /// Time of the reservation, or of the first observation.
        pub created_at: Timestamp,
        /// Time of the last change.
        pub updated_at: Timestamp,
        /// ENS's RequestId of the accepted call; empty without a reply.
        pub ens_request_id: String = optional,
        /// The cause of a failure.
        pub error: Option<Failure> = optional,
        /// Every state with its time, oldest first, at most [`MAX_TRANSITIONS`].
        pub transitions: Vec<Transition>,
        /// Whether it is in flight for longer than `tracker.stuck_after`.
        pub stuck: bool = optional,
    }
}

impl Attachment {
    /// ENS's RequestId of the accepted or refused call; empty without an answer.
    #[must_use]
    pub fn last_request_id(&self) -> &str {
        let refusal = self.error.as_ref().map_or("", |error| &error.ens_request_id);
        match self.ens_request_id.as_str() {
            "" => refusal,
            accepted => accepted,
        }
    }
}
