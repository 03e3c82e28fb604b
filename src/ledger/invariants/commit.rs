//! The invariants of a commit, as far as records show them.

use std::collections::BTreeSet;

use crate::ledger::apply::Context;
use crate::ledger::bounds::{CLOCK_TOLERANCE, LEASE_MARGIN, OBSERVATION_LIFE};
use crate::ledger::record::{Attempt, Record};
use crate::model::{InterfaceId, Reason, State, Timestamp};

/// An invariant that a commit broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// L1: a reservation took the instance past its limit.
    Limit,
    /// L1: a send was recorded with an observation that was too old, or of unknown age.
    Observation,
    /// L3: a reservation ended without proof.
    Reservation,
    /// A1: ENS shows an ENI here whose attach was reported as failed, while a copy of that attach
    /// may be the cause.
    Truth,
    /// L5: a fencing token decreased or was repeated.
    FencingToken,
    /// A2: an ended attempt changed its state.
    Terminal,
    /// A2, W1: a revision decreased or was repeated.
    Revision,
}

impl Violation {
    /// All invariants.
    pub const ALL: [Self; 7] = [
        Self::Limit,
        Self::Observation,
        Self::Reservation,
        Self::Truth,
        Self::FencingToken,
        Self::Terminal,
        Self::Revision,
    ];

    /// The name in the safety argument.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Limit | Self::Observation => "L1",
            Self::Reservation => "L3",
            Self::Truth => "A1",
            Self::FencingToken => "L5",
            Self::Terminal => "A2",
            Self::Revision => "W1",
        }
    }
}

/// The invariants that the step from `before` to `after` breaks, computed in this context.
#[must_use]
pub fn check(before: &Record, after: &Record, context: &Context<'_>) -> Vec<Violation> {
    let checks = [
        (keeps_limit(before, after, context), Violation::Limit),
        (observation_is_valid(before, after, context), Violation::Observation),
        (
            keeps_reservations(before, after) && ends_by_proof(before, after, context),
            Violation::Reservation,
        ),
        (agrees_with_ens(before, after, context), Violation::Truth),
        (fencing_tokens_rise(before, after), Violation::FencingToken),
        (ends_stay(before, after), Violation::Terminal),
        (revisions_rise(before, after), Violation::Revision),
    ];
    checks.into_iter().filter(|(holds, _)| !holds).map(|(_, violation)| violation).collect()
}

fn pairs<'a>(
    before: &'a Record,
    after: &'a Record,
) -> impl Iterator<Item = (&'a Attempt, &'a Attempt)> {
    after.attempts.iter().filter_map(|(eni, now)| before.attempts.get(eni).map(|then| (then, now)))
}

/// Whether a commit reserves a slot that was not reserved before.
fn reserves(before: &Record, after: &Record) -> bool {
    let known = |attempt: &Attempt| before.attempts.values().any(|then| then.uid == attempt.uid);
    let reserves = |attempt: &Attempt| attempt.state.kind() == State::Pending && !known(attempt);
    after.attempts.values().any(reserves)
}

/// L1: after a commit that reserves a slot, occupied ∪ reserved is within the limit.
fn keeps_limit(before: &Record, after: &Record, context: &Context<'_>) -> bool {
    if !reserves(before, after) {
        return true;
    }
    let observed = after.observation.iter().flat_map(|observation| &observation.occupied);
    let reserved =
        after.attempts.iter().filter(|(_, attempt)| attempt.is_reserved()).map(|(eni, _)| eni);
    let taken: BTreeSet<_> =
        observed.chain(after.recently_confirmed.keys()).chain(reserved).collect();
    taken.len() <= context.bounds.limit
}

/// L1: a commit that records a send uses an observation that is valid now, and was sent after the
/// hold-down.
fn observation_is_valid(before: &Record, after: &Record, context: &Context<'_>) -> bool {
    // An attempt that the ledger lost and its owner writes back was sent before. Its due time
    // differs.
    let until = after.lock.as_ref().map(|grant| grant.expires_at + LEASE_MARGIN);
    let is_new = |attempt: &Attempt| {
        until.is_some() && attempt.state.due_at() == until && attempt.has_unanswered_send()
    };
    let known = |attempt: &Attempt| {
        let then = before.attempts.get(&attempt.eni);
        then.is_some_and(|then| then.uid == attempt.uid && then.last_send() == attempt.last_send())
    };
    let sends = after.attempts.values().any(|attempt| is_new(attempt) && !known(attempt));
    let is_good = after.observation.as_ref().is_some_and(|observation| {
        let latest = observation.sent_at.max(observation.recorded_at);
        latest <= context.now + CLOCK_TOLERANCE
            && !observation.is_invalidated()
            && context.now < observation.recorded_at + OBSERVATION_LIFE
            && observation.sent_at >= context.partition.hold_down_until
    });
    !sends || is_good
}

