use super::*;
use crate::model::{Failure, Reason};

const TEN: [&str; 10] =
    ["eni-0", "eni-1", "eni-2", "eni-3", "eni-4", "eni-5", "eni-6", "eni-7", "eni-8", "eni-9"];

#[test]
fn without_an_observation_nothing_is_reserved_and_nothing_is_full() {
    let mut desk = Desk::new();
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Granted { stale: true, .. }));
    desk.observe(&[]);
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Reserved { free_slots: 9, .. }));
}

#[test]
fn reservations_and_what_ens_shows_fill_the_instance_together() {
    let mut desk = Desk::new();
    desk.enter(1, "eni-a", Mode::Enqueue);
    desk.observe(&TEN[..8]);
    for eni in &TEN[8..] {
        let sent = desk.reserve(1, eni);
        let command = Command::RecordSendResult {
            attempt: sent.1.into(),
            token: sent.0.token,
            result: SendResult::Accepted { ens_request_id: "E".to_owned() },
            release: false,
        };
        desk.run(&command);
        assert_eq!(desk.state(eni), State::Attaching);
    }
    let lock = desk.record.lock.clone();
    let Reply::CapacityExceeded(full) = desk.enter(11, "eni-a", Mode::Reserve) else { panic!() };
    assert_eq!((full.limit, full.attached, full.in_flight), (10, 8, 2));
    assert!(!full.retry_after.is_zero());
    assert_eq!((&desk.record.lock, desk.record.queue.len()), (&lock, 0), "the queue is emptied");
}

#[test]
fn the_primary_counts_only_if_configured() {
    let primary = ObservedEni { primary: true, ..sight("eni-p", ObservedStatus::InUse) };
    for (count_primary, free_slots) in [(false, 9), (true, 8)] {
        let mut desk = Desk::new();
        desk.bounds.count_primary = count_primary;
        desk.run(&Command::Observe { sent_at: desk.now, rows: vec![primary.clone()], then: None });
        let Reply::Reserved { free_slots: left, .. } = desk.enter(1, "eni-1", Mode::Reserve) else {
            panic!()
        };
        assert_eq!(left, free_slots);
    }
}

#[test]
fn a_detaching_eni_and_one_of_unknown_status_occupy() {
    let mut desk = Desk::new();
    desk.bounds.limit = 2;
    let rows =
        vec![sight("eni-a", ObservedStatus::Detaching), sight("eni-b", ObservedStatus::Other)];
    desk.run(&Command::Observe { sent_at: desk.now, rows, then: None });
    assert!(matches!(desk.enter(1, "eni-1", Mode::Query), Reply::CapacityExceeded(_)));
}

#[test]
fn a_settled_eni_occupies_until_an_observation_that_must_show_it() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    desk.accept(1, "eni-1");
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", here(ObservedStatus::InUse)).state.kind(), State::Attached);
    desk.pass(5 * SECOND);
    desk.observe(&[]);
    assert!(
        matches!(desk.enter(2, "eni-2", Mode::Query), Reply::CapacityExceeded(_)),
        "the describe may lag"
    );
    assert_eq!(desk.state("eni-1"), State::Attached);
    desk.pass(6 * SECOND);
    desk.observe(&[]);
    assert_eq!(desk.state("eni-1"), State::Detached);
    assert_eq!(desk.enter(2, "eni-2", Mode::Query), Reply::Admissible);
}

#[test]
fn an_observation_from_the_future_is_discarded() {
    let mut desk = Desk::new();
    let hour = Duration::from_secs(3600);
    desk.run(&Command::Observe { sent_at: desk.now + hour, rows: Vec::new(), then: None });
    assert_eq!(desk.record.observation, None);
    desk.accept(1, "eni-1");
    desk.pass(Duration::from_secs(1));
    let here = EniObservation::Here { status: ObservedStatus::InUse, text: "InUse".to_owned() };
    let settle = |sent_at| Command::RecordStatuses {
        sent_at,
        observations: vec![("eni-1".parse().unwrap(), here.clone())],
    };
    desk.run(&settle(desk.now + hour));
    assert_eq!(desk.state("eni-1"), State::Attaching, "its age is unknown");
    desk.run(&settle(desk.now));
    assert_eq!(desk.state("eni-1"), State::Attached);
}

