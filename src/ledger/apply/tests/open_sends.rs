//! Sends whose response is lost or proves nothing: when they are repeated, and what settles them.

use super::send_results::{accepted, refusal};
use super::*;
use crate::model::Reason;

#[test]
fn an_unanswered_send_is_verified_after_the_lag_and_sent_again_only_when_seen_free() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    assert_eq!(desk.state("eni-1"), State::Verifying);
    assert!(desk.attempt("eni-1").state.due_at().unwrap() >= desk.now + desk.bounds.lag);
    let uid = sent.1.uid;
    assert_eq!(desk.resend(2, uid, "eni-1"), Reply::NotFound, "ENS was not asked");
    desk.pass(5 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.resend(2, uid, "eni-1"), Reply::NotFound, "asked too early");
    desk.pass(6 * SECOND);
    assert!(desk.settle("eni-1", free()).may_be_resent());
    let Reply::Reserved { attempt, .. } = desk.resend(2, uid, "eni-1") else { panic!() };
    assert_eq!(attempt.sends.len(), 2);
    assert_eq!(desk.resend(2, uid, "eni-1"), Reply::NotFound, "one resend for one describe");
}

#[test]
fn a_copy_that_was_accepted_after_another_went_unanswered_fails_after_the_longer_grace() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    let again = desk.send_again(&sent);
    desk.answer(&again, accepted());
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::Attaching));
    desk.pass(20 * SECOND);
    assert_eq!(
        desk.settle("eni-1", free()).state.kind(),
        State::Attaching,
        "the first copy may still arrive"
    );
    desk.pass(20 * SECOND);
    let attempt = desk.settle("eni-1", free());
    assert_eq!((attempt.state.kind(), attempt.is_reserved()), (State::Failed, false));
    assert_eq!(desk.error("eni-1"), Reason::AttachFailed);
}

#[test]
fn after_three_unanswered_sends_only_the_grace_proves_that_nothing_was_applied() {
    let mut desk = Desk::new();
    let mut sent = desk.reserve(1, "eni-1");
    for _ in 0..2 {
        sent = desk.send_again(&sent);
    }
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(39 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Verifying);
    desk.pass(2 * SECOND);
    let attempt = desk.settle("eni-1", free());
    assert_eq!((attempt.state.kind(), attempt.is_reserved()), (State::Failed, false));
    assert_eq!(desk.error("eni-1"), Reason::NotApplied);
}

#[test]
fn a_refusal_of_one_copy_proves_nothing_about_another() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    let again = desk.send_again(&sent);
    desk.answer(&again, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    assert_eq!(desk.state("eni-1"), State::Verifying);
    let mut applied = Desk { record: desk.record.clone(), now: desk.now, ..Desk::new() };
    applied.pass(15 * SECOND);
    assert_eq!(applied.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
    desk.pass(15 * SECOND);
    assert_eq!(
        desk.settle("eni-1", free()).state.kind(),
        State::Verifying,
        "the first copy may still arrive"
    );
    desk.pass(26 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.error("eni-1"), Reason::InstanceNotStopped);
}

/// The refusal may answer a second copy of a request that ENS accepted, and a row may be older than
/// the send. Before the lag is over, only a row that shows the ENI here settles it.
#[test]
fn a_refusal_for_the_status_is_settled_by_what_ens_shows_after_the_lag() {
    let elsewhere =
        EniObservation::Elsewhere { instance: "i-2".parse().unwrap(), text: "InUse".to_owned() };
    let unclear = |text: &str| EniObservation::Unclear { text: text.to_owned() };
    for (observation, at_once, after_lag) in [
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
        assert_eq!(desk.attempt("eni-1").state.due_at(), Some(desk.now), "read at once");
        for (pause, state) in [(SECOND / 10, at_once), (10 * SECOND, after_lag)] {
            desk.pass(pause);
            let shown = desk.settle("eni-1", observation.clone()).state.kind();
            assert_eq!(shown, state, "{observation:?}");
        }
        if after_lag == State::Failed {
            assert_eq!(desk.error("eni-1"), Reason::EniNotAvailable);
        }
    }
}

/// The refusal may answer a second copy of the request, made in transit. ENS accepted the first
/// one.
#[test]
fn a_refusal_for_the_status_of_an_eni_that_is_shown_free_is_settled_by_time() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::StatusConflict(refusal(Reason::EniNotAvailable)));
    let mut applied = desk.clone();
    for _ in 0..9 {
        desk.pass(SECOND);
        assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Verifying);
        assert!(
            !matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::Reserved { .. }),
            "its slot is not given away"
        );
    }
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::EniNotAvailable);

    applied.pass(SECOND);
    applied.settle("eni-1", free());
    applied.pass(5 * SECOND);
    assert_eq!(applied.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
}

