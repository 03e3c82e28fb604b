//! Tests of each check of a commit, with and without a violation.

use std::time::Duration;

use rstest::rstest;

use super::{Violation, check};
use crate::ledger::apply::Context;
use crate::ledger::bounds::{LEASE_MARGIN, OBSERVATION_LIFE};
use crate::ledger::record::{Attempt, AttemptState, LockGrant, Observation, Record, SendEntry};
use crate::ledger::{Bounds, Partition};
use crate::model::{
    Failure, FencingToken, InstanceId, InterfaceId, Reason, State, Ticket, Timestamp, Uid, Unknown,
};

const START: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn eni() -> InterfaceId {
    "eni-1".parse().unwrap()
}

fn instance() -> InstanceId {
    "i-1".parse().unwrap()
}

fn attempt(state: State, sends: &[(u64, Option<u64>)]) -> Attempt {
    let mut attempt = Attempt::new(&instance(), &eni(), Uid(uuid::Uuid::nil()), at(0));
    attempt.state = AttemptState::of(state);
    attempt.sends = sends
        .iter()
        .map(|(sent, answered)| SendEntry {
            answered_at: answered.map(at),
            ..SendEntry::new(at(*sent))
        })
        .collect();
    attempt
}

fn of(attempts: impl IntoIterator<Item = Attempt>) -> Record {
    let attempts = attempts.into_iter().map(|attempt| (attempt.eni.clone(), attempt));
    Record { attempts: attempts.collect(), ..Record::default() }
}

/// The violations of the step, without the order of revisions, which nothing here keeps.
fn breaks(before: &Record, after: &Record, now: u64) -> Vec<Violation> {
    let context = Context {
        bounds: &Bounds::default(),
        instance: &instance(),
        partition: &Partition::default(),
        request: None,
        now: at(now),
    };
    let mut found = check(before, after, &context);
    found.retain(|violation| *violation != Violation::Revision);
    found
}

#[rstest]
#[case::fresh(Some((5, 5)), true)]
#[case::just_over(Some((3, 3)), false)]
#[case::sent_in_the_future(Some((6, 5)), false)]
#[case::recorded_in_the_future(Some((4, 70)), false)]
#[case::none(None, false)]
fn a_send_is_written_by_a_good_observation(#[case] seen: Option<(u64, u64)>, #[case] holds: bool) {
    let mut pending = attempt(State::Pending, &[(5, None)]);
    pending.state.schedule(at(20) + LEASE_MARGIN, false);
    let mut after = of([pending]);
    after.fencing_token = FencingToken(1);
    after.lock = Some(LockGrant {
        ticket: Ticket(uuid::Uuid::nil()),
        fencing_token: FencingToken(1),
        expires_at: at(20),
        provisional: false,
        unknown: Unknown::default(),
    });
    after.observation = seen.map(|(sent, recorded)| Observation {
        sent_at: at(sent),
        occupied: Vec::new(),
        recorded_at: at(recorded),
        valid_for: OBSERVATION_LIFE,
        unknown: Unknown::default(),
    });
    let expected: &[Violation] = if holds { &[] } else { &[Violation::Observation] };
    assert_eq!(breaks(&Record::default(), &after, 5), expected);
    // An attempt restored with an answer has another due time.
    for attempt in after.attempts.values_mut_where(|_| true) {
        attempt.state.schedule(at(6), false);
    }
    assert_eq!(breaks(&Record::default(), &after, 5), []);
}

#[rstest]
#[case::refused_for_good(Reason::NetworkMismatch, "", Some(1), None, true)]
#[case::another_copy_is_open(Reason::NetworkMismatch, "", None, None, false)]
#[case::an_unknown_code(Reason::EnsError, "", Some(1), Some(2), false)]
#[case::an_unknown_code_and_a_late_describe(Reason::EnsError, "", Some(1), Some(12), true)]
#[case::its_status_is_wrong_and_shown_so(Reason::EniNotAvailable, "InUse", Some(1), Some(2), false)]
#[case::its_status_is_wrong_and_shown_otherwise(
    Reason::EniNotAvailable,
    "Available",
    Some(1),
    Some(2),
    false
)]
#[case::its_status_is_wrong_and_later_free(
    Reason::EniNotAvailable,
    "Available",
    Some(1),
    Some(12),
    true
)]
#[case::unanswered_and_free(Reason::NotApplied, "Available", None, Some(39), false)]
#[case::unanswered_and_later_free(Reason::NotApplied, "Available", None, Some(41), true)]
fn an_attempt_fails_by_proof(
    #[case] reason: Reason,
    #[case] shown: &str,
    #[case] answered: Option<u64>,
    #[case] described: Option<u64>,
    #[case] holds: bool,
) {
    let before = of([attempt(State::Verifying, &[(0, answered)])]);
    let mut failed = attempt(State::Failed, &[(0, answered)]);
    failed.state = AttemptState::failed(Failure::new(reason, ""));
    failed.ens_status = shown.to_owned();
    failed.described_at = described.map(at);
    let expected: &[Violation] = if holds { &[] } else { &[Violation::Reservation] };
    assert_eq!(breaks(&before, &of([failed]), 50), expected);
}

#[rstest]
#[case::answered(&[(0, Some(1)), (0, Some(1))], 20, true)]
#[case::a_copy_is_open(&[(0, None), (0, Some(1))], 20, false)]
#[case::two_are_open_and_one_attached_it(&[(0, None), (0, None)], 20, false)]
#[case::the_only_one_may_be_repeated_on_the_way(&[(0, None)], 20, false)]
#[case::it_cannot_arrive_any_more(&[(0, None), (0, Some(1))], 41, true)]
fn an_attached_one_is_detached_when_no_copy_is_open(
    #[case] sends: &[(u64, Option<u64>)],
    #[case] described: u64,
    #[case] holds: bool,
) {
    let before = of([attempt(State::Attached, sends)]);
    let mut detached = attempt(State::Detached, sends);
    detached.described_at = Some(at(described));
    let expected: &[Violation] = if holds { &[] } else { &[Violation::Reservation] };
    assert_eq!(breaks(&before, &of([detached]), 50), expected);
}

#[rstest]
#[case::doubtful_and_soon(Reason::EniNotAvailable, "Available", 12, false)]
#[case::doubtful_and_long_after(Reason::EniNotAvailable, "Available", 41, true)]
#[case::others_may_attach_what_was_refused(Reason::NetworkMismatch, "", 12, true)]
#[case::others_may_attach_what_was_taken_back(Reason::AttachFailed, "Available", 12, true)]
#[case::within_the_grace(Reason::AttachFailed, "Available", 9, false)]
fn a_failed_attempt_does_not_appear(
    #[case] reason: Reason,
    #[case] shown: &str,
    #[case] seen: u64,
    #[case] holds: bool,
) {
    let mut failed = attempt(State::Failed, &[(0, Some(0))]);
    failed.state = AttemptState::failed(Failure::new(reason, ""));
    failed.ens_status = shown.to_owned();
    let uid = Uid(uuid::Uuid::from_u128(2));
    let state = AttemptState::of(State::Attached);
    let appeared = Attempt::external(&instance(), &eni(), uid, state, "InUse", at(seen), at(seen));
    let expected: &[Violation] = if holds { &[] } else { &[Violation::Truth] };
    assert_eq!(breaks(&of([failed]), &of([appeared]), 50), expected);
}
