//! What one describe says of one attempt. Every rule about lag, grace and order of answers stands here.

use std::time::Duration;

use crate::model::{Failure, InterfaceId, Reason, State, Timestamp, Uid};

use super::super::bounds::MAX_SENDS;
use super::super::command::{EniObservation, ObservedStatus};
use super::super::record::Attempt;
use super::super::safety_checks::SafetyCheck;
use super::{RecordUpdate, on_the_second, pause_after};

impl RecordUpdate<'_> {
    /// Takes in what a describe sent at `sent_at` showed of `eni`. Ignored where the describe is older than what is known: an answer that
    /// comes late takes nothing back. Ignored, too, where it was sent in the future, by a clock that was wrong. And an attempt in a
    /// state that this version does not know is left to the newer one.
    pub(super) fn on_observation(&mut self, eni: &InterfaceId, sent_at: Timestamp, finding: &EniObservation) {
        let known = |attempt: &&Attempt| attempt.attachment.state != State::Unknown;
        let Some(mut attempt) = self.record.attempts.get(eni).filter(known).cloned() else {
            return;
        };
        let after_sends = attempt.last_send().is_none_or(|send| sent_at > send.counts_from());
        let newest = attempt.described_at.is_none_or(|newest| sent_at > newest);
        let out_of_order = (!after_sends || !newest) && self.enabled(SafetyCheck::SettleOrder);
        if out_of_order || sent_at > self.now() {
            self.reschedule(attempt, None);
            return;
        }
        attempt.poll_count += 1;
        if matches!(finding, EniObservation::Unclear { text } if text.is_empty()) {
            self.reschedule(attempt, None);
            return;
        }
        attempt.described_at = Some(sent_at);
        if matches!(finding, EniObservation::Here { .. }) && !self.may_be_stale(&attempt, sent_at) {
            attempt.observed_attached_at = Some(sent_at);
        }
        match attempt.attachment.state {
            State::Failed | State::Detached => return self.on_ended(attempt, sent_at, finding),
            _ => attempt.attachment.show(finding.text(), sent_at),
        }
        match attempt.attachment.state {
            State::Attached | State::Detaching => self.on_attached(attempt, sent_at, finding),
            _ if attempt.has_status_conflict() => self.on_conflict(attempt, sent_at, finding),
            _ => self.on_attaching(attempt, sent_at, finding),
        }
    }

    /// Whether a row that shows the ENI here may still be that of an earlier attachment.
    fn may_be_stale(&self, attempt: &Attempt, sent_at: Timestamp) -> bool {
        let lag = self.context.bounds.lag;
        self.enabled(SafetyCheck::SeenBefore)
            && attempt.was_recently_attached
            && attempt
                .last_send()
                .is_some_and(|send| sent_at < send.counts_from() + lag)
    }

    /// ENS refused the attach by an answer that does not prove that no copy was applied: it may be the answer to a replayed copy.
    /// What shows the ENI on its way here, or here, settles it. A row that shows it elsewhere, free or detaching may be older than
    /// the send: it proves nothing before the end of the grace.
    fn on_conflict(&mut self, attempt: Attempt, sent_at: Timestamp, finding: &EniObservation) {
        let stays_away = match finding {
            EniObservation::Available { text } | EniObservation::Elsewhere { text, .. } => Some(text),
            EniObservation::Here {
                status: ObservedStatus::Detaching | ObservedStatus::Available | ObservedStatus::Other,
                text,
            } => Some(text),
            EniObservation::Here { .. } | EniObservation::Missing | EniObservation::Unclear { .. } => None,
        };
        let Some(text) = stays_away else {
            return self.on_attaching(attempt, sent_at, finding);
        };
        let why = format!("the eni cannot be attached in its status {text}; wait until it is Available");
        if self.enabled(SafetyCheck::ConflictWaits) {
            self.fail_if_past_grace(attempt, sent_at, Reason::EniNotAvailable, why);
        } else {
            self.failed(attempt, Reason::EniNotAvailable, why);
        }
    }

    fn on_attaching(&mut self, attempt: Attempt, sent_at: Timestamp, finding: &EniObservation) {
        match finding {
            EniObservation::Here { .. } if self.may_be_stale(&attempt, sent_at) => self.reschedule(attempt, None),
            EniObservation::Here { status, .. } => match status {
                ObservedStatus::InUse => self.attached(attempt, State::Attached),
                ObservedStatus::Detaching => {
                    self.attached(attempt.clone(), State::Attached);
                    self.detaching(&attempt.attachment.eni);
                }
                ObservedStatus::Attaching => {
                    let enter = (attempt.attachment.state != State::Attaching).then_some(State::Attaching);
                    self.reschedule(attempt, enter);
                }
                ObservedStatus::Available | ObservedStatus::Other => self.reschedule(attempt, None),
            },
            EniObservation::Available { .. } => self.on_free(attempt, sent_at),
            EniObservation::Elsewhere { instance, .. } => {
                let why = format!("the eni is attached to, or on its way to, another instance: {instance}");
                self.fail_if_past_grace(attempt, sent_at, Reason::EniNotAvailable, why);
            }
            EniObservation::Missing => {
                let why = "ens no longer knows the eni".to_owned();
                self.fail_if_past_grace(attempt, sent_at, Reason::EniNotFound, why);
            }
            EniObservation::Unclear { .. } => self.reschedule(attempt, None),
        }
    }

    /// The ENI is free although it was sent for.
    fn on_free(&mut self, mut attempt: Attempt, sent_at: Timestamp) {
        let lag = self.context.bounds.lag;
        if attempt.has_unanswered_send() && attempt.attachment.state != State::Attaching {
            let asked_after_lag = attempt
                .last_send()
                .is_some_and(|send| sent_at >= send.counts_from() + lag);
            if asked_after_lag && attempt.sends.len() < MAX_SENDS && attempt.refusal.is_none() {
                attempt.observed_free_at = Some(sent_at);
                let enter = (attempt.attachment.state == State::Pending).then_some(State::Verifying);
                return self.reschedule(attempt, enter);
            }
            let sends = attempt.sends.len();
            let why =
                format!("sent {sends} times without an answer that settles it, and ens shows the eni free; try again");
            return self.fail_if_past_grace(attempt, sent_at, Reason::NotApplied, why);
        }
        // That it was seen attaching proves nothing sooner: that describe may have been answered long after it was sent.
        let why =
            "ens accepted the attach, and then showed the eni free again; see the instance's state, and try again";
        self.fail_if_past_grace(attempt, sent_at, Reason::AttachFailed, why.to_owned());
    }

    /// The describe shows the ENI not here.
    fn fail_if_past_grace(&mut self, attempt: Attempt, sent_at: Timestamp, reason: Reason, why: String) {
        if self.proves_absence(&attempt, sent_at) {
            self.failed(attempt, reason, why);
        } else {
            self.reschedule(attempt, None);
        }
    }

    /// Whether a describe sent then, which shows the ENI not here, proves that no copy of the attach took effect or will. In a hold
    /// the record may lack a resend that the ledger lost: what was sent before its end proves nothing.
    fn proves_absence(&self, attempt: &Attempt, sent_at: Timestamp) -> bool {
        let after_hold = sent_at >= self.hold_down_until() || !self.enabled(SafetyCheck::AbsenceInHold);
        after_hold && sent_at > self.context.bounds.grace_ends(attempt)
    }

    fn failed(&mut self, mut attempt: Attempt, reason: Reason, why: String) {
        let failure = match attempt.refusal.take() {
            Some(refusal) if refusal.reason == reason => Failure {
                message: why,
                ..refusal
            },
            Some(refusal) => refusal,
            None => Failure::new(reason, why).ens("", attempt.attachment.ens_request_id.clone()),
        };
        let mut failure = failure.about(&attempt.attachment.instance, &attempt.attachment.eni);
        if let Some(observed_at) = attempt.attachment.observed_at {
            failure = failure.observed_at(observed_at);
        }
        attempt.attachment.error = Some(failure);
        self.end(attempt, State::Failed);
    }

    /// Ends the reservation, by proof, in a state with nothing under way.
    pub(super) fn end(&mut self, mut attempt: Attempt, state: State) {
        attempt.reserved = false;
        attempt.due_at = None;
        attempt.attachment.stuck = false;
        attempt.superseded = None;
        if let (true, Some(key)) = (attempt.is_from_gateway(), attempt.request.clone()) {
            self.remember_answer(key, &attempt, state);
        }
        self.put(attempt, Some(state));
    }

    fn attached(&mut self, mut attempt: Attempt, state: State) {
        attempt.refusal = None;
        self.record
            .recently_confirmed
            .insert(attempt.attachment.eni.clone(), self.now());
        self.end(attempt, state);
    }

    fn detaching(&mut self, eni: &InterfaceId) {
        if let Some(mut attempt) = self.record.attempts.get(eni).cloned() {
            attempt.poll_count = 0;
            self.reschedule(attempt, Some(State::Detaching));
            self.invalidate_observation();
        }
    }

    fn on_attached(&mut self, mut attempt: Attempt, sent_at: Timestamp, finding: &EniObservation) {
        let lag = self.context.bounds.lag;
        let eni = attempt.attachment.eni.clone();
        let detaching = attempt.attachment.state == State::Detaching;
        match finding {
            EniObservation::Here {
                status: ObservedStatus::Detaching,
                ..
            } if !detaching => {
                self.record.attempts.insert(eni.clone(), attempt);
                self.detaching(&eni);
            }
            // What is attached does not begin to attach: it was detached meanwhile, and this is another attachment. Unless it is the
            // past that a describe shows.
            EniObservation::Here {
                status: ObservedStatus::Attaching,
                text,
            } if !detaching => {
                let settled = self.record.recently_confirmed.get(&eni).copied();
                if settled.is_none_or(|settled| sent_at > settled + lag) {
                    self.adopt_external(&eni, sent_at, ObservedStatus::Attaching, text);
                } else {
                    self.mark_unconfirmed(attempt, sent_at);
                }
            }
            // The detach came to nothing, or the ENI was attached anew: another attachment than the one that ended.
            EniObservation::Here {
                status: ObservedStatus::InUse,
                text,
            } if detaching => {
                if sent_at > attempt.attachment.updated_at + lag {
                    self.adopt_external(&eni, sent_at, ObservedStatus::InUse, text);
                } else {
                    self.reschedule(attempt, None);
                }
            }
            EniObservation::Available { .. } | EniObservation::Elsewhere { .. } | EniObservation::Missing => {
                if sent_at > self.settles_at(&attempt) {
                    attempt.unconfirmed_since = None;
                    self.record.recently_confirmed.remove(&eni);
                    if finding.text().is_empty() {
                        // It stands in no row any more: what ENS called it there is over.
                        attempt.attachment.ens_status.clear();
                    }
                    self.end(attempt, State::Detached);
                    self.invalidate_observation();
                } else if detaching {
                    self.reschedule(attempt, None);
                } else {
                    self.mark_unconfirmed(attempt, sent_at);
                }
            }
            EniObservation::Here {
                status: ObservedStatus::InUse,
                ..
            } => {
                attempt.unconfirmed_since = None;
                attempt.due_at = None;
                self.reschedule(attempt, None);
            }
            EniObservation::Here { .. } | EniObservation::Unclear { .. } if detaching => self.reschedule(attempt, None),
            EniObservation::Here { .. } | EniObservation::Unclear { .. } => self.mark_unconfirmed(attempt, sent_at),
        }
    }

    /// An attached ENI is not shown in use here. The row may be old, so the attempt stays attached; but nothing affirms it, and it is
    /// looked at until a describe settles it.
    fn mark_unconfirmed(&mut self, mut attempt: Attempt, sent_at: Timestamp) {
        attempt.unconfirmed_since = Some(sent_at);
        let again = self.now() + pause_after(attempt.poll_count, false);
        attempt.due_at = Some(on_the_second(again.max(self.settles_at(&attempt))));
        self.reschedule(attempt, None);
    }

    /// Whether ENS, asked last, did not show an attached ENI in use here.
    pub(super) fn is_unconfirmed(&self, attempt: &Attempt) -> bool {
        attempt.unconfirmed_since.is_some() && self.enabled(SafetyCheck::Doubt)
    }

    /// From when on a describe that shows an attached ENI not here proves that it is detached.
    pub(super) fn settles_at(&self, attempt: &Attempt) -> Timestamp {
        let bounds = self.context.bounds;
        let settled = self.record.recently_confirmed.get(&attempt.attachment.eni).copied();
        let shows = settled.map_or(Timestamp::default(), |settled| settled + bounds.lag);
        if !self.enabled(SafetyCheck::OpenCopies) {
            return shows;
        }
        shows.max(bounds.open_copies_show(attempt)).max(self.hold_down_until())
    }

    fn on_ended(&mut self, attempt: Attempt, sent_at: Timestamp, finding: &EniObservation) {
        let lag = self.context.bounds.lag;
        let eni = attempt.attachment.eni.clone();
        match finding {
            EniObservation::Here { status, text } if sent_at > attempt.attachment.updated_at + lag => {
                self.adopt_external(&eni, sent_at, *status, text);
            }
            // It came to nothing, and is here all the same: whether another attachment or the same one will be seen, but a describe
            // that lags may not show it again.
            EniObservation::Here { .. } if attempt.attachment.state == State::Failed => {
                self.record.recently_confirmed.insert(eni.clone(), self.now());
                self.record.attempts.insert(eni, attempt);
            }
            _ => {
                self.record.attempts.insert(eni, attempt);
            }
        }
    }

    /// An attachment that this gateway did not make, first seen.
    pub(super) fn adopt_external(&mut self, eni: &InterfaceId, sent_at: Timestamp, status: ObservedStatus, text: &str) {
        let state = match status {
            ObservedStatus::Available => return,
            ObservedStatus::InUse => State::Attached,
            ObservedStatus::Detaching => State::Detaching,
            ObservedStatus::Attaching | ObservedStatus::Other => State::Attaching,
        };
        let attempt = Attempt::external(
            self.context.instance,
            eni,
            self.external_uid(eni),
            text,
            sent_at,
            self.now(),
        );
        self.record.recently_confirmed.insert(eni.clone(), self.now());
        if state == State::Attached {
            self.end(attempt, state)
        } else {
            self.reschedule(attempt, Some(state))
        }
    }

    /// The uid of an attachment made by others: derived, so that replicas that see it at once give it the same one.
    fn external_uid(&self, eni: &InterfaceId) -> Uid {
        let name = format!("{}/{eni}/{}", self.context.instance, self.now().as_micros());
        Uid(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()))
    }

    /// Puts the attempt back to be looked at again, at most entering another state that is not its end.
    pub(super) fn reschedule(&mut self, mut attempt: Attempt, enter: Option<State>) {
        let now = self.now();
        let under_way = enter.unwrap_or(attempt.attachment.state);
        let turned_stuck = !attempt.attachment.stuck
            && !under_way.is_terminal()
            && now.since(attempt.in_flight_since()) >= self.context.bounds.stuck_after;
        attempt.attachment.stuck |= turned_stuck;
        if !under_way.is_terminal() {
            let pause = pause_after(attempt.poll_count, attempt.attachment.stuck);
            attempt.due_at = Some(on_the_second((now + pause).max(self.not_before(&attempt, under_way))));
        }
        let before = self.record.attempts.get(&attempt.attachment.eni);
        let shown = before.is_some_and(|before| before.attachment.ens_status != attempt.attachment.ens_status);
        if enter.is_some() || turned_stuck || shown {
            self.put(attempt, enter);
        } else {
            self.record.attempts.insert(attempt.attachment.eni.clone(), attempt);
        }
    }

    /// Before this time a look at an unanswered attempt proves nothing.
    fn not_before(&self, attempt: &Attempt, state: State) -> Timestamp {
        let verifying = matches!(state, State::Pending | State::Verifying) && attempt.has_unanswered_send();
        let lag = if verifying {
            self.context.bounds.lag
        } else {
            Duration::ZERO
        };
        attempt
            .last_send()
            .map_or(Timestamp::default(), |send| send.counts_from() + lag)
    }
}