#[test]
fn an_older_observation_is_discarded() {
    let mut desk = Desk::new();
    let earlier = desk.now;
    desk.pass(SECOND);
    desk.observe(&["eni-a"]);
    desk.run(&Command::Observe { sent_at: earlier, rows: Vec::new(), then: None });
    assert_eq!(desk.record.observation.as_ref().unwrap().occupied, [id("eni-a")]);
}

#[test]
fn an_older_observation_is_discarded_even_when_the_newer_one_is_void() {
    let mut desk = Desk::new();
    desk.bounds.limit = 2;
    desk.observe(&["eni-a", "eni-b"]);
    // A replica is suspended with its response, which does not show eni-b yet.
    let asked = desk.now + Duration::from_millis(1);
    desk.pass(11 * SECOND);
    desk.observe(&["eni-a", "eni-b"]);
    desk.pass(SECOND);
    desk.settle("eni-a", free());
    assert_eq!(desk.state("eni-a"), State::Detached);
    desk.run(&Command::Observe {
        sent_at: asked,
        rows: vec![sight("eni-a", ObservedStatus::InUse)],
        then: None,
    });
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Granted { stale: true, .. }));
    desk.partition.epoch = "b".into();
    desk.run(&Command::Observe { sent_at: asked, rows: Vec::new(), then: None });
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Granted { stale: true, .. }));
}

#[test]
fn after_a_hold_down_only_what_was_seen_since_counts() {
    let mut desk = Desk::new();
    desk.partition.hold_down_until = desk.now + 10 * SECOND;
    desk.pass(9 * SECOND);
    desk.observe(&[]);
    desk.pass(SECOND);
    // A send before the loss may have become visible only now.
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Granted { stale: true, .. }));
    desk.observe(&[]);
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Reserved { .. }));
}

#[test]
fn a_failed_eni_seen_here_occupies_until_it_must_show() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    desk.accept(1, "eni-1");
    desk.pass(60 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.state("eni-1"), State::Failed);
    // An external attach at the same time. One Describe call shows it, and a lagging one does not.
    desk.pass(SECOND);
    desk.observe(&["eni-1"]);
    desk.pass(3 * SECOND);
    desk.observe(&[]);
    assert!(matches!(desk.enter(2, "eni-2", Mode::Query), Reply::CapacityExceeded(_)));
}

#[test]
fn an_observation_of_a_full_instance_is_good_for_longer_each_time_and_a_detach_resets_it() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    let mut lives = Vec::new();
    for _ in 0..6 {
        desk.observe(&["eni-a"]);
        lives.push(desk.record.observation.as_ref().unwrap().valid_for.as_secs());
        desk.pass(40 * SECOND);
    }
    assert_eq!(lives, [2, 4, 8, 16, 30, 30]);
    desk.settle("eni-a", free());
    assert_eq!(desk.state("eni-a"), State::Detached);
    assert!(desk.record.observation.as_ref().unwrap().is_invalidated());
    desk.observe(&["eni-b"]);
    assert_eq!(desk.record.observation.as_ref().unwrap().valid_for.as_secs(), 2);
}

/// It is valid longer to refuse by. A slot that becomes free may since have been taken externally.
#[test]
fn an_observation_of_a_full_instance_permits_no_send_after_its_first_seconds() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    for _ in 0..4 {
        desk.pass(11 * SECOND);
        desk.observe(&[]);
    }
    let observation = desk.record.observation.clone().unwrap();
    assert!(observation.valid_for >= 8 * SECOND, "{observation:?}");
    let mut resent = desk.clone();
    resent.pass(SECOND);
    assert!(resent.settle("eni-1", free()).may_be_resent());
    resent.pass(2 * SECOND);
    let again = Command::Resend {
        ticket: ticket(2),
        uid: resent.attempt("eni-1").uid,
        eni: "eni-1".parse().unwrap(),
    };
    let reply = resent.run(&again);
    assert!(matches!(reply, Reply::Granted { stale: true, .. }), "{reply:?}");

    desk.answer(&sent, SendResult::Refused(Failure::new(Reason::InstanceNotStopped, "no")));
    assert_eq!(desk.state("eni-1"), State::Failed);
    let mut recent = desk.clone();
    let reply = recent.enter(2, "eni-2", Mode::Reserve);
    assert!(matches!(reply, Reply::Reserved { .. }), "{reply:?}");
    desk.pass(3 * SECOND);
    let reply = desk.enter(2, "eni-2", Mode::Reserve);
    assert!(matches!(reply, Reply::Granted { stale: true, .. }), "{reply:?}");
}

