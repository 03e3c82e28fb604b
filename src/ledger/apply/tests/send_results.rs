use super::*;
use crate::model::{Failure, Reason};

fn accepted() -> SendResult {
    SendResult::Accepted {
        ens_request_id: "E-1".to_owned(),
    }
}

fn refusal(reason: Reason) -> Failure {
    Failure::new(reason, "no")
}

#[test]
fn an_accepted_attach_is_attaching_and_the_lock_is_free() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    let attempt = desk.attempt("eni-1");
    assert_eq!(attempt.attachment.state, State::Attaching);
    assert_eq!(attempt.attachment.ens_request_id, "E-1");
    assert!(attempt.reserved && attempt.due_at.is_some());
    assert_eq!(desk.record.lock, None);
    let states: Vec<State> = attempt.attachment.transitions.iter().map(|t| t.state).collect();
    assert_eq!(states, [State::Pending, State::Attaching]);
}

#[test]
fn the_send_is_written_with_the_reservation() {
    let mut desk = Desk::new();
    let (grant, attempt) = desk.reserve(1, "eni-1");
    assert_eq!(attempt.sends.len(), 1);
    assert_eq!(attempt.sends[0].answered_at, None);
    assert!(
        desk.attempt("eni-1").due_at.unwrap() > grant.expires_at,
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
        (attempt.attachment.state, attempt.reserved, attempt.due_at),
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
    let (former, revision) = (desk.attempt("eni-1").uid(), desk.attempt("eni-1").attachment.revision);
    let sent = desk.reserve(3, "eni-1");
    desk.answer(&sent, SendResult::NoEffect);
    let now = desk.attempt("eni-1");
    assert_eq!((now.uid(), now.attachment.state), (former, State::Failed));
    assert!(now.attachment.revision > revision, "watchers are told");
}

#[test]
fn that_a_send_is_void_may_be_said_twice() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoEffect);
    let other = desk.reserve(2, "eni-1");
    desk.answer(&other, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    assert_eq!(desk.answer(&sent, SendResult::NoEffect), Reply::NotFound);
    assert_eq!(
        desk.attempt("eni-1").uid(),
        other.1.uid(),
        "nothing that came since is lost"
    );

    let first = desk.reserve(3, "eni-2");
    desk.answer(&first, SendResult::NoResponse);
    desk.pass(11 * SECOND);
    desk.settle("eni-2", free());
    let Reply::Reserved { grant, attempt, .. } = desk.resend(3, first.1.uid(), "eni-2") else {
        panic!()
    };
    let second = (grant, *attempt);
    for _ in 0..2 {
        desk.answer(&second, SendResult::NoEffect);
        let attempt = desk.attempt("eni-2");
        assert_eq!(
            (attempt.sends.len(), attempt.reserved),
            (1, true),
            "the first copy may still be applied"
        );
    }
}

#[test]
fn an_unanswered_send_is_verified_after_the_lag_and_sent_again_only_when_seen_free() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    assert_eq!(desk.state("eni-1"), State::Verifying);
    assert!(desk.attempt("eni-1").due_at.unwrap() >= desk.now + desk.bounds.lag);
    let uid = sent.1.uid();
    assert_eq!(desk.resend(2, uid, "eni-1"), Reply::NotFound, "ENS was not asked");
    desk.pass(5 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.resend(2, uid, "eni-1"), Reply::NotFound, "asked too early");
    desk.pass(6 * SECOND);
    assert!(desk.settle("eni-1", free()).may_be_resent());
    let Reply::Reserved { attempt, .. } = desk.resend(2, uid, "eni-1") else {
        panic!()
    };
    assert_eq!(attempt.sends.len(), 2);
    assert_eq!(desk.resend(2, uid, "eni-1"), Reply::NotFound, "one resend for one look");
}