/// L3: an attempt failed only by proof. Either ENS refused every copy with an answer that proves
/// it. Or a Describe call sent after the grace period and the hold-down shows the ENI not here. An
/// attached one becomes detached only by a Describe call that shows the outcome of every copy.
fn ends_by_proof(before: &Record, after: &Record, context: &Context<'_>) -> bool {
    let failed = |(then, now): &(&Attempt, &Attempt)| {
        then.uid == now.uid && then.is_reserved() && now.state.kind() == State::Failed
    };
    let detached = |(then, now): &(&Attempt, &Attempt)| {
        let is_new = then.state.kind() != State::Detached && now.state.kind() == State::Detached;
        then.uid == now.uid && now.is_from_gateway() && is_new
    };
    let shows = |attempt: &Attempt| attempt.open_copies_show(context.bounds);
    let detached_by_proof = |now: &Attempt| {
        !now.has_unanswered_send() || now.described_at.is_some_and(|at| at > shows(now))
    };
    let mut detached = pairs(before, after).filter(detached);
    detached.all(|(_, now)| detached_by_proof(now))
        && pairs(before, after).filter(failed).all(|(_, now)| {
            let in_hold_down = context.now < context.partition.hold_down_until;
            let proves = now.grace_ends(context.bounds).max(context.partition.hold_down_until);
            is_refused(now) && !in_hold_down
                || now.described_at.is_some_and(|described_at| described_at > proves)
        })
}

/// Whether ENS answered every copy, and refused for a reason that proves that none was applied.
fn is_refused(attempt: &Attempt) -> bool {
    let proves = |reason: Reason| reason.proves_refusal() && !reason.ens_codes().is_empty();
    let error = attempt.state.error();
    !attempt.has_unanswered_send() && error.is_some_and(|error| proves(error.reason))
}

/// A1: an attempt reported as failed without such a refusal stays failed. An ENI that appears here
/// while one of its copies may have been applied is that copy's effect. One that appears later, or
/// after such a refusal, is an external attachment. Where the ledger's clock was set, the age of a
/// copy is unknown, and nothing is checked.
fn agrees_with_ens(before: &Record, after: &Record, context: &Context<'_>) -> bool {
    let appeared = |eni: &InterfaceId| -> Option<Timestamp> {
        let now = after.attempts.get(eni).filter(|now| !now.is_from_gateway())?;
        let here = matches!(now.state.kind(), State::Attaching | State::Attached);
        now.observed_attached_at.filter(|_| here)
    };
    let failed = before
        .attempts
        .iter()
        .filter(|(_, then)| {
            then.is_from_gateway() && then.state.kind() == State::Failed && !is_refused(then)
        })
        .filter(|(_, then)| then.sends.iter().all(|send| send.restarted_at.is_none()));
    failed
        .into_iter()
        .all(|(eni, then)| appeared(eni).is_none_or(|seen| seen > own_copies_end(then, context)))
}

/// When no send of a failed attempt can show any more. After a refusal without proof, another
/// delivery may have been applied.
fn own_copies_end(attempt: &Attempt, context: &Context<'_>) -> Timestamp {
    let error = attempt.state.error().map(|error| error.reason);
    let is_doubtful = matches!(error, Some(Reason::EniNotAvailable | Reason::EnsError));
    let copies = attempt.sends.iter().map(|send| send.shows_by(context.bounds)).max();
    let copies = copies.filter(|_| is_doubtful).unwrap_or_default();
    copies.max(attempt.grace_ends(context.bounds))
}

/// L3, as far as records show it: an attempt is removed without an end only if its owner withdraws
/// its single send.
fn keeps_reservations(before: &Record, after: &Record) -> bool {
    let sent_again = |then: &Attempt| then.is_reserved() && then.sends.len() > 1;
    before
        .attempts
        .iter()
        .filter(|(_, then)| sent_again(then))
        .all(|(eni, then)| after.attempts.get(eni).is_some_and(|now| now.uid == then.uid))
}

fn fencing_tokens_rise(before: &Record, after: &Record) -> bool {
    match (&before.lock, &after.lock) {
        (Some(then), Some(now)) if then.fencing_token == now.fencing_token => {
            then.ticket == now.ticket
        }
        (_, Some(now)) => {
            now.fencing_token <= after.fencing_token
                && (now.fencing_token > before.fencing_token || before.lock == after.lock)
        }
        (_, None) => after.fencing_token >= before.fencing_token,
    }
}

fn ends_stay(before: &Record, after: &Record) -> bool {
    pairs(before, after).filter(|(then, now)| then.uid == now.uid).all(|(then, now)| {
        let (then, now) = (then.state.kind(), now.state.kind());
        then == now || then.may_become(now)
    })
}

fn revisions_rise(before: &Record, after: &Record) -> bool {
    after.revision >= before.revision
        && pairs(before, after).all(|(then, now)| {
            now.revision >= then.revision
                && (then.state.kind() == now.state.kind() && then.uid == now.uid
                    || now.revision > then.revision)
        })
        && after.attempts.values().all(|attempt| attempt.revision <= after.revision)
}
