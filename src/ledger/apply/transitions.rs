//! The table of what an observation does to an attempt.

use crate::model::{Reason, State, Timestamp};

use super::super::bounds::MAX_SENDS;
use super::super::command::{EniObservation, ObservedStatus};
use super::super::record::Attempt;
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

/// The effect of one observation on one attempt.
#[derive(Debug)]
pub(super) enum StatusEffect {
    /// Nothing. The attempt has ended, or only a newer version knows its state.
    Nothing,
    /// Nothing yet. The ENI is described again.
    PollAgain,
    /// It is attaching.
    Attaching,
    /// It is attached.
    Attached,
    /// It was attached, and is detaching.
    AttachedAndDetaching,
    /// It may be sent again.
    Resendable,
    /// The ENI is not here. The attempt fails for this reason if the Describe call was sent after
    /// the grace period. Otherwise the ENI is described again.
    Absent(Reason, String),
    /// ENS still shows it in use.
    Confirmed,
    /// ENS does not show it in use, which may be the past.
    Unconfirmed,
    /// It is detaching.
    Detaching,
    /// It is gone.
    Detached,
    /// ENS shows another attachment than that of this attempt.
    External,
    /// It failed and shows here. It occupies a slot until a Describe call shows otherwise.
    Occupies,
}

/// The kind of an observation.
#[derive(Clone, Copy)]
enum Shown {
    InUse,
    Attaching,
    Detaching,
    /// Here, in another status.
    Here,
    Available,
    Elsewhere,
    Missing,
    Unclear,
}

impl From<&EniObservation> for Shown {
    fn from(observation: &EniObservation) -> Self {
        match observation {
            EniObservation::Here { status, .. } => match status {
                ObservedStatus::InUse => Self::InUse,
                ObservedStatus::Attaching => Self::Attaching,
                ObservedStatus::Detaching => Self::Detaching,
                ObservedStatus::Available | ObservedStatus::Other => Self::Here,
            },
            EniObservation::Available { .. } => Self::Available,
            EniObservation::Elsewhere { .. } => Self::Elsewhere,
            EniObservation::Missing => Self::Missing,
            EniObservation::Unclear { .. } => Self::Unclear,
        }
    }
}