#[test]
fn a_copy_that_was_accepted_after_another_went_unanswered_fails_after_the_longer_grace() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(11 * SECOND);
    desk.settle("eni-1", free());
    let Reply::Reserved { grant, attempt, .. } = desk.resend(1, sent.1.uid(), "eni-1") else {
        panic!()
    };
    desk.answer(&(grant, *attempt), accepted());
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::Attaching));
    desk.pass(20 * SECOND);
    assert_eq!(
        desk.settle("eni-1", free()).attachment.state,
        State::Attaching,
        "the first copy may still arrive"
    );
    desk.pass(20 * SECOND);
    let attempt = desk.settle("eni-1", free());
    assert_eq!((attempt.attachment.state, attempt.reserved), (State::Failed, false));
    assert_eq!(desk.error("eni-1"), Reason::AttachFailed);
}

#[test]
fn after_three_unanswered_sends_only_the_grace_proves_that_nothing_was_applied() {
    let mut desk = Desk::new();
    let mut sent = desk.reserve(1, "eni-1");
    for _ in 0..2 {
        desk.answer(&sent, SendResult::NoResponse);
        desk.pass(11 * SECOND);
        desk.settle("eni-1", free());
        let Reply::Reserved { grant, attempt, .. } = desk.resend(1, sent.1.uid(), "eni-1") else {
            panic!()
        };
        sent = (grant, *attempt);
    }
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(39 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Verifying);
    desk.pass(2 * SECOND);
    let attempt = desk.settle("eni-1", free());
    assert_eq!((attempt.attachment.state, attempt.reserved), (State::Failed, false));
    assert_eq!(desk.error("eni-1"), Reason::NotApplied);
}

#[test]
fn a_refusal_of_one_copy_proves_nothing_about_another() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(11 * SECOND);
    desk.settle("eni-1", free());
    let Reply::Reserved { grant, attempt, .. } = desk.resend(1, sent.1.uid(), "eni-1") else {
        panic!()
    };
    desk.answer(
        &(grant, *attempt),
        SendResult::Refused(refusal(Reason::InstanceNotStopped)),
    );
    assert_eq!(desk.state("eni-1"), State::Verifying);
    let mut applied = Desk {
        record: desk.record.clone(),
        now: desk.now,
        ..Desk::new()
    };
    applied.pass(15 * SECOND);
    assert_eq!(
        applied.settle("eni-1", here(ObservedStatus::InUse)).attachment.state,
        State::Attached
    );
    desk.pass(15 * SECOND);
    assert_eq!(
        desk.settle("eni-1", free()).attachment.state,
        State::Verifying,
        "the first copy may still arrive"
    );
    desk.pass(26 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.error("eni-1"), Reason::InstanceNotStopped);
}

/// The refusal may be the answer to a second copy of a request that ENS took, and a row may be older than the send: only what shows
/// the ENI here settles it before the lag is over.
#[test]
fn a_refusal_for_the_status_is_settled_by_what_ens_shows_after_the_lag() {
    let elsewhere = EniObservation::Elsewhere {
        instance: "i-2".parse().unwrap(),
        text: "InUse".to_owned(),
    };
    let unclear = |text: &str| EniObservation::Unclear { text: text.to_owned() };
    for (finding, at_once, after_lag) in [
        (here(ObservedStatus::InUse), State::Attached, State::Attached),
        (here(ObservedStatus::Attaching), State::Attaching, State::Attaching),
        (here(ObservedStatus::Detaching), State::Verifying, State::Failed),
        (free(), State::Verifying, State::Failed),
        (elsewhere, State::Verifying, State::Failed),
        (EniObservation::Missing, State::Verifying, State::Failed),
        (unclear("Attaching"), State::Verifying, State::Verifying),
        (unclear(""), State::Verifying, State::Verifying),
    ] {
        let mut desk = Desk::new();
        let sent = desk.reserve(1, "eni-1");
        desk.answer(&sent, SendResult::StatusConflict(refusal(Reason::EniNotAvailable)));
        assert_eq!(desk.attempt("eni-1").due_at, Some(desk.now), "read at once");
        for (pause, state) in [(SECOND / 10, at_once), (10 * SECOND, after_lag)] {
            desk.pass(pause);
            let shown = desk.settle("eni-1", finding.clone()).attachment.state;
            assert_eq!(shown, state, "{finding:?}");
        }
        if after_lag == State::Failed {
            assert_eq!(desk.error("eni-1"), Reason::EniNotAvailable);
        }
    }
}

