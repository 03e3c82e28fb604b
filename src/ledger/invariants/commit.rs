//! What has to hold of every commit, as far as records show it.

use std::collections::BTreeSet;

use crate::model::State;

use crate::ledger::bounds::Bounds;
use crate::ledger::record::{Attempt, Record};

/// An invariant that a commit broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breach {
    /// L1: a reserve took the instance past its limit.
    Limit,
    /// L3: a reservation ended without proof.
    Reservation,
    /// L5: a fence fell or came twice.
    Fence,
    /// A2: an ended attempt changed its state.
    Terminal,
    /// A2, W1: a revision fell or came twice.
    Revision,
}

impl Breach {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Limit,
        Self::Reservation,
        Self::Fence,
        Self::Terminal,
        Self::Revision,
    ];

    /// The name in the safety argument.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Limit => "L1",
            Self::Reservation => "L3",
            Self::Fence => "L5",
            Self::Terminal => "A2",
            Self::Revision => "W1",
        }
    }
}

/// The invariants that the step from `before` to `after` breaks.
#[must_use]
pub fn check(before: &Record, after: &Record, bounds: &Bounds) -> Vec<Breach> {
    let checks = [
        (keeps_limit(before, after, bounds), Breach::Limit),
        (keeps_reservations(before, after), Breach::Reservation),
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
        .filter(|(_, attempt)| attempt.is_reserved())
        .map(|(eni, _)| eni);
    let taken: BTreeSet<_> = observed.chain(after.settled.keys()).chain(reserved).collect();
    taken.len() <= bounds.limit
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
    match (&before.lock, &after.lock) {
        (Some(then), Some(now)) if then.fence == now.fence => then.ticket == now.ticket,
        (_, Some(now)) => now.fence <= after.fence && (now.fence > before.fence || before.lock == after.lock),
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
