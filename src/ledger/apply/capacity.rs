//! How many slots are taken: what ENS shows, what was settled since it was asked, what is reserved.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{InterfaceId, State};

use super::super::bounds::{CLOCK_TOLERANCE, OBSERVATION_LIFE};
use super::super::command::CapacityExceeded;
use super::super::record::{Attempt, Observation};
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// The observation, if it is recent enough to send by. What shows a full instance lives longer, but only to refuse by: others may
    /// have attached since.
    pub(super) fn recent_observation(&self) -> Option<&Observation> {
        let is_recent = |observation: &&Observation| self.now() < observation.recorded_at + OBSERVATION_LIFE;
        self.observation()
            .filter(|observation| is_recent(observation) || !self.enabled(SafetyCheck::ObservationLife))
    }

    /// The observation, if it is good enough to refuse by. During a hold things may still arrive that the ledger forgot: what
    /// was asked before its end does not show them.
    fn observation(&self) -> Option<&Observation> {
        let hold_until = self.hold_down_until();
        self.record
            .observation
            .as_ref()
            .filter(|observation| self.is_valid(observation) && observation.sent_at >= hold_until)
    }

    /// One that was sent or recorded in the future was so by another clock: nobody knows how old it is.
    fn is_valid(&self, observation: &Observation) -> bool {
        let now = self.now();
        let known = observation.sent_at.max(observation.recorded_at) <= now + CLOCK_TOLERANCE;
        let lives = now < observation.expires_at() || !self.enabled(SafetyCheck::ObservationLife);
        !observation.is_invalidated() && known && lives
    }

    /// The next attach asks ENS anew: a slot came free, or the ledger may have lost something. When ENS was asked last is still
    /// remembered: an older answer that comes late must not count.
    pub(super) fn invalidate_observation(&mut self) {
        if let Some(observation) = &mut self.record.observation {
            observation.good_for = Duration::ZERO;
        }
    }

    /// ENIs that occupy a slot by the last observation, or were settled here too lately for it to show them.
    pub(super) fn occupied(&self) -> BTreeSet<&InterfaceId> {
        let observed = self
            .record
            .observation
            .iter()
            .flat_map(|observation| &observation.occupied);
        let settled = self.record.recently_confirmed.keys();
        observed
            .chain(settled.filter(|_| self.enabled(SafetyCheck::SettledOccupies)))
            .collect()
    }

    fn reserved(&self) -> impl Iterator<Item = &InterfaceId> {
        self.record
            .attempts
            .values()
            .filter(|attempt| attempt.is_reserved() || self.has_open_copy(attempt))
            .map(|attempt| &attempt.attachment.eni)
    }

    /// Whether a copy of its attach may still be applied, or was too lately for the observation to show it: the ENI may come back
    /// without a reservation.
    fn has_open_copy(&self, attempt: &Attempt) -> bool {
        let seen_at = self.record.observation.as_ref().map(|observation| observation.sent_at);
        let settled = matches!(attempt.attachment.state, State::Failed | State::Detached);
        let shows = self.context.bounds.open_copies_show(attempt);
        self.enabled(SafetyCheck::OpenCopies)
            && !settled
            && seen_at.unwrap_or_default() <= shows
            && attempt.has_unanswered_send()
    }

    /// Every ENI that takes a slot.
    pub(super) fn used_slots(&self) -> BTreeSet<&InterfaceId> {
        let mut taken = self.occupied();
        taken.extend(self.reserved());
        taken
    }

    /// The limit in force: the configured one, or a lower one that ENS enforced lately.
    pub(super) fn limit(&self) -> usize {
        let learned = self.record.learned_limit.as_ref();
        let learned = learned.filter(|learned| self.now() < learned.until);
        learned.map_or(self.context.bounds.limit, |learned| {
            learned.limit.min(self.context.bounds.limit)
        })
    }

    /// Slots that are left.
    pub(super) fn free_slots(&self) -> usize {
        self.limit().saturating_sub(self.used_slots().len())
    }

    /// Whether a valid observation shows that there is no slot for `eni`.
    pub(super) fn capacity_exceeded_for(&self, eni: &InterfaceId) -> Option<CapacityExceeded> {
        let observation = self.observation()?;
        let (occupied, taken) = (self.occupied(), self.used_slots());
        let with_eni = taken.len() + usize::from(!taken.contains(eni));
        if with_eni <= self.limit() || !self.enabled(SafetyCheck::Limit) {
            return None;
        }
        Some(CapacityExceeded {
            limit: self.limit(),
            attached: occupied.len(),
            in_flight: taken.len() - occupied.len(),
            observed_at: observation.sent_at,
            retry_after: observation.expires_at().since(self.now()),
        })
    }
}
