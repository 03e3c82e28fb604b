//! Queries and changes of an attempt's state.

use std::mem;

use crate::model::{Failure, State, Timestamp, Unknown};

use super::attempt::{AttemptState, Failed, InFlight, Unconfirmed};

impl InFlight {
    /// The data of an attempt that is due at this time.
    #[must_use]
    pub fn new(due_at: Timestamp) -> Self {
        Self { due_at, ..Self::default() }
    }
}

impl Unconfirmed {
    /// Doubt from a Describe call sent at `since`. The ENI is described again at `due_at`.
    #[must_use]
    pub fn new(since: Timestamp, due_at: Timestamp) -> Self {
        Self { since, due_at, unknown: Unknown::default() }
    }
}

impl AttemptState {
    /// Failed for this reason.
    #[must_use]
    pub fn failed(error: Failure) -> Self {
        let unknown = Unknown::default();
        Self::Failed(Failed { error: Box::new(error), unknown })
    }

    /// The state as callers see it.
    #[must_use]
    pub const fn kind(&self) -> State {
        match self {
            Self::Pending(_) => State::Pending,
            Self::Verifying(_) | Self::Resendable(_) => State::Verifying,
            Self::Attaching(_) => State::Attaching,
            Self::Attached(_) => State::Attached,
            Self::Failed(_) => State::Failed,
            Self::Detaching(_) => State::Detaching,
            Self::Detached(_) => State::Detached,
            Self::Unknown(_) => State::Unknown,
        }
    }

    /// Its data while the attach is in flight.
    #[must_use]
    pub const fn in_flight(&self) -> Option<&InFlight> {
        match self {
            Self::Pending(flight)
            | Self::Verifying(flight)
            | Self::Resendable(flight)
            | Self::Attaching(flight) => Some(flight),
            _ => None,
        }
    }

    /// As above, mutable.
    pub const fn in_flight_mut(&mut self) -> Option<&mut InFlight> {
        match self {
            Self::Pending(flight)
            | Self::Verifying(flight)
            | Self::Resendable(flight)
            | Self::Attaching(flight) => Some(flight),
            _ => None,
        }
    }

    /// Moves an attach in flight to `next`, with its data.
    pub fn advance(&mut self, next: impl FnOnce(InFlight) -> Self) {
        if let Some(flight) = self.in_flight_mut() {
            *self = next(mem::take(flight));
        }
    }

    /// Keeps ENS's refusal of an attach in flight, which is then not sent again.
    pub fn refuse(&mut self, refusal: Failure) {
        if matches!(self, Self::Resendable(_)) {
            self.advance(Self::Verifying);
        }
        if let Some(flight) = self.in_flight_mut() {
            flight.refusal = Some(refusal.into());
        }
    }

    /// When the ENI is described next. `None` if nothing is in flight, or the state is unknown.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Attached(attached) => {
                attached.unconfirmed.as_ref().map(|unconfirmed| unconfirmed.due_at)
            }
            Self::Detaching(detaching) => Some(detaching.due_at),
            _ => self.in_flight().map(|flight| flight.due_at),
        }
    }

    /// As above, mutable.
    pub fn due_at_mut(&mut self) -> Option<&mut Timestamp> {
        match self {
            Self::Attached(attached) => {
                attached.unconfirmed.as_mut().map(|unconfirmed| &mut unconfirmed.due_at)
            }
            Self::Detaching(detaching) => Some(&mut detaching.due_at),
            _ => self.in_flight_mut().map(|flight| &mut flight.due_at),
        }
    }

    /// Sets the next poll of an attaching or detaching ENI, and whether it is stuck.
    pub fn schedule(&mut self, due_at: Timestamp, stuck: bool) {
        match self {
            Self::Detaching(detaching) => (detaching.due_at, detaching.stuck) = (due_at, stuck),
            _ => {
                if let Some(flight) = self.in_flight_mut() {
                    (flight.due_at, flight.stuck) = (due_at, stuck);
                }
            }
        }
    }

    /// Whether it has been attaching or detaching for longer than `tracker.stuck_after`.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        match self {
            Self::Detaching(detaching) => detaching.stuck,
            _ => self.in_flight().is_some_and(|flight| flight.stuck),
        }
    }

    /// ENS's refusal of a copy, while the attach is in flight.
    #[must_use]
    pub fn refusal(&self) -> Option<&Failure> {
        self.in_flight()?.refusal.as_deref()
    }

    /// The reason of the failure.
    #[must_use]
    pub const fn error(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failed) => Some(&failed.error),
            _ => None,
        }
    }

    /// Whether the newest Describe call does not show an attached ENI in use here.
    #[must_use]
    pub const fn is_unconfirmed(&self) -> bool {
        matches!(self, Self::Attached(attached) if attached.unconfirmed.is_some())
    }

    /// Truncates texts from ENS to what a record has room for.
    pub fn trim(&mut self) {
        match self {
            Self::Failed(failed) => failed.error.trim(),
            _ => {
                let refusal = self.in_flight_mut().and_then(|flight| flight.refusal.as_mut());
                refusal.into_iter().for_each(|refusal| refusal.trim());
            }
        }
    }

    /// Approximate size in bytes, as JSON as in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let data = match self {
            Self::Failed(failed) => failed.error.size() + failed.unknown.size(),
            Self::Attached(attached) => {
                let unconfirmed = attached.unconfirmed.as_ref();
                attached.unknown.size()
                    + unconfirmed.map_or(0, |unconfirmed| 70 + unconfirmed.unknown.size())
            }
            Self::Detaching(detaching) => 30 + detaching.unknown.size(),
            Self::Detached(detached) => detached.unknown.size(),
            Self::Unknown(fields) => {
                let fields = fields.iter();
                fields.map(|(name, value)| name.len() + value.to_string().len() + 4).sum()
            }
            Self::Pending(flight)
            | Self::Verifying(flight)
            | Self::Resendable(flight)
            | Self::Attaching(flight) => {
                let refusal = flight.refusal.as_deref().map_or(0, Failure::size);
                let superseded = flight.superseded.as_ref().map_or(0, |attempt| attempt.size());
                30 + refusal + superseded + flight.unknown.size()
            }
        };
        20 + data
    }
}

#[cfg(test)]
impl AttemptState {
    /// The simplest state of this kind.
    pub(crate) fn of(kind: State) -> Self {
        match kind {
            State::Pending => Self::Pending(InFlight::default()),
            State::Verifying => Self::Verifying(InFlight::default()),
            State::Attaching => Self::Attaching(InFlight::default()),
            State::Attached => Self::Attached(super::Attached::default()),
            State::Failed => Self::failed(Failure::new(crate::model::Reason::AttachFailed, "")),
            State::Detaching => Self::Detaching(super::Detaching::default()),
            State::Detached => Self::Detached(super::Detached::default()),
            State::Unknown => Self::Unknown(serde_json::Map::new()),
        }
    }
}
