use super::*;
use crate::ledger::Freeze;
use crate::model::Reason;

#[test]
fn the_first_comer_gets_the_lock_and_the_others_queue_in_order() {
    let mut desk = Desk::new();
    assert!(matches!(desk.enter(1, "eni-1", Mode::Enqueue), Reply::Granted { stale: true, .. }));
    assert_eq!(desk.enter(2, "eni-2", Mode::Enqueue), Reply::Queued { ahead: 0 });
    assert_eq!(desk.enter(3, "eni-3", Mode::Enqueue), Reply::Queued { ahead: 1 });
    assert_eq!(
        desk.enter(2, "eni-2", Mode::Enqueue),
        Reply::Queued { ahead: 0 },
        "a poll keeps the place"
    );
}

#[test]
fn asking_again_gives_the_same_grant_and_never_a_new_lease() {
    let mut desk = Desk::new();
    let Reply::Granted { grant: first, .. } = desk.enter(1, "eni-1", Mode::Enqueue) else {
        panic!()
    };
    desk.pass(10 * SECOND);
    let Reply::Granted { grant: again, .. } = desk.enter(1, "eni-1", Mode::Enqueue) else {
        panic!()
    };
    assert_eq!(first, again);
}

#[test]
fn a_released_lock_is_handed_over_on_trial_and_the_lease_begins_at_the_confirmation() {
    let mut desk = Desk::new();
    desk.enter(1, "eni-1", Mode::Enqueue);
    desk.enter(2, "eni-2", Mode::Enqueue);
    desk.run(&Command::Release { ticket: ticket(1) });
    assert!(desk.last.as_ref().unwrap().effects.notify, "the next one is notified");
    assert!(matches!(desk.enter(3, "eni-3", Mode::Enqueue), Reply::Queued { ahead: 0 }));
    desk.pass(SECOND / 2);
    let Reply::Granted { grant, .. } = desk.enter(2, "eni-2", Mode::Enqueue) else { panic!() };
    assert_eq!(grant.expires_at, desk.now + desk.bounds.lease);
}

#[test]
fn a_provisional_grant_without_confirmation_is_handed_over() {
    let mut desk = Desk::new();
    desk.enter(1, "eni-1", Mode::Enqueue);
    desk.enter(2, "eni-2", Mode::Enqueue);
    desk.run(&Command::Release { ticket: ticket(1) });
    desk.pass(SECOND / 2);
    desk.enter(3, "eni-3", Mode::Enqueue);
    desk.pass(SECOND / 2);
    assert!(matches!(desk.enter(3, "eni-3", Mode::Enqueue), Reply::Granted { .. }), "2 is dead");
}

#[test]
fn a_place_in_the_queue_dies_without_polls_and_a_lease_without_release() {
    let mut desk = Desk::new();
    let Reply::Granted { grant: first, .. } = desk.enter(1, "eni-1", Mode::Enqueue) else {
        panic!()
    };
    desk.enter(2, "eni-2", Mode::Enqueue);
    desk.pass(SECOND);
    assert_eq!(desk.enter(3, "eni-3", Mode::Enqueue), Reply::Queued { ahead: 0 });
    desk.pass(desk.bounds.lease);
    let Reply::Granted { grant: second, .. } = desk.enter(4, "eni-4", Mode::Enqueue) else {
        panic!()
    };
    assert!(second.token.fencing_token > first.token.fencing_token);
}

#[test]
fn a_newcomer_does_not_overtake_the_queue_of_a_free_lock() {
    let mut desk = Desk::new();
    desk.enter(1, "eni-1", Mode::Enqueue);
    desk.enter(2, "eni-2", Mode::Enqueue);
    desk.run(&Command::Release { ticket: ticket(1) });
    assert_eq!(desk.enter(3, "eni-3", Mode::Reserve), Reply::Queued { ahead: 0 });
}

#[test]
fn asking_takes_nothing() {
    let mut desk = Desk::new();
    assert_eq!(desk.enter(1, "eni-1", Mode::Query), Reply::Admissible);
    assert_eq!(desk.record.lock, None);
}