#[test]
fn a_refusal_by_an_unknown_code_is_settled_by_the_whole_grace_and_not_sent_again() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::Unproven(refusal(Reason::EnsError)));
    assert_eq!(desk.state("eni-1"), State::Verifying);
    assert!(desk.attempt("eni-1").state.due_at().unwrap() >= desk.now + desk.bounds.lag);
    desk.pass(11 * SECOND);
    assert!(!desk.settle("eni-1", free()).may_be_resent());
    desk.pass(28 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Verifying);
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::EnsError);
}

/// A resend that the ledger lost may still be applied, and is not in the record.
#[test]
fn in_a_hold_down_nothing_is_settled_as_not_applied() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    let hold_down = desk.bounds.recovery_hold_down();
    desk.begin_epoch(desk.now + hold_down);
    desk.pass(hold_down - SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Verifying);
    let before_its_end = desk.now;
    desk.pass(2 * SECOND);
    let as_it_was = desk.settle_as_of(before_its_end + SECOND / 2, "eni-1", free());
    assert_eq!(as_it_was.state.kind(), State::Verifying, "sent in the hold_down");
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Verifying, "its grace restarted");
    desk.pass(40 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Failed);

    let mut refused = Desk::new();
    let sent = refused.reserve(1, "eni-1");
    refused.begin_epoch(refused.now + hold_down);
    refused.answer(&sent, SendResult::Refused(refusal(Reason::InstanceNotStopped)));
    assert_eq!(refused.state("eni-1"), State::Verifying, "another copy may be lost");
    refused.pass(hold_down + SECOND);
    refused.settle("eni-1", free());
    assert_eq!(refused.error("eni-1"), Reason::InstanceNotStopped);
}

/// Two copies were sent, and the second one was accepted. The ENI is detached externally. The first
/// copy then attaches it again, without a reservation.
#[test]
fn an_attached_eni_keeps_its_slot_while_another_copy_is_open() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    let sent = desk.reserve(1, "eni-1");
    let again = desk.send_again(&sent);
    desk.answer(&again, accepted());
    desk.pass(SECOND);
    assert_eq!(desk.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
    desk.pass(15 * SECOND);
    desk.observe(&[]);
    assert_eq!(desk.state("eni-1"), State::Attached, "the first copy may bring it back");
    assert!(matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::CapacityExceeded(_)));
    desk.pass(14 * SECOND);
    desk.observe(&[]);
    assert_eq!(desk.state("eni-1"), State::Detached);
    assert!(matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::Reserved { .. }));
}

/// The slot was reserved, but external attachments took the last ones meanwhile, and ENS shows it.
#[test]
fn what_went_unanswered_is_not_sent_again_into_an_instance_that_others_have_filled() {
    let mut desk = Desk::new();
    desk.bounds.limit = 2;
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    desk.pass(11 * SECOND);
    desk.settle("eni-1", free());
    desk.observe(&["eni-a", "eni-b"]);
    assert_eq!(desk.resend(1, sent.1.uid, "eni-1"), Reply::NotFound);
    assert_eq!((&desk.record.lock, desk.attempt("eni-1").sends.len()), (&None, 1));
    // The first copy may still be applied.
    assert!(desk.attempt("eni-1").is_reserved());
    desk.pass(30 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.state("eni-1"), State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::NotApplied);
}