/// The refusal may be the answer to a second copy of the request, made on the way; ENS took the first one.
#[test]
fn a_refusal_for_the_status_of_an_eni_that_is_shown_free_is_settled_by_time() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::StatusConflict(refusal(Reason::EniNotAvailable)));
    let mut applied = desk.clone();
    for _ in 0..9 {
        desk.pass(SECOND);
        assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Verifying);
        assert!(
            !matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::Reserved { .. }),
            "its slot is not given away"
        );
    }
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::EniNotAvailable);

    applied.pass(SECOND);
    applied.settle("eni-1", free());
    applied.pass(5 * SECOND);
    assert_eq!(
        applied.settle("eni-1", here(ObservedStatus::InUse)).attachment.state,
        State::Attached
    );
}

#[test]
fn a_refusal_by_an_unknown_code_is_settled_by_the_whole_grace_and_not_sent_again() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::Unproven(refusal(Reason::EnsError)));
    assert_eq!(desk.state("eni-1"), State::Verifying);
    assert!(desk.attempt("eni-1").due_at.unwrap() >= desk.now + desk.bounds.lag);
    desk.pass(11 * SECOND);
    assert!(!desk.settle("eni-1", free()).may_be_resent());
    desk.pass(28 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Verifying);
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::EnsError);
}

/// A resend that the ledger lost may still be applied, and no send in the record tells of it.
#[test]
fn in_a_hold_nothing_is_settled_as_not_applied() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    let hold = desk.bounds.recovery_hold_down();
    desk.partition = Partition {
        epoch: "b".to_owned(),
        hold_down_until: desk.now + hold,
        shared: None,
    };
    desk.pass(hold - SECOND);
    assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Verifying);
    let before_its_end = desk.now;
    desk.pass(2 * SECOND);
    let as_it_was = desk.settle_as_of(before_its_end + SECOND / 2, "eni-1", free());
    assert_eq!(as_it_was.attachment.state, State::Verifying, "sent in the hold");
    assert_eq!(
        desk.settle("eni-1", free()).attachment.state,
        State::Verifying,
        "its grace restarted"
    );
    desk.pass(40 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).attachment.state, State::Failed);

    let mut refused = Desk::new();
    let sent = refused.reserve(1, "eni-1");
    refused.partition = Partition {
        epoch: "b".to_owned(),
        hold_down_until: refused.now + hold,
        shared: None,
    };
    refused.answer(&sent, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    assert_eq!(refused.state("eni-1"), State::Verifying, "another copy may be lost");
    refused.pass(hold + SECOND);
    refused.settle("eni-1", free());
    assert_eq!(refused.error("eni-1"), Reason::InstanceNotStopped);
}

/// Two copies went out, and the second one was accepted. Others detach the ENI; the first copy attaches it again, without a
/// reservation.
#[test]
fn an_attached_eni_keeps_its_slot_while_another_copy_is_open() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(11 * SECOND);
    desk.settle("eni-1", free());
    let Reply::Reserved { grant, attempt, .. } = desk.resend(1, sent.1.uid(), "eni-1") else {
        panic!()
    };
    desk.answer(&(grant, *attempt), accepted());
    desk.pass(SECOND);
    assert_eq!(
        desk.settle("eni-1", here(ObservedStatus::InUse)).attachment.state,
        State::Attached
    );
    desk.pass(15 * SECOND);
    desk.observe(&[]);
    assert_eq!(desk.state("eni-1"), State::Attached, "the first copy may bring it back");
    assert!(matches!(
        desk.enter(2, "eni-2", Mode::Reserve),
        Reply::CapacityExceeded(_)
    ));
    desk.pass(14 * SECOND);
    desk.observe(&[]);
    assert_eq!(desk.state("eni-1"), State::Detached);
    assert!(matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::Reserved { .. }));
}