#[test]
fn another_epoch_clears_lock_and_queue_and_grants_nothing_during_the_hold_down() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.enter(2, "eni-2", Mode::Enqueue);
    let hold_down_until = desk.now + desk.bounds.recovery_hold_down();
    desk.begin_epoch(hold_down_until);
    for reach in [Mode::Query, Mode::Reserve] {
        assert_eq!(desk.enter(2, "eni-2", reach), Reply::Recovering(hold_down_until));
    }
    assert_eq!((&desk.record.lock, desk.record.queue.len()), (&None, 0));
    desk.answer(&sent, SendResult::Accepted { ens_request_id: "E-1".to_owned() });
    assert_eq!(desk.state("eni-1"), State::Attaching, "an attempt in flight continues");
    desk.now = hold_down_until;
    assert!(matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::Granted { stale: true, .. }));
}

#[test]
fn in_a_frozen_ledger_no_attach_begins_and_what_is_in_flight_continues() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    let freeze = Freeze::new(desk.now, "moving");
    desk.partition.freeze = Some(freeze.clone());
    for reach in [Mode::Query, Mode::Enqueue, Mode::Reserve] {
        assert_eq!(desk.enter(2, "eni-2", reach), Reply::Frozen(freeze.clone()));
    }
    assert!(matches!(desk.enter(3, "eni-1", Mode::Query), Reply::Joined(_)));
    desk.answer(&sent, SendResult::Accepted { ens_request_id: "E-1".to_owned() });
    assert_eq!(desk.state("eni-1"), State::Attaching);
    desk.partition.freeze = None;
    assert_eq!(desk.enter(2, "eni-2", Mode::Query), Reply::Admissible);
}

#[test]
fn after_a_new_epoch_an_attempt_without_a_response_is_not_sent_again() {
    let mut desk = Desk::new();
    desk.reserve(1, "eni-1");
    desk.partition.epoch = "b".into();
    let free = |desk: &mut Desk| {
        let available = EniObservation::Available { text: "Available".to_owned() };
        desk.run(&Command::RecordStatuses {
            sent_at: desk.now,
            observations: vec![("eni-1".parse().unwrap(), available)],
        })
    };
    desk.pass(desk.bounds.lag + Duration::from_secs(1));
    let Reply::Attempts(looked_at) = free(&mut desk) else { panic!("it is settled") };
    assert!(looked_at.iter().all(|settled| !settled.resend), "{looked_at:?}");
    assert!(desk.attempt("eni-1").is_reserved(), "it may still arrive");
    // Its grace period restarted when the change of the epoch was found.
    desk.pass(desk.bounds.validity);
    free(&mut desk);
    assert_eq!(desk.state("eni-1"), State::Verifying);
    desk.pass(desk.bounds.lag + Duration::from_secs(1));
    free(&mut desk);
    assert_eq!(desk.state("eni-1"), State::Failed);
    assert_eq!(desk.error("eni-1"), Reason::NotApplied);
}

#[test]
fn a_reserve_whose_reply_was_lost_is_answered_the_same_way_again() {
    let mut desk = Desk::new();
    let first = desk.reserve(1, "eni-1");
    let second = desk.reserve(1, "eni-1");
    assert_eq!(first, second);
    assert_eq!(second.1.sends.len(), 1);
}

#[test]
fn after_a_loss_new_revisions_exceed_those_an_old_primary_may_still_give() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.accept(2, "eni-2");
    let reported = desk.record.revision;
    desk.partition.epoch = "b".into();
    desk.pass(Duration::from_secs(3));
    desk.run(&Command::RecordStatuses {
        sent_at: desk.now,
        observations: vec![(id("eni-2"), EniObservation::Unclear { text: String::new() })],
    });
    let old_primary_ends = desk.now + desk.bounds.failover_window;
    for eni in ["eni-1", "eni-2"] {
        let revision = desk.attempt(eni).revision;
        assert!(revision > reported && revision.0 > old_primary_ends.as_micros(), "{revision}");
    }
    assert!(desk.last.unwrap().effects.notify, "watchers are notified");
}

/// The lost writes counted up from the revision that is left, because the clock is behind it.
#[test]
fn after_a_loss_new_revisions_exceed_the_lost_ones_by_a_clock_that_is_behind() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.now = desk.now - Duration::from_secs(3600);
    let mut lost = desk.clone();
    lost.accept(2, "eni-2");
    lost.accept(3, "eni-3");
    desk.begin_epoch(Timestamp::default());
    desk.settle("eni-1", EniObservation::Unclear { text: String::new() });
    let (lost, given) = (lost.record.revision, desk.attempt("eni-1").revision);
    assert!(given > lost, "{given} after {lost}");
}
