use super::*;
use crate::model::{Failure, Reason};

pub(super) fn accepted() -> SendResult {
    SendResult::Accepted { ens_request_id: "E-1".to_owned() }
}

pub(super) fn refusal(reason: Reason) -> Failure {
    Failure::new(reason, "no")
}

#[test]
fn an_accepted_attach_is_attaching_and_the_lock_is_free() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    let attempt = desk.attempt("eni-1");
    assert_eq!(attempt.state.kind(), State::Attaching);
    assert_eq!(attempt.ens_request_id, "E-1");
    assert!(attempt.is_reserved() && attempt.state.due_at().is_some());
    assert_eq!(desk.record.lock, None);
    let states: Vec<State> = attempt.transitions.iter().map(|t| t.state).collect();
    assert_eq!(states, [State::Pending, State::Attaching]);
}

#[test]
fn the_send_is_written_with_the_reservation() {
    let mut desk = Desk::new();
    let (grant, attempt) = desk.reserve(1, "eni-1");
    assert_eq!(attempt.sends.len(), 1);
    assert_eq!(attempt.sends[0].answered_at, None);
    assert!(
        desk.attempt("eni-1").state.due_at().unwrap() > grant.expires_at,
        "adopted once the lease is over"
    );
    assert_eq!(desk.last.as_ref().unwrap().effects.expire_after, None);
}

#[test]
fn a_refusal_of_the_only_copy_ends_the_reservation() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    let attempt = desk.attempt("eni-1");
    assert_eq!(
        (attempt.state.kind(), attempt.is_reserved(), attempt.state.due_at()),
        (State::Failed, false, None)
    );
    assert_eq!(desk.error("eni-1"), Reason::InstanceNotStopped);
}

#[test]
fn what_was_never_sent_is_erased_and_the_former_state_stays() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoEffect);
    assert!(desk.record.attempts.is_empty());
    let sent = desk.reserve(2, "eni-1");
    desk.answer(&sent, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    let (former, revision) = (desk.attempt("eni-1").uid, desk.attempt("eni-1").revision);
    let sent = desk.reserve(3, "eni-1");
    desk.answer(&sent, SendResult::NoEffect);
    let now = desk.attempt("eni-1");
    assert_eq!((now.uid, now.state.kind()), (former, State::Failed));
    assert!(now.revision > revision, "watchers are notified");
}

#[test]
fn that_a_send_is_void_may_be_said_twice() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoEffect);
    let other = desk.reserve(2, "eni-1");
    desk.answer(&other, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    assert_eq!(desk.answer(&sent, SendResult::NoEffect), Reply::NotFound);
    assert_eq!(desk.attempt("eni-1").uid, other.1.uid, "nothing that came since is lost");

    let first = desk.reserve(3, "eni-2");
    let second = desk.send_again(&first);
    for _ in 0..2 {
        desk.answer(&second, SendResult::NoEffect);
        let attempt = desk.attempt("eni-2");
        assert_eq!(
            (attempt.sends.len(), attempt.is_reserved()),
            (1, true),
            "the first copy may still be applied"
        );
    }
}

#[test]
fn an_answer_that_comes_late_takes_no_state_back() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.pass(17 * SECOND);
    assert_eq!(desk.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
    desk.answer(&sent, SendResult::NoResponse);
    assert_eq!(desk.state("eni-1"), State::Attached);
    desk.answer(&sent, accepted());
    let attachment = desk.attempt("eni-1").attachment();
    assert_eq!((attachment.state, attachment.ens_request_id.as_str()), (State::Attached, "E-1"));
}

#[test]
fn an_attempt_that_the_ledger_lost_is_written_back_by_its_owner() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.record = Record::default();
    desk.begin_epoch(desk.now + desk.bounds.recovery_hold_down());
    desk.answer(&sent, accepted());
    let attempt = desk.attempt("eni-1");
    assert_eq!(
        (attempt.uid, attempt.state.kind(), attempt.is_reserved()),
        (sent.1.uid, State::Attaching, true)
    );
}

#[test]
fn a_request_id_replays_its_answer_joins_its_attempt_and_stays_with_its_eni() {
    let mut desk = Desk::new();
    let key = Some(request(7));
    desk.observe(&[]);
    let Reply::Reserved { grant, attempt, .. } =
        desk.run(&enter(1, "eni-1", Mode::Reserve, key.clone()))
    else {
        panic!()
    };
    let Reply::Joined(joined) = desk.run(&enter(2, "eni-1", Mode::Query, key.clone())) else {
        panic!()
    };
    assert_eq!(joined.uid, attempt.uid);
    let sent = (grant, Attempt::clone(&attempt));
    desk.answer(&sent, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    let Reply::Replayed(entry) = desk.run(&enter(3, "eni-1", Mode::Reserve, key.clone())) else {
        panic!()
    };
    let error = |answer: Option<Attachment>| answer.unwrap().error.unwrap().reason;
    assert_eq!(error(entry.answer), Reason::InstanceNotStopped);
    assert!(matches!(
        desk.run(&enter(4, "eni-2", Mode::Reserve, key.clone())),
        Reply::RequestIdReused(_)
    ));
    desk.accept(5, "eni-1");
    let Reply::Replayed(entry) = desk.run(&enter(6, "eni-1", Mode::Reserve, key)) else { panic!() };
    assert_eq!(entry.uid, sent.1.uid, "an old request has its own old answer");
    assert_eq!(error(entry.answer), Reason::InstanceNotStopped);
}

#[test]
fn a_request_whose_attempt_was_withdrawn_starts_again() {
    let mut desk = Desk::new();
    desk.observe(&[]);
    let key = Some(request(7));
    let Reply::Reserved { grant, attempt, .. } =
        desk.run(&enter(1, "eni-1", Mode::Reserve, key.clone()))
    else {
        panic!()
    };
    desk.answer(&(grant, Attempt::clone(&attempt)), SendResult::NoEffect);
    assert_eq!((&desk.requests, &desk.record.requests), (&BTreeMap::new(), &BTreeMap::new()));
    assert!(matches!(desk.run(&enter(2, "eni-1", Mode::Reserve, key)), Reply::Reserved { .. }));
}