#[test]
fn an_answer_that_comes_late_takes_no_state_back() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.pass(17 * SECOND);
    assert_eq!(
        desk.settle("eni-1", here(ObservedStatus::InUse)).attachment.state,
        State::Attached
    );
    desk.answer(&sent, SendResult::NoResponse);
    assert_eq!(desk.state("eni-1"), State::Attached);
    desk.answer(&sent, accepted());
    let attachment = desk.attempt("eni-1").attachment;
    assert_eq!(
        (attachment.state, attachment.ens_request_id.as_str()),
        (State::Attached, "E-1")
    );
}

#[test]
fn an_attempt_that_the_ledger_lost_is_written_back_by_its_owner() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.record = Record::default();
    desk.partition = Partition {
        epoch: "b".to_owned(),
        hold_down_until: desk.now + desk.bounds.recovery_hold_down(),
        shared: None,
    };
    desk.answer(&sent, accepted());
    let attempt = desk.attempt("eni-1");
    assert_eq!(
        (attempt.uid(), attempt.attachment.state, attempt.reserved),
        (sent.1.uid(), State::Attaching, true)
    );
}

#[test]
fn a_request_id_replays_its_answer_joins_its_attempt_and_stays_with_its_eni() {
    let mut desk = Desk::new();
    let key = Some(request(7));
    desk.observe(&[]);
    let Reply::Reserved { grant, attempt, .. } = desk.run(&enter(1, "eni-1", Mode::Reserve, key.clone())) else {
        panic!()
    };
    let Reply::Joined(joined) = desk.run(&enter(2, "eni-1", Mode::Query, key.clone())) else {
        panic!()
    };
    assert_eq!(joined.uid(), attempt.uid());
    let sent = (grant, *attempt);
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
    let Reply::Replayed(entry) = desk.run(&enter(6, "eni-1", Mode::Reserve, key)) else {
        panic!()
    };
    assert_eq!(entry.uid, sent.1.uid(), "an old request has its own old answer");
    assert_eq!(error(entry.answer), Reason::InstanceNotStopped);
}

#[test]
fn a_request_whose_attempt_was_withdrawn_begins_anew() {
    let mut desk = Desk::new();
    desk.observe(&[]);
    let key = Some(request(7));
    let Reply::Reserved { grant, attempt, .. } = desk.run(&enter(1, "eni-1", Mode::Reserve, key.clone())) else {
        panic!()
    };
    desk.answer(&(grant, *attempt), SendResult::NoEffect);
    assert_eq!(
        (&desk.requests, &desk.record.requests),
        (&BTreeMap::new(), &BTreeMap::new())
    );
    assert!(matches!(
        desk.run(&enter(2, "eni-1", Mode::Reserve, key)),
        Reply::Reserved { .. }
    ));
}

/// The slot was reserved, but those who ask nobody took the last ones meanwhile, and ENS shows it.
#[test]
fn what_went_unanswered_is_not_sent_again_into_an_instance_that_others_have_filled() {
    let mut desk = Desk::new();
    desk.bounds.limit = 2;
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(11 * SECOND);
    desk.settle("eni-1", free());
    desk.observe(&["eni-a", "eni-b"]);
    assert_eq!(desk.resend(1, sent.1.uid(), "eni-1"), Reply::NotFound);
    assert_eq!((&desk.record.lock, desk.attempt("eni-1").sends.len()), (&None, 1));
    // The first copy may still be applied.
    assert!(desk.attempt("eni-1").reserved);
    desk.pass(30 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.state("eni-1"), State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::NotApplied);
}
