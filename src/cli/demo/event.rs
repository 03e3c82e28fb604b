//! What happens to a caller.

use std::time::Duration;

use anstyle::Style;

use crate::cli::output::{BAD, BUSY, GOOD};
use crate::model::{InterfaceId, Reason, State};

/// How a caller fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has called, and nothing came back yet.
    Calling,
    /// Its attachment is in this state.
    State(State),
    /// Its call was refused.
    Refused(Reason),
    /// Something else happened to it than the gateway's own answer: the connection broke, the time ran out.
    Broken,
}

impl Phase {
    /// As a word for people.
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

/// One caller's news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which caller, from 1.
    pub caller: usize,
    /// What it wants attached.
    pub eni: InterfaceId,
    /// How it fares now.
    pub phase: Phase,
    /// Since the start of the demo.
    pub at: Duration,
    /// More about it, in a few words; may be empty.
    pub detail: String,
}
