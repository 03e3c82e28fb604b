//! The time after which the sends of an attempt can have no more effect.

use crate::ledger::bounds::Bounds;
use crate::ledger::safety_checks::SafetyCheck;
use crate::model::Timestamp;

use super::attempt::Attempt;
use super::send::SendEntry;

impl Attempt {
    /// The last send, if any.
    #[must_use]
    pub fn last_send(&self) -> Option<&SendEntry> {
        self.sends.last()
    }

    /// Whether a send may still be applied in spite of every response from ENS.
    #[must_use]
    pub fn has_unanswered_send(&self) -> bool {
        self.unanswered_sends().next().is_some()
    }

    fn unanswered_sends(&self) -> impl Iterator<Item = &SendEntry> {
        self.sends.iter().filter(|send| send.answered_at.is_none())
    }

    /// When the effect of every copy without a response is visible in every Describe call. Far in
    /// the past if all were answered.
    #[must_use]
    pub fn open_copies_show(&self, bounds: &Bounds) -> Timestamp {
        let shows = self.unanswered_sends().map(|send| send.shows_by(bounds));
        shows.max().unwrap_or_default()
    }

    /// Earliest time for a proof by absence. A Describe call sent later that shows the ENI free,
    /// elsewhere or gone proves that no send took or will take effect. An answered copy was applied
    /// before the answer, and shows at most one lag later. A copy without a response may be applied
    /// while the request is valid, and shows one lag after that.
    #[must_use]
    pub fn grace_ends(&self, bounds: &Bounds) -> Timestamp {
        let ends = self.sends.iter().map(|send| match send.answered_at {
            Some(answered_at) if bounds.enabled(SafetyCheck::GraceOfAccepted) => {
                answered_at + bounds.lag
            }
            None if bounds.enabled(SafetyCheck::GraceOfUnanswered) => send.shows_by(bounds),
            Some(_) | None => send.at,
        });
        ends.max().unwrap_or(self.in_flight_since() + bounds.lag)
    }
}
