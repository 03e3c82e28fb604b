//! Events of a caller.

use std::time::Duration;

use anstyle::Style;

use crate::cli::style::{BAD, BUSY, GOOD};
use crate::model::{InterfaceId, Reason, State};

/// Progress of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerPhase {
    /// It has called, without an answer so far.
    Calling,
    /// Its attachment is in this state.
    State(State),
    /// Its call was refused.
    Refused(Reason),
    /// Another failure than the gateway's answer: a broken connection or a timeout.
    Broken,
}

impl CallerPhase {
    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::State(State::Pending) => "PENDING",
            Self::State(State::Verifying) => "VERIFYING",
            Self::State(State::Attaching) => "ATTACHING",
            Self::State(State::Attached) => "ATTACHED",
            Self::State(State::Failed) => "FAILED",
            Self::State(State::Detaching) => "DETACHING",
            Self::State(State::Detached) => "DETACHED",
            Self::State(State::Unknown) => "UNKNOWN",
            Self::Refused(_) => "REFUSED",
            Self::Broken => "BROKEN",
        }
    }

    pub(super) const fn style(self) -> Style {
        match self {
            Self::Calling | Self::State(State::Detached) => Style::new(),
            Self::State(State::Attached) => GOOD,
            Self::State(State::Failed) | Self::Refused(_) | Self::Broken => BAD,
            Self::State(_) => BUSY,
        }
    }
}

/// An event of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoEvent {
    /// The caller, from 1.
    pub caller: usize,
    /// Its ENI.
    pub eni: InterfaceId,
    /// Its progress.
    pub phase: CallerPhase,
    /// Time since the start of the demo.
    pub at: Duration,
    /// Details; may be empty.
    pub detail: String,
}
