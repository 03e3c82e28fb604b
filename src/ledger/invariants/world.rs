//! Invariants of what callers see, compared with what happened in ENS.

use crate::model::{SendEffect, State};

/// L1: ENS has no more ENIs on an instance than its limit, as far as the gateways sent them.
#[must_use]
pub const fn within_limit(occupied: usize, limit: usize) -> bool {
    occupied <= limit
}

/// A1: an end that callers are shown agrees with ENS. `in_use`: whether ENS has the ENI in use on
/// the instance.
#[must_use]
pub const fn agrees(shown: State, in_use: bool) -> bool {
    match shown {
        State::Attached => in_use,
        State::Failed | State::Detached => !in_use,
        State::Pending
        | State::Verifying
        | State::Attaching
        | State::Detaching
        | State::Unknown => true,
    }
}

/// A2: how one attempt is shown after it was shown as `before`. States between may have been
/// skipped.
#[must_use]
pub fn may_be_shown(before: State, after: State) -> bool {
    before == after || before.may_become(after)
}

/// W1: what a stream shows after it showed `revision`.
#[must_use]
pub const fn rises(revision: u64, next: u64) -> bool {
    next > revision
}

/// D1: the reported effect of an attach agrees with the calls that reached ENS for it, then or
/// later. `arrived` calls reached ENS, and `applied` of them took effect.
#[must_use]
pub const fn reported_truthfully(reported: SendEffect, arrived: u64, applied: u64) -> bool {
    match reported {
        SendEffect::Nothing => arrived == 0,
        SendEffect::Refused | SendEffect::NotApplied => applied == 0,
        SendEffect::TakenBack | SendEffect::Unknown => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_nothing_sent_is_stricter_than_a_report_of_refusal() {
        assert!(reported_truthfully(SendEffect::Nothing, 0, 0));
        assert!(!reported_truthfully(SendEffect::Nothing, 1, 0));
        assert!(reported_truthfully(SendEffect::Refused, 1, 0));
        assert!(!reported_truthfully(SendEffect::NotApplied, 2, 1));
        assert!(reported_truthfully(SendEffect::Unknown, 3, 1));
    }

    #[test]
    fn an_end_agrees_with_ens_or_not_and_what_is_under_way_says_nothing() {
        assert!(agrees(State::Attached, true) && !agrees(State::Attached, false));
        assert!(agrees(State::Failed, false) && !agrees(State::Failed, true));
        assert!(agrees(State::Attaching, true) && agrees(State::Attaching, false));
    }

    #[test]
    fn an_end_is_shown_again_or_followed_by_a_detach() {
        assert!(
            may_be_shown(State::Attached, State::Attached)
                && may_be_shown(State::Attached, State::Detached)
        );
        assert!(
            !may_be_shown(State::Failed, State::Attached)
                && !may_be_shown(State::Detached, State::Detaching)
        );
    }
}
