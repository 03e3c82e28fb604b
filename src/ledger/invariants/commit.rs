//! What has to hold of every commit, as far as records show it.

use std::collections::BTreeSet;

use crate::ledger::bounds::{Bounds, LEASE_MARGIN};
use crate::ledger::record::{Attempt, Record};
use crate::ledger::rules::Rules;
use crate::model::{Reason, State, Timestamp};

/// An invariant that a commit broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breach {
    /// L1: a reserve took the instance past its limit.
    Limit,
    /// L1: a send was written by an observation that was too old, void, or from the future.
    Observation,
    /// L3: a reservation ended without proof.
    Reservation,
    /// A1: an attempt that ended FAILED took effect.
    End,
    /// L5: a fence fell or came twice.
    Fence,
    /// A2: an ended attempt changed its state.
    Terminal,
    /// A2, W1: a revision fell or came twice.
    Revision,
}

impl Breach {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Limit,
        Self::Observation,
        Self::Reservation,
        Self::End,
        Self::Fence,
        Self::Terminal,
        Self::Revision,
    ];

    /// The name in the safety argument.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Limit | Self::Observation => "L1",
            Self::Reservation => "L3",
            Self::End => "A1",
            Self::Fence => "L5",
            Self::Terminal => "A2",
            Self::Revision => "W1",
        }
    }
}

/// The invariants that the step from `before` to `after`, computed for the time `now`, breaks.
#[must_use]
pub fn check(before: &Record, after: &Record, bounds: &Bounds, now: Timestamp) -> Vec<Breach> {
    let kept = keeps_reservations(before, after) && ends_by_proof(before, after, bounds);
    let checks = [
        (keeps_limit(before, after, bounds), Breach::Limit),
        (sends_by_a_good_observation(before, after, now), Breach::Observation),
        (kept, Breach::Reservation),
        (ends_agree(before, after, bounds), Breach::End),
        (fences_rise(before, after), Breach::Fence),
        (ends_stay(before, after), Breach::Terminal),
        (revisions_rise(before, after), Breach::Revision),
    ];
    checks
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, breach)| breach)
        .collect()
}

fn pairs<'a>(before: &'a Record, after: &'a Record) -> impl Iterator<Item = (&'a Attempt, &'a Attempt)> {
    after
        .attempts
        .iter()
        .filter_map(|(eni, now)| before.attempts.get(eni).map(|then| (then, now)))
}

/// L1: a commit that reserves a slot leaves occupied ∪ reserved within the limit.
fn keeps_limit(before: &Record, after: &Record, bounds: &Bounds) -> bool {
    let known = |attempt: &Attempt| before.attempts.values().any(|then| then.uid() == attempt.uid());
    let reserves = |attempt: &Attempt| attempt.attachment.state == State::Pending && !known(attempt);
    if !after.attempts.values().any(reserves) {
        return true;
    }
    let observed = after.observation.iter().flat_map(|observation| &observation.occupied);
    let reserved = after
        .attempts
        .iter()
        .filter(|(_, attempt)| attempt.reserved)
        .map(|(eni, _)| eni);
    let taken: BTreeSet<_> = observed.chain(after.settled.keys()).chain(reserved).collect();
    taken.len() <= bounds.limit
}

/// L1: the observation by which a commit gives the right to a send is neither void nor over, and was not made at a time to come: how
/// old such a one is, is unknown.
fn sends_by_a_good_observation(before: &Record, after: &Record, now: Timestamp) -> bool {
    let known = |attempt: &Attempt| {
        let then = before.attempts.get(&attempt.attachment.eni);
        then.is_some_and(|then| then.uid() == attempt.uid() && then.last_send() == attempt.last_send())
    };
    // What the ledger lost and gets back with its answer was sent before.
    let until = after.lock.map(|grant| grant.expires_at + LEASE_MARGIN);
    let may_be_sent = |attempt: &Attempt| until.is_some() && attempt.due_at == until && attempt.has_unanswered_send();
    if !after
        .attempts
        .values()
        .any(|attempt| may_be_sent(attempt) && !known(attempt))
    {
        return true;
    }
    let observation = after.observation.as_ref();
    observation.is_some_and(|seen| seen.sent_at <= now && seen.recorded_at <= now && now < seen.expires_at())
}

/// The same bounds with every rule in force: what is judged here does not depend on the rules that are tried.
fn grace_ends(attempt: &Attempt, bounds: &Bounds) -> Timestamp {
    let bounds = Bounds {
        rules: Rules::default(),
        ..bounds.clone()
    };
    bounds.grace_ends(attempt)
}

