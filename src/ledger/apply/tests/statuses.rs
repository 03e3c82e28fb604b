use super::*;
use crate::model::Reason;

#[test]
fn in_use_here_is_success_and_ends_the_reservation() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    let attempt = desk.settle("eni-1", here(ObservedStatus::InUse));
    assert_eq!(
        (attempt.state.kind(), attempt.is_reserved(), attempt.state.due_at()),
        (State::Attached, false, None)
    );
    assert_eq!(attempt.ens_status, "InUse");
    assert_eq!(attempt.observed_at, Some(desk.now));
}

#[test]
fn available_fails_an_accepted_attempt_only_after_the_grace() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(9 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Attaching);
    desk.pass(2 * SECOND);
    let attempt = desk.settle("eni-1", free());
    assert_eq!((attempt.state.kind(), attempt.is_reserved()), (State::Failed, false));
    assert_eq!(desk.error("eni-1"), Reason::AttachFailed);
}

#[test]
fn or_when_attaching_was_seen_at_least_one_lag_before() {
    let mut desk = Desk::new();
    desk.bounds.lag = 3 * SECOND;
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::Attaching));
    desk.pass(SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Attaching, "it may lag");
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Failed);
}

#[test]
fn a_describe_older_than_the_send_or_than_the_newest_one_says_nothing() {
    let mut desk = Desk::new();
    let before = desk.now;
    desk.pass(SECOND);
    desk.accept(1, "eni-1");
    assert_eq!(
        desk.settle_as_of(before, "eni-1", here(ObservedStatus::InUse)).state.kind(),
        State::Attaching
    );
    desk.pass(20 * SECOND);
    let asked = desk.now;
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::Attaching));
    assert_eq!(desk.settle_as_of(asked, "eni-1", free()).state.kind(), State::Attaching);
}

#[test]
fn in_use_is_believed_one_lag_after_the_send_where_the_eni_was_here_before() {
    let mut desk = Desk::new();
    desk.observe(&["eni-1"]);
    desk.pass(11 * SECOND);
    desk.settle("eni-1", here(ObservedStatus::Detaching));
    desk.pass(2 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.state("eni-1"), State::Detached);
    desk.pass(SECOND);
    desk.accept(1, "eni-1");
    desk.pass(2 * SECOND);
    assert_eq!(
        desk.settle("eni-1", here(ObservedStatus::InUse)).state.kind(),
        State::Attaching,
        "that may be the old one"
    );
    desk.pass(9 * SECOND);
    assert_eq!(desk.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
}

#[test]
fn elsewhere_and_missing_fail_only_after_the_grace() {
    let elsewhere =
        EniObservation::Elsewhere { instance: "i-2".parse().unwrap(), text: "InUse".to_owned() };
    for (observation, reason) in
        [(elsewhere, Reason::EniNotAvailable), (EniObservation::Missing, Reason::EniNotFound)]
    {
        let mut desk = Desk::new();
        desk.accept(1, "eni-1");
        desk.pass(5 * SECOND);
        assert_eq!(desk.settle("eni-1", observation.clone()).state.kind(), State::Attaching);
        desk.pass(6 * SECOND);
        desk.settle("eni-1", observation);
        assert_eq!(desk.error("eni-1"), reason);
    }
}

#[test]
fn an_unclear_observation_settles_nothing() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(600 * SECOND);
    let attempt = desk.settle("eni-1", EniObservation::Unclear { text: "Attaching".to_owned() });
    assert_eq!((attempt.state.kind(), attempt.is_reserved()), (State::Attaching, true));
    assert!(attempt.state.is_stuck() && attempt.state.due_at().is_some());
}

#[test]
fn an_attempt_whose_owner_died_is_verified_and_finished_by_others() {
    let mut desk = Desk::new();
    desk.reserve(1, "eni-1");
    desk.pass(17 * SECOND);
    let attempt = desk.settle("eni-1", free());
    assert_eq!(attempt.state.kind(), State::Verifying);
    assert!(attempt.may_be_resent());
    desk.pass(SECOND);
    assert_eq!(desk.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
}

#[test]
fn attached_becomes_detaching_and_detached_and_nothing_else() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::InUse));
    let uid = desk.attempt("eni-1").uid;
    desk.pass(20 * SECOND);
    let attempt = desk.settle("eni-1", here(ObservedStatus::Detaching));
    assert_eq!(attempt.state.kind(), State::Detaching);
    assert!(attempt.state.due_at().is_some(), "followed to its end");
    desk.pass(SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Detached);
    assert_eq!(desk.attempt("eni-1").uid, uid);
}

