//! Applies one observation to one attempt. The table itself is in
//! [`transitions`](super::transitions).

use std::sync::Arc;

use crate::model::{Failure, InterfaceId, Reason, State, Timestamp, Uid};

use super::super::command::{EniObservation, ObservedStatus};
use super::super::record::{
    Attached, Attempt, AttemptState, Detached, Detaching, InFlight, Unconfirmed,
};
use super::super::safety_checks::SafetyCheck;
use super::transitions::StatusEffect;
use super::{RecordUpdate, on_the_second, pause_after};

impl RecordUpdate<'_> {
    /// Applies what a Describe call sent at `sent_at` showed of `eni`. Ignored if the call is older
    /// than what is known, so a late response reverts nothing. Ignored too if it was sent in the
    /// future, by a wrong clock. An attempt in a state that this version does not know is left to
    /// the newer version.
    pub(super) fn on_observation(
        &mut self,
        eni: &InterfaceId,
        sent_at: Timestamp,
        observation: &EniObservation,
    ) {
        let known = |attempt: &&Attempt| attempt.state.kind() != State::Unknown;
        let Some(mut attempt) = self.record.attempts.get(eni).filter(known).cloned() else {
            return;
        };
        let after_sends = attempt.last_send().is_none_or(|send| sent_at > send.counts_from());
        let newest = attempt.described_at.is_none_or(|newest| sent_at > newest);
        let out_of_order = (!after_sends || !newest) && self.enabled(SafetyCheck::SettleOrder);
        if out_of_order || sent_at > self.now() {
            return self.poll_again(attempt);
        }
        attempt.poll_count += 1;
        if matches!(observation, EniObservation::Unclear { text } if text.is_empty()) {
            return self.poll_again(attempt);
        }
        attempt.described_at = Some(sent_at);
        if matches!(observation, EniObservation::Here { .. })
            && !self.may_be_stale(&attempt, sent_at)
        {
            attempt.observed_attached_at = Some(sent_at);
        }
        if !super::has_ended(&attempt) {
            attempt.show(observation.text(), sent_at);
        }
        let effect = self.effect(&attempt, sent_at, observation);
        self.perform_effect(effect, attempt, sent_at, observation);
    }

    fn perform_effect(
        &mut self,
        effect: StatusEffect,
        mut attempt: Attempt,
        sent_at: Timestamp,
        observation: &EniObservation,
    ) {
        match effect {
            StatusEffect::Nothing => self.keep(attempt),
            StatusEffect::PollAgain => self.poll_again(attempt),
            StatusEffect::Attaching => {
                attempt.state.advance(AttemptState::Attaching);
                self.poll_again(attempt);
            }
            StatusEffect::Attached => self.settle_attached(attempt),
            StatusEffect::AttachedAndDetaching => {
                self.settle_attached(attempt.clone());
                if let Some(attached) = self.record.attempts.get(&attempt.eni).cloned() {
                    self.set_detaching(attached);
                }
            }
            StatusEffect::Resendable => {
                attempt.state.advance(AttemptState::Resendable);
                self.poll_again(attempt);
            }
            StatusEffect::Absent(reason, why) if self.proves_absence(&attempt, sent_at) => {
                self.settle_failed(attempt, reason, why)
            }
            StatusEffect::Absent(..) => self.poll_again(attempt),
            StatusEffect::Confirmed => {
                if let AttemptState::Attached(attached) = &mut attempt.state {
                    attached.unconfirmed = None;
                }
                self.poll_again(attempt);
            }
            StatusEffect::Unconfirmed => self.set_unconfirmed(attempt, sent_at),
            StatusEffect::Detaching => self.set_detaching(attempt),
            StatusEffect::Detached => {
                self.record.recently_confirmed.remove(&attempt.eni);
                if observation.text().is_empty() {
                    // No row has it any more, so its last ENS status is out of date.
                    attempt.ens_status.clear();
                }
                self.end(attempt, AttemptState::Detached(Detached::default()));
                self.invalidate_observation();
            }
            StatusEffect::External => {
                if let EniObservation::Here { status, text } = observation {
                    self.adopt_external(&attempt.eni, sent_at, *status, text);
                }
            }
            StatusEffect::Occupies => {
                // A lagging Describe call may not show it again.
                self.record.recently_confirmed.insert(attempt.eni.clone(), self.now());
                self.keep(attempt);
            }
        }
    }

    /// Whether a Describe call sent then, which shows the ENI not here, proves that no copy of the
    /// attach took or will take effect. In a hold-down the record may lack a lost resend: a call
    /// sent before its end proves nothing.
    fn proves_absence(&self, attempt: &Attempt, sent_at: Timestamp) -> bool {
        if attempt.has_status_conflict() && !self.enabled(SafetyCheck::ConflictWaits) {
            return true;
        }
        let after_hold_down =
            sent_at >= self.hold_down_until() || !self.enabled(SafetyCheck::AbsenceInHoldDown);
        after_hold_down && sent_at > attempt.grace_ends(self.context.bounds)
    }

    fn settle_failed(&mut self, attempt: Attempt, reason: Reason, why: String) {
        let failure = match attempt.state.refusal().cloned() {
            Some(refusal) if refusal.reason == reason => Failure { message: why, ..refusal },
            Some(refusal) => refusal,
            None => Failure::new(reason, why).ens("", attempt.ens_request_id.clone()),
        };
        let mut failure = failure.about(&attempt.instance, &attempt.eni);
        if let Some(observed_at) = attempt.observed_at {
            failure = failure.observed_at(observed_at);
        }
        self.end(attempt, AttemptState::failed(failure));
    }

    /// Ends the reservation, by proof, in a state with nothing in flight.
    pub(super) fn end(&mut self, mut attempt: Attempt, state: AttemptState) {
        attempt.state = state;
        if let (true, Some(key)) = (attempt.is_from_gateway(), attempt.request.clone()) {
            self.remember_answer(key, &attempt);
        }
        self.put(attempt);
    }

    fn settle_attached(&mut self, attempt: Attempt) {
        self.record.recently_confirmed.insert(attempt.eni.clone(), self.now());
        self.end(attempt, AttemptState::Attached(Attached::default()));
    }

    fn set_detaching(&mut self, mut attempt: Attempt) {
        attempt.poll_count = 0;
        attempt.state = AttemptState::Detaching(Detaching::default());
        self.poll_again(attempt);
        self.invalidate_observation();
    }

    /// Records that an attached ENI is not shown in use here. The row may be old, so the attempt
    /// stays attached. But nothing confirms it, and it is polled until a Describe call settles it.
    fn set_unconfirmed(&mut self, mut attempt: Attempt, sent_at: Timestamp) {
        let again = self.now() + pause_after(attempt.poll_count, false);
        let due_at = on_the_second(again.max(self.settles_at(&attempt)));
        let AttemptState::Attached(attached) = &mut attempt.state else {
            return;
        };
        match &mut attached.unconfirmed {
            Some(unconfirmed) => (unconfirmed.since, unconfirmed.due_at) = (sent_at, due_at),
            None => attached.unconfirmed = Some(Unconfirmed::new(sent_at, due_at)),
        }
        self.poll_again(attempt);
    }

    /// Whether the last Describe call did not show an attached ENI in use here.
    pub(super) fn is_unconfirmed(&self, attempt: &Attempt) -> bool {
        attempt.state.is_unconfirmed() && self.enabled(SafetyCheck::Doubt)
    }

    /// Earliest time for a Describe call without the ENI to prove that an attached ENI is detached.
    pub(super) fn settles_at(&self, attempt: &Attempt) -> Timestamp {
        let bounds = self.context.bounds;
        let attached_at = self.record.recently_confirmed.get(&attempt.eni);
        let shows =
            attached_at.map_or(Timestamp::default(), |attached_at| *attached_at + bounds.lag);
        if !self.enabled(SafetyCheck::OpenCopies) {
            return shows;
        }
        shows.max(attempt.open_copies_show(bounds)).max(self.hold_down_until())
    }

    /// Records an external attachment, first seen.
    pub(super) fn adopt_external(
        &mut self,
        eni: &InterfaceId,
        sent_at: Timestamp,
        status: ObservedStatus,
        text: &str,
    ) {
        let state = match status {
            ObservedStatus::Available => return,
            ObservedStatus::InUse => AttemptState::Attached(Attached::default()),
            ObservedStatus::Detaching => AttemptState::Detaching(Detaching::default()),
            ObservedStatus::Attaching | ObservedStatus::Other => {
                AttemptState::Attaching(InFlight::default())
            }
        };
        let uid = self.external_uid(eni);
        let attempt =
            Attempt::external(self.context.instance, eni, uid, state, text, sent_at, self.now());
        self.record.recently_confirmed.insert(eni.clone(), self.now());
        self.poll_again(attempt);
    }

    /// The uid of an external attachment. Derived, so that replicas that see it at once give it the
    /// same one.
    fn external_uid(&self, eni: &InterfaceId) -> Uid {
        let name = format!("{}/{eni}/{}", self.context.instance, self.now().as_micros());
        Uid(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()))
    }

    /// Writes an attempt without a change that callers see.
    pub(super) fn keep(&mut self, attempt: impl Into<Arc<Attempt>>) {
        let attempt = attempt.into();
        self.record.attempts.insert(attempt.eni.clone(), attempt);
    }

    /// Writes an attempt, and schedules its next poll if it is in flight.
    pub(super) fn poll_again(&mut self, mut attempt: Attempt) {
        let now = self.now();
        let was_stuck = attempt.state.is_stuck();
        let is_stuck =
            was_stuck || now.since(attempt.in_flight_since()) >= self.context.bounds.stuck_after;
        let due_at =
            (now + pause_after(attempt.poll_count, is_stuck)).max(self.not_before(&attempt));
        attempt.state.schedule(on_the_second(due_at), is_stuck);
        let turned_stuck = attempt.state.is_stuck() && !was_stuck;
        let before = self.record.attempts.get(&attempt.eni);
        let is_shown = before.is_some_and(|before| before.ens_status != attempt.ens_status);
        if attempt.has_new_state() || turned_stuck || is_shown {
            self.put(attempt);
        } else {
            self.keep(attempt);
        }
    }

    /// Before this time a poll of an attempt without a response proves nothing.
    fn not_before(&self, attempt: &Attempt) -> Timestamp {
        let verifying = matches!(attempt.state.kind(), State::Pending | State::Verifying);
        let Some(send) = attempt.last_send() else {
            return Timestamp::default();
        };
        if verifying && attempt.has_unanswered_send() {
            send.counts_from() + self.context.bounds.lag
        } else {
            send.counts_from()
        }
    }
}
