//! Records Describe calls for the whole instance: which ENIs occupy it, and what that means for
//! each attempt.

use crate::model::{InterfaceId, State, Timestamp, Unknown};

use super::super::bounds::{OBSERVATION_LIFE, OBSERVATION_LIFE_MAX};
use super::super::command::{EniObservation, ObservedEni, ObservedStatus};
use super::super::record::Observation;
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// Records an observation. Discards one sent before the recorded one. Discards one from the
    /// future too: its clock was wrong, so its age is unknown.
    pub(super) fn observe(&mut self, sent_at: Timestamp, rows: &[ObservedEni]) {
        if sent_at > self.now() {
            return;
        }
        let newest = self.record.observation.as_ref();
        if newest.is_some_and(|newest| sent_at <= newest.sent_at)
            && self.enabled(SafetyCheck::NewestObservation)
        {
            return;
        }
        let bounds = self.context.bounds;
        let counted: Vec<&ObservedEni> = rows
            .iter()
            .filter(|row| {
                row.status != ObservedStatus::Available && (bounds.count_primary || !row.primary)
            })
            .filter(|row| {
                row.status != ObservedStatus::Detaching
                    || self.enabled(SafetyCheck::DetachingOccupies)
            })
            .collect();
        let was_full = self
            .record
            .observation
            .as_ref()
            .filter(|newest| self.free_slots() == 0 && !newest.is_invalidated())
            .map(|newest| newest.valid_for);
        self.record.recently_confirmed.retain(|_, settled_at| sent_at <= *settled_at + bounds.lag);
        if self
            .record
            .learned_limit
            .as_ref()
            .is_some_and(|learned| sent_at > learned.at && counted.len() < learned.limit)
        {
            self.record.learned_limit = None;
        }
        self.record.observation = Some(Observation {
            sent_at,
            occupied: counted.iter().map(|row| row.eni.clone()).collect(),
            recorded_at: self.now(),
            valid_for: OBSERVATION_LIFE,
            unknown: Unknown::default(),
        });
        // A response that a suspended replica held for this long does not show the present.
        if self.now() > sent_at + bounds.lease {
            self.invalidate_observation();
        }
        for row in &counted {
            if self.record.attempts.contains_key(&row.eni) {
                let observation =
                    EniObservation::Here { status: row.status, text: row.text.clone() };
                self.on_observation(&row.eni, sent_at, &observation);
            } else {
                self.adopt_external(&row.eni, sent_at, row.status, &row.text);
            }
        }
        self.detect_detached(sent_at, &counted);
        let full = self.free_slots() == 0;
        if let Some(observation) =
            self.record.observation.as_mut().filter(|seen| full && !seen.is_invalidated())
        {
            observation.valid_for =
                was_full.map_or(OBSERVATION_LIFE, |life| (life * 2).min(OBSERVATION_LIFE_MAX));
        }
    }

    /// An attached ENI that the response no longer has.
    fn detect_detached(&mut self, sent_at: Timestamp, rows: &[&ObservedEni]) {
        let observation = self.record.observation.clone();
        let gone: Vec<InterfaceId> = self
            .record
            .attempts
            .values()
            .filter(|attempt| matches!(attempt.state.kind(), State::Attached | State::Detaching))
            .map(|attempt| attempt.eni.clone())
            .filter(|eni| rows.iter().all(|row| row.eni != *eni))
            .collect();
        for eni in gone {
            self.on_observation(&eni, sent_at, &EniObservation::Available { text: String::new() });
        }
        // This Describe call has counted the detached ENI.
        self.record.observation = observation;
    }
}