#[test]
fn polls_fall_on_whole_seconds_and_come_less_often() {
    let mut desk = Desk::new();
    desk.pass(Duration::from_micros(123_456));
    desk.accept(1, "eni-1");
    let mut pauses = Vec::new();
    for _ in 0..25 {
        let due = desk.attempt("eni-1").state.due_at().unwrap();
        assert_eq!(due.as_micros() % 1_000_000, 0);
        pauses.push(due.since(desk.now).as_secs());
        desk.now = due;
        desk.settle("eni-1", here(ObservedStatus::Attaching));
    }
    assert!(pauses.is_sorted() && pauses[0] <= 1 && pauses[24] == 10, "{pauses:?}");
}

/// ENS was slow. What it applied just before its answer need not show yet one lag after the send.
#[test]
fn the_grace_of_an_accepted_attach_begins_with_its_answer() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.pass(7 * SECOND);
    let ens_request_id = "E-1".to_owned();
    desk.answer(&sent, SendResult::Accepted { ens_request_id });
    desk.pass(9 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Attaching);
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Failed);
}

#[test]
fn an_attached_eni_seen_attaching_was_attached_again() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    let first = desk.settle("eni-1", here(ObservedStatus::InUse));
    desk.pass(SECOND);
    let past = desk.settle("eni-1", here(ObservedStatus::Attaching));
    assert_eq!(past.state.kind(), State::Attached, "a describe may show the past");
    desk.pass(desk.bounds.lag);
    let again = desk.settle("eni-1", here(ObservedStatus::Attaching));
    assert_eq!(again.state.kind(), State::Attaching);
    assert_ne!(again.uid, first.uid);
}

/// Attached, detached externally, and attached again within the lag.
#[test]
fn an_attached_eni_that_is_shown_free_is_affirmed_to_no_caller() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::InUse));
    let again = |desk: &mut Desk| {
        let Command::Acquire(enter) = enter(2, "eni-1", Mode::Query, None) else { unreachable!() };
        let affirmed_since = desk.now;
        desk.run(&Command::Acquire(Acquire { confirmed_since: affirmed_since, ..enter }))
    };
    desk.pass(SECOND);
    assert!(matches!(again(&mut desk), Reply::AlreadyAttached { fresh: false, .. }));
    desk.settle("eni-1", free());
    let Reply::Unconfirmed { until } = again(&mut desk) else { panic!("ENS may be right") };
    let attempt = desk.attempt("eni-1");
    assert_eq!(attempt.state.kind(), State::Attached);
    assert!(attempt.state.due_at().is_some_and(|due_at| due_at >= until), "it is looked at again");

    let mut attached = desk.clone();
    attached.pass(SECOND);
    attached.settle("eni-1", here(ObservedStatus::InUse));
    assert!(matches!(again(&mut attached), Reply::AlreadyAttached { fresh: true, .. }));
    assert_eq!(attached.attempt("eni-1").state.due_at(), None);

    desk.pass(until.since(desk.now) + SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.state("eni-1"), State::Detached);
    assert_eq!(again(&mut desk), Reply::Admissible);
    assert_eq!(desk.attempt("eni-1").state.due_at(), None);
}

#[test]
fn an_attached_eni_that_is_shown_elsewhere_or_not_at_all_is_in_doubt() {
    let elsewhere =
        EniObservation::Elsewhere { instance: "i-2".parse().unwrap(), text: "InUse".to_owned() };
    let unclear = EniObservation::Unclear { text: "Attaching".to_owned() };
    for observation in
        [elsewhere, EniObservation::Missing, unclear, here(ObservedStatus::Attaching)]
    {
        let mut desk = Desk::new();
        desk.accept(1, "eni-1");
        desk.pass(SECOND);
        desk.settle("eni-1", here(ObservedStatus::InUse));
        desk.pass(SECOND);
        desk.settle("eni-1", observation.clone());
        let notifies = |desk: &Desk| desk.last.as_ref().unwrap().effects.notify;
        assert!(notifies(&desk), "watchers wait for the end of the doubt: {observation:?}");
        let reply = desk.enter(2, "eni-1", Mode::Query);
        assert!(matches!(reply, Reply::Unconfirmed { .. }), "{observation:?}: {reply:?}");
        desk.pass(SECOND);
        desk.settle("eni-1", here(ObservedStatus::InUse));
        assert!(notifies(&desk), "the doubt has ended: {observation:?}");
        desk.pass(SECOND);
        desk.settle("eni-1", here(ObservedStatus::InUse));
        assert!(!desk.last.as_ref().is_some_and(|last| last.effects.notify), "nothing changed");
    }
}