/// L3, for attempts that end: FAILED by a refusal that proves that no copy was applied, or by a describe that was sent after the
/// grace; DETACHED while no copy may take effect any more, or by such a describe.
fn ends_by_proof(before: &Record, after: &Record, bounds: &Bounds) -> bool {
    let same = pairs(before, after).filter(|(then, now)| then.uid() == now.uid() && now.ours);
    let mut ended = same.filter(|(then, now)| then.attachment.state != now.attachment.state);
    ended.all(|(_, now)| {
        let late = now
            .described_at
            .is_some_and(|described| described > grace_ends(now, bounds));
        match now.attachment.state {
            State::Failed => is_refused_for_good(now) || late,
            State::Detached => !may_attach_again(now) || late,
            _ => true,
        }
    })
}

/// Whether a copy of an attempt that was attached is unanswered beside the one that attached it.
fn may_attach_again(attempt: &Attempt) -> bool {
    let unanswered = attempt.sends.iter().filter(|send| send.answered_at.is_none()).count();
    let attached_by_one_of_them = unanswered == attempt.sends.len();
    unanswered > usize::from(attached_by_one_of_them)
}

/// Whether ENS refused every copy of an ended attempt, with a code that proves that it was not applied. That the ENI's status is wrong
/// proves it only where ENS shows such a status: a copy that was applied changes it, too.
fn is_refused_for_good(attempt: &Attempt) -> bool {
    let Some(error) = attempt
        .attachment
        .error
        .as_ref()
        .filter(|_| !attempt.has_unanswered_send())
    else {
        return false;
    };
    match error.reason {
        Reason::EniNotAvailable => !attempt.attachment.ens_status.eq_ignore_ascii_case("Available"),
        // Also what a describe shows.
        Reason::EniNotFound => !error.ens_code.is_empty(),
        Reason::EnsThrottled => false,
        reason => !reason.ens_codes().is_empty(),
    }
}

/// A1, when a record meets what ENS shows: an attempt that ended FAILED, and whose ENI a describe shows on the instance. Others may have
/// attached it; but while a copy of the attempt's own may show, or may have been applied in spite of its answer, it counts as its own.
fn ends_agree(before: &Record, after: &Record, bounds: &Bounds) -> bool {
    let failed = |then: &Attempt| then.ours && then.attachment.state == State::Failed && !is_refused_for_good(then);
    let mut appeared = pairs(before, after).filter(|(then, now)| failed(then) && !now.ours && then.uid() != now.uid());
    appeared.all(|(then, now)| {
        now.described_at
            .is_none_or(|shown| shown > own_copies_end(then, bounds))
    })
}

/// When nothing that a failed attempt sent can show any more.
fn own_copies_end(attempt: &Attempt, bounds: &Bounds) -> Timestamp {
    let error = attempt.attachment.error.as_ref().map(|error| error.reason);
    // Such an answer may be to another delivery of the same request.
    let doubtful = matches!(error, Some(Reason::EniNotAvailable | Reason::EnsError));
    let last = attempt
        .sends
        .iter()
        .map(|send| send.at + bounds.validity + bounds.lag)
        .max();
    last.filter(|_| doubtful)
        .unwrap_or_default()
        .max(grace_ends(attempt, bounds))
}

/// L3, as far as records show it: only an attempt with a single send, which its owner takes back, leaves without an end.
fn keeps_reservations(before: &Record, after: &Record) -> bool {
    let sent_again = |then: &Attempt| then.reserved && then.sends.len() > 1;
    before
        .attempts
        .iter()
        .filter(|(_, then)| sent_again(then))
        .all(|(eni, then)| after.attempts.get(eni).is_some_and(|now| now.uid() == then.uid()))
}

fn fences_rise(before: &Record, after: &Record) -> bool {
    match (before.lock, after.lock) {
        (Some(then), Some(now)) if then.fence == now.fence => then.ticket == now.ticket,
        (_, Some(now)) => now.fence <= after.fence && (now.fence > before.fence || before.lock == Some(now)),
        (_, None) => after.fence >= before.fence,
    }
}

fn ends_stay(before: &Record, after: &Record) -> bool {
    pairs(before, after)
        .filter(|(then, now)| then.uid() == now.uid())
        .all(|(then, now)| {
            let (then, now) = (then.attachment.state, now.attachment.state);
            then == now || then.may_become(now)
        })
}

fn revisions_rise(before: &Record, after: &Record) -> bool {
    after.revision >= before.revision
        && pairs(before, after).all(|(then, now)| {
            now.attachment.revision >= then.attachment.revision
                && (then.attachment.state == now.attachment.state && then.uid() == now.uid()
                    || now.attachment.revision > then.attachment.revision)
        })
        && after
            .attempts
            .values()
            .all(|attempt| attempt.attachment.revision <= after.revision)
}