#[test]
fn the_limit_that_ens_enforces_is_believed_until_fewer_are_seen_or_a_minute_is_over() {
    let refusal = Failure::new(Reason::EniLimitExceeded, "full");
    let mut desk = Desk::new();
    desk.observe(&["eni-a", "eni-b"]);
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::Refused(refusal));
    assert_eq!(desk.error("eni-1"), Reason::EniLimitExceeded);
    let Reply::CapacityExceeded(full) = desk.enter(2, "eni-2", Mode::Query) else { panic!() };
    assert_eq!((full.limit, full.attached), (2, 2));
    let mut seen = Desk { record: desk.record.clone(), ..Desk::new() };
    seen.pass(3 * SECOND);
    seen.observe(&["eni-a"]);
    assert_eq!(seen.enter(2, "eni-2", Mode::Query), Reply::Admissible);
    desk.pass(61 * SECOND);
    desk.observe(&["eni-a", "eni-b"]);
    assert_eq!(desk.enter(2, "eni-2", Mode::Query), Reply::Admissible);
}

#[test]
fn what_others_attached_is_shown_and_followed() {
    let mut desk = Desk::new();
    let rows = vec![
        sight("eni-a", ObservedStatus::InUse),
        sight("eni-b", ObservedStatus::Attaching),
        sight("eni-c", ObservedStatus::Detaching),
    ];
    desk.run(&Command::Observe { sent_at: desk.now, rows, then: None });
    assert_eq!(desk.state("eni-a"), State::Attached);
    assert_eq!(desk.state("eni-b"), State::Attaching);
    assert_eq!(desk.state("eni-c"), State::Detaching);
    let due = |desk: &Desk, eni: &str| desk.attempt(eni).state.due_at().is_some();
    assert_eq!(
        [due(&desk, "eni-a"), due(&desk, "eni-b"), due(&desk, "eni-c")],
        [false, true, true]
    );
    assert!(
        desk.record
            .attempts
            .values()
            .all(|attempt| !attempt.is_reserved() && !attempt.is_from_gateway())
    );
    let before = desk.attempt("eni-a").uid;
    desk.pass(30 * SECOND);
    desk.observe(&["eni-b"]);
    assert_eq!(desk.state("eni-a"), State::Detached);
    desk.pass(30 * SECOND);
    desk.observe(&["eni-a", "eni-b"]);
    assert_eq!(desk.state("eni-a"), State::Attached);
    assert_ne!(desk.attempt("eni-a").uid, before, "another attachment");
}

#[test]
fn ended_attempts_are_forgotten_after_a_day_and_the_record_expires_only_when_idle() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    assert_eq!(desk.last.as_ref().unwrap().effects.expire_after, None);
    desk.pass(60 * SECOND);
    desk.settle("eni-1", free());
    assert_eq!(desk.state("eni-1"), State::Failed);
    assert!(desk.last.as_ref().unwrap().effects.expire_after.is_some());
    desk.pass(25 * 3600 * SECOND);
    desk.enter(2, "eni-2", Mode::Enqueue);
    assert!(desk.record.attempts.is_empty());
}

#[test]
fn an_instance_past_its_limit_takes_nothing_not_even_what_is_counted_already() {
    let mut desk = Desk::new();
    desk.bounds.limit = 2;
    desk.observe(&["eni-1"]);
    desk.pass(11 * SECOND);
    desk.observe(&[]);
    assert_eq!(desk.state("eni-1"), State::Detached);
    desk.pass(SECOND);
    // An external attach, past the limit, within one lag after the ENI was detached.
    desk.observe(&["eni-1", "eni-2", "eni-3"]);
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::CapacityExceeded(_)));
}

/// The replica was suspended before it recorded the response, and no later Describe call was sent.
/// The response cannot show external attachments made meanwhile.
#[test]
fn an_answer_that_was_held_up_for_longer_than_a_lease_is_none() {
    let mut desk = Desk::new();
    let sent_at = desk.now;
    desk.pass(16 * SECOND);
    let rows = Vec::new();
    desk.run(&Command::Observe { sent_at, rows, then: None });
    assert!(matches!(desk.enter(1, "eni-1", Mode::Reserve), Reply::Granted { stale: true, .. }));
}
