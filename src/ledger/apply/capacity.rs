//! Counts used slots: ENIs that ENS shows, ENIs confirmed as attached since then, and reservations.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::InterfaceId;

use super::super::bounds::{CLOCK_TOLERANCE, OBSERVATION_LIFE};
use super::super::command::CapacityExceeded;
use super::super::record::{Attempt, Observation};
use super::super::safety_checks::SafetyCheck;
use super::{Context, RecordUpdate};
use crate::ledger::record::Record;

/// The slots of an instance at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// The limit in force: the configured one, or a lower one that ENS enforced.
    pub limit: usize,
    /// ENIs that ENS shows there, or showed since the last observation.
    pub attached: usize,
    /// Reservations of attaches in flight that ENS does not show yet.
    pub in_flight: usize,
    /// What is left.
    pub free: usize,
}

impl Slots {
    /// The slots by this record. They count everything that is known, however old.
    #[must_use]
    pub fn of(record: &Record, context: Context<'_>) -> Self {
        let update = RecordUpdate::new(record, context);
        let (attached, used) = (update.occupied().len(), update.used_slots().len());
        let (limit, free) = (update.limit(), update.free_slots());
        Self { limit, attached, in_flight: used - attached, free }
    }
}

/// The slots that several ENIs would need, by an observation that is valid enough to refuse by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityCheck {
    /// Number of these ENIs that use no slot yet.
    pub needed: usize,
    /// Free slots.
    pub free: usize,
    /// The used slots.
    pub used: CapacityExceeded,
}

impl CapacityCheck {
    /// The check for these ENIs; `None` without such an observation.
    #[must_use]
    pub fn of<'a>(
        record: &Record,
        context: Context<'_>,
        enis: impl IntoIterator<Item = &'a InterfaceId>,
    ) -> Option<Self> {
        let mut update = RecordUpdate::new(record, context);
        update.expire_stale_state();
        let observation = update.observation()?;
        let (needed, used) = update.needed_slots(enis);
        let free = update.limit().saturating_sub(used);
        Some(Self { needed, free, used: update.capacity_by(observation) })
    }

    /// Whether more slots are needed than are free.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.needed > self.free
    }
}

impl RecordUpdate<'_> {
    /// The observation, if it is recent enough for a send. One that shows a full instance is kept
    /// longer, but only to refuse by: external attachments may have come since.
    pub(super) fn recent_observation(&self) -> Option<&Observation> {
        let is_recent =
            |observation: &&Observation| self.now() < observation.recorded_at + OBSERVATION_LIFE;
        self.observation().filter(|observation| {
            is_recent(observation) || !self.enabled(SafetyCheck::ObservationLife)
        })
    }

    /// The observation, if it is valid enough to refuse by. During a hold-down forgotten sends may
    /// still arrive. An observation sent before its end does not show them.
    fn observation(&self) -> Option<&Observation> {
        let hold_down_until = self.hold_down_until();
        self.record.observation.as_ref().filter(|observation| {
            self.is_valid(observation) && observation.sent_at >= hold_down_until
        })
    }

    /// Whether the observation's times are usable. A time in the future came from another clock, so
    /// the age of the observation is unknown.
    fn is_valid(&self, observation: &Observation) -> bool {
        let now = self.now();
        let known = observation.sent_at.max(observation.recorded_at) <= now + CLOCK_TOLERANCE;
        let lives = now < observation.expires_at() || !self.enabled(SafetyCheck::ObservationLife);
        !observation.is_invalidated() && known && lives
    }

    /// Voids the observation, so that the next attach describes the instance again. A slot came
    /// free, or the ledger may have lost something. Its time is kept, because a late response to an
    /// earlier call must not count.
    pub(super) fn invalidate_observation(&mut self) {
        if let Some(observation) = &mut self.record.observation {
            observation.valid_for = Duration::ZERO;
        }
    }

    /// ENIs that occupy a slot by the last observation, or were confirmed too recently for it to
    /// show them.
    pub(super) fn occupied(&self) -> BTreeSet<&InterfaceId> {
        let observed = self.record.observation.iter().flat_map(|observation| &observation.occupied);
        let settled = self.record.recently_confirmed.keys();
        observed.chain(settled.filter(|_| self.enabled(SafetyCheck::SettledOccupies))).collect()
    }

    fn reserved(&self) -> impl Iterator<Item = &InterfaceId> {
        self.record
            .attempts
            .values()
            .filter(|attempt| attempt.is_reserved() || self.has_open_copy(attempt))
            .map(|attempt| &attempt.eni)
    }

    /// Whether a copy of its attach may still be applied, or was too recently for the observation
    /// to show it. The ENI may come back without a reservation.
    fn has_open_copy(&self, attempt: &Attempt) -> bool {
        let seen_at = self.record.observation.as_ref().map(|observation| observation.sent_at);
        let settled = super::has_ended(attempt);
        let shows = attempt.open_copies_show(self.context.bounds);
        self.enabled(SafetyCheck::OpenCopies)
            && !settled
            && seen_at.unwrap_or_default() <= shows
            && attempt.has_unanswered_send()
    }

    /// Every ENI that uses a slot.
    pub(super) fn used_slots(&self) -> BTreeSet<&InterfaceId> {
        let mut used = self.occupied();
        used.extend(self.reserved());
        used
    }

    /// Number of these ENIs that use no slot yet, and number of used slots.
    fn needed_slots<'a>(&self, enis: impl IntoIterator<Item = &'a InterfaceId>) -> (usize, usize) {
        let used = self.used_slots();
        (enis.into_iter().filter(|eni| !used.contains(eni)).count(), used.len())
    }

    /// The limit in force: the configured one, or a lower one that ENS recently enforced.
    pub(super) fn limit(&self) -> usize {
        let learned = self.record.learned_limit.as_ref();
        let learned = learned.filter(|learned| self.now() < learned.until);
        learned.map_or(self.context.bounds.limit, |learned| {
            learned.limit.min(self.context.bounds.limit)
        })
    }

    /// Number of free slots.
    pub(super) fn free_slots(&self) -> usize {
        self.limit().saturating_sub(self.used_slots().len())
    }

    /// Whether a valid observation shows that there is no slot for `eni`.
    pub(super) fn capacity_exceeded_for(&self, eni: &InterfaceId) -> Option<CapacityExceeded> {
        let observation = self.observation()?;
        let (needed, used) = self.needed_slots([eni]);
        if used + needed <= self.limit() || !self.enabled(SafetyCheck::Limit) {
            return None;
        }
        Some(self.capacity_by(observation))
    }

    fn capacity_by(&self, observation: &Observation) -> CapacityExceeded {
        let attached = self.occupied().len();
        CapacityExceeded {
            limit: self.limit(),
            attached,
            in_flight: self.used_slots().len() - attached,
            observed_at: observation.sent_at,
            retry_after: observation.expires_at().since(self.now()),
        }
    }
}