impl RecordUpdate<'_> {
    /// The effect of a Describe call sent at `sent_at` on an attempt. The first row that matches
    /// counts.
    pub(super) fn effect(
        &self,
        attempt: &Attempt,
        sent_at: Timestamp,
        observation: &EniObservation,
    ) -> StatusEffect {
        use {Shown as O, State as S, StatusEffect as E};

        let lag = self.context.bounds.lag;
        let is_here = matches!(observation, EniObservation::Here { .. });
        // The record's latest change is no longer hidden from this Describe call.
        let shows_change = sent_at > attempt.updated_at + lag;
        let attached_at = self.record.recently_confirmed.get(&attempt.eni);
        let shows_attached = attached_at.is_none_or(|attached_at| sent_at > *attached_at + lag);
        let proves_detached = sent_at > self.settles_at(attempt);
        let may_be_stale = self.may_be_stale(attempt, sent_at);
        let is_conflict = attempt.has_status_conflict();
        let is_unanswered = attempt.has_unanswered_send();
        let may_resend = self.allows_resend(attempt, sent_at);

        match (attempt.state.kind(), Shown::from(observation)) {
            (S::Unknown, _) => E::Nothing,

            (S::Failed | S::Detached, _) if is_here && shows_change => E::External,
            (S::Failed, _) if is_here => E::Occupies,
            (S::Failed | S::Detached, _) => E::Nothing,

            (S::Attached, O::InUse) => E::Confirmed,
            (S::Attached, O::Detaching) => E::Detaching,
            // An attached ENI does not begin to attach: it was detached meanwhile.
            (S::Attached, O::Attaching) if shows_attached => E::External,
            (S::Attached, O::Available | O::Elsewhere | O::Missing) if proves_detached => {
                E::Detached
            }
            (S::Attached, _) => E::Unconfirmed,

            // The detach had no effect, or the ENI was attached again.
            (S::Detaching, O::InUse) if shows_change => E::External,
            (S::Detaching, O::Available | O::Elsewhere | O::Missing) if proves_detached => {
                E::Detached
            }
            (S::Detaching, _) => E::PollAgain,

            // Pending, verifying, attaching.
            (_, O::Available) if is_conflict => refused_and_free(),
            (_, O::Elsewhere | O::Detaching | O::Here) if is_conflict => {
                in_conflict(observation.text())
            }
            (_, _) if is_here && may_be_stale => E::PollAgain,
            (_, O::InUse) => E::Attached,
            (_, O::Attaching) => E::Attaching,
            (_, O::Detaching) => E::AttachedAndDetaching,
            (S::Pending | S::Verifying, O::Available) if is_unanswered && may_resend => {
                E::Resendable
            }
            (S::Pending | S::Verifying, O::Available) if is_unanswered => {
                unanswered_and_free(attempt.sends.len())
            }
            (_, O::Available) => accepted_and_free(),
            (_, O::Elsewhere) => elsewhere(observation),
            (_, O::Missing) => {
                E::Absent(Reason::EniNotFound, "ens no longer knows the eni".to_owned())
            }
            (_, O::Here | O::Unclear) => E::PollAgain,
        }
    }

    /// Whether a row that shows the ENI here may still be that of an earlier attachment.
    pub(super) fn may_be_stale(&self, attempt: &Attempt, sent_at: Timestamp) -> bool {
        let checked = self.enabled(SafetyCheck::SeenBefore);
        checked && attempt.was_recently_attached && !self.is_past_lag(attempt, sent_at)
    }

    /// Whether a Describe call that shows the ENI free permits another send.
    fn allows_resend(&self, attempt: &Attempt, sent_at: Timestamp) -> bool {
        let is_refused = attempt.state.refusal().is_some();
        self.is_past_lag(attempt, sent_at) && attempt.sends.len() < MAX_SENDS && !is_refused
    }

    /// Whether a Describe call was sent at least one lag after the last send.
    fn is_past_lag(&self, attempt: &Attempt, sent_at: Timestamp) -> bool {
        let lag = self.context.bounds.lag;
        let shows = |send: &super::super::record::SendEntry| sent_at >= send.counts_from() + lag;
        attempt.last_send().is_none_or(shows)
    }
}

/// ENS refused the attach for the ENI's status, and shows the ENI neither attached nor attaching
/// here. The refusal may answer a replayed copy, and the row may be older than the send. It proves
/// nothing before the end of the grace period.
fn in_conflict(status: &str) -> StatusEffect {
    let why =
        format!("the eni cannot be attached in its status {status}; wait until it is Available");
    StatusEffect::Absent(Reason::EniNotAvailable, why)
}

/// The same, and the ENI is free.
fn refused_and_free() -> StatusEffect {
    let why = "ens refused the attach for the eni's status, and then showed it free; try again";
    StatusEffect::Absent(Reason::EniNotAvailable, why.to_owned())
}

/// An attaching status proves nothing sooner: its response may have come long after the call was
/// sent.
fn accepted_and_free() -> StatusEffect {
    let why = "ens accepted the attach, and then showed the eni free again; see the instance's state, and try again";
    StatusEffect::Absent(Reason::AttachFailed, why.to_owned())
}

fn unanswered_and_free(sends: usize) -> StatusEffect {
    let why = format!(
        "sent {sends} times without an answer that settles it, and ens shows the eni free; try again"
    );
    StatusEffect::Absent(Reason::NotApplied, why)
}

fn elsewhere(observation: &EniObservation) -> StatusEffect {
    let instance = match observation {
        EniObservation::Elsewhere { instance, .. } => instance.as_str(),
        _ => "",
    };
    let why = format!("the eni is attached to, or on its way to, another instance: {instance}");
    StatusEffect::Absent(Reason::EniNotAvailable, why)
}
