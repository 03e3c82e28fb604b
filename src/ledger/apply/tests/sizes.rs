//! Size and lifetime of records.

use super::*;
use crate::ledger::bounds::{IDLE_LIFE, MAX_REQUESTS};
use crate::model::{Failure, Reason, TraceContext};

/// An attach with all that callers and ENS may send along: a trace, an id, a long refusal.
fn refused(desk: &mut Desk, number: u128) {
    let trace = TraceContext {
        parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        ..TraceContext::default()
    };
    let mut enter = Acquire {
        ticket: ticket(number),
        uid: Uid(Uuid::from_u128(number)),
        eni: id(&format!("eni-5pqzzzn19jx6t{number:08}")),
        request: Some(request(number)),
        caller: None,
        trace: Some(trace),
        mode: Mode::Reserve,
        confirmed_since: crate::model::Timestamp::default(),
    };
    desk.observe(&[]);
    desk.pass(Duration::from_millis(1));
    let sent = match desk.run(&Command::Acquire(enter.clone())) {
        Reply::Reserved { grant, attempt, .. } => (grant, Attempt::clone(&attempt)),
        other => panic!("{other:?}"),
    };
    enter.mode = Mode::Query;
    let words =
        "The specified instance must be stopped before a network interface is attached. ".repeat(3);
    let failure = Failure::new(Reason::InstanceNotStopped, words)
        .ens("InvalidOperation.InvalidEnsStatus", "7B4C3A5E-1C5D-4E0B-9B0A-0B6B3B7B2B1A")
        .about(&desk.instance.clone(), &enter.eni);
    desk.answer(&sent, SendResult::Refused(failure));
}

fn stored(record: &Record) -> usize {
    serde_json::to_string(record).unwrap().len()
}

#[test]
fn a_record_keeps_few_of_its_ended_attempts_and_request_ids() {
    let mut desk = Desk::new();
    let mut largest = 0;
    for number in 1..=150 {
        refused(&mut desk, number);
        desk.pass(SECOND);
        largest = largest.max(stored(&desk.record));
    }
    assert!(largest < 20_000, "{largest} bytes");
    let kept: Vec<String> = desk.record.attempts.keys().map(ToString::to_string).collect();
    assert!((10..=20).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last().map(String::as_str), Some("eni-5pqzzzn19jx6t00000150"), "the newest");
    assert_eq!(desk.requests.len(), MAX_REQUESTS);
    assert!(desk.requests.contains_key(&request(150)) && !desk.requests.contains_key(&request(1)));
    let one = stored(&desk.record) / kept.len();
    println!("{} ended attempts: {} bytes, {one} each", kept.len(), stored(&desk.record));
}

#[test]
fn a_caller_with_many_ids_displaces_no_other_callers() {
    let mut desk = Desk::new();
    let mut step = |caller: &str, number: u128| {
        let key = RequestKey::new(Caller(caller.into()), RequestId(Uuid::from_u128(number)));
        let command = enter(number, "eni-1", Mode::Reserve, Some(key.clone()));
        desk.observe(&[]);
        desk.pass(Duration::from_millis(1));
        let Reply::Reserved { grant, attempt, .. } = desk.run(&command) else { panic!() };
        desk.answer(
            &(grant, Attempt::clone(&attempt)),
            SendResult::Refused(Failure::new(Reason::InstanceNotStopped, "no")),
        );
        desk.pass(SECOND);
        (key, desk.requests.clone())
    };
    let (quiet, _) = step("quiet", 1);
    for number in 2..100 {
        let (_, remembered) = step("busy", number);
        assert!(remembered.contains_key(&quiet) && remembered.len() <= MAX_REQUESTS);
    }
}

#[test]
fn what_others_write_is_cut_to_what_a_record_has_room_for() {
    let mut desk = Desk::new();
    let mut sent = desk.reserve(1, "eni-1");
    let long = "ü".repeat(5_000);
    sent.1.ens_status.clone_from(&long);
    let failure = Failure::new(Reason::InstanceNotStopped, long.clone())
        .ens(long.clone(), long.clone())
        .with("observedAt", &long);
    desk.answer(&sent, SendResult::Refused(failure));
    desk.accept(2, "eni-2");
    desk.settle("eni-2", EniObservation::Unclear { text: long });
    assert!(stored(&desk.record) < 6_000, "{}", stored(&desk.record));
}

#[test]
fn a_former_attempt_is_kept_as_long_as_it_may_come_back() {
    let mut desk = Desk::new();
    let first = desk.reserve(1, "eni-1");
    desk.answer(&first, SendResult::Refused(Failure::new(Reason::InstanceNotStopped, "no")));
    let sent = desk.reserve(2, "eni-1");
    let superseded =
        |desk: &Desk| desk.attempt("eni-1").state.in_flight().unwrap().superseded.clone();
    assert!(superseded(&desk).is_some());
    desk.answer(&sent, SendResult::NoResponse);
    assert_eq!(superseded(&desk), None);
}

#[test]
fn the_size_is_about_what_is_stored() {
    let mut desk = Desk::new();
    let about = |desk: &Desk| {
        let (size, stored) = (desk.record.size() as f64, stored(&desk.record) as f64);
        assert!((0.6..1.6).contains(&(size / stored)), "{size} for {stored}");
    };
    for number in 1..=12 {
        refused(&mut desk, number);
        about(&desk);
    }
    let mut desk = Desk::new();
    for number in 1..=10 {
        desk.accept(number, &format!("eni-5pqzzzn19jx6t{number}"));
        desk.pass(12 * SECOND);
        desk.settle(&format!("eni-5pqzzzn19jx6t{number}"), here(ObservedStatus::InUse));
        about(&desk);
    }
}

#[test]
fn what_was_answered_without_a_send_is_not_remembered() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    let before = desk.record.clone();
    for reach in [Mode::Query, Mode::Enqueue, Mode::Reserve] {
        let joined = desk.run(&enter(2, "eni-1", reach, Some(request(7))));
        assert!(matches!(joined, Reply::Joined(_)), "{joined:?}");
    }
    assert!(desk.record == before && desk.requests.is_empty());
    desk.pass(12 * SECOND);
    desk.settle("eni-1", here(ObservedStatus::InUse));
    let before = desk.record.clone();
    let present = desk.run(&enter(3, "eni-1", Mode::Reserve, Some(request(8))));
    assert!(matches!(present, Reply::AlreadyAttached { fresh: true, .. }), "{present:?}");
    assert!(
        !desk.last.as_ref().unwrap().changed && desk.record == before && desk.requests.is_empty()
    );
    // The first one began no attempt, so the id may be used with another ENI.
    let other = desk.run(&enter(4, "eni-2", Mode::Query, Some(request(8))));
    assert_eq!(other, Reply::Admissible);
}

fn life(desk: &Desk) -> Option<Duration> {
    desk.last.as_ref().unwrap().effects.expire_after
}

#[test]
fn a_record_lives_as_long_as_it_says_something() {
    let mut desk = Desk::new();
    desk.observe(&[]);
    assert_eq!(life(&desk), Some(300 * SECOND), "a name that ENS does not know");
    desk.enter(1, "eni-1", Mode::Enqueue);
    assert_eq!(life(&desk), Some(300 * SECOND), "a lock ends by itself");
    let sent = desk.reserve(1, "eni-1");
    assert_eq!(life(&desk), None, "under way");
    desk.answer(&sent, SendResult::NoEffect);
    assert_eq!(life(&desk), Some(300 * SECOND), "revisions are times");
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::Refused(Failure::new(Reason::InstanceNotStopped, "no")));
    assert_eq!(life(&desk), Some(ENDED_LIFE));
    desk.pass(3_600 * SECOND);
    desk.observe(&[]);
    assert_eq!(life(&desk), Some(ENDED_LIFE - 3_600 * SECOND));
    desk.observe(&["eni-2"]);
    desk.pass(SECOND);
    desk.observe(&["eni-2"]);
    assert_eq!(life(&desk), Some(IDLE_LIFE));
    // Bounds that reach further than the default ones.
    let mut desk = Desk::new();
    desk.bounds.lag = 600 * SECOND;
    desk.observe(&[]);
    assert_eq!(life(&desk), Some(desk.bounds.recovery_hold_down()));
}

#[test]
fn what_was_claimed_and_is_gone_loses_its_place() {
    let mut desk = Desk::new();
    let settle = |desk: &mut Desk, eni: &str| {
        desk.run(&Command::RecordStatuses {
            sent_at: desk.now,
            observations: vec![(id(eni), free())],
        });
        desk.last.clone().unwrap()
    };
    let step = settle(&mut desk, "eni-1");
    assert!(step.changed);
    assert_eq!(step.effects.due, [(id("eni-1"), None)].into());
    assert_eq!(step.effects.expire_after, Some(300 * SECOND));
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    let step = settle(&mut desk, "eni-1");
    assert_eq!(step.effects.due[&id("eni-1")], desk.attempt("eni-1").state.due_at(), "under way");
    // The record itself was lost, and other attempts on the instance continue.
    desk.record = Record::default();
    desk.accept(2, "eni-2");
    let step = settle(&mut desk, "eni-1");
    assert_eq!(step.effects.due, [(id("eni-1"), None)].into());
}

#[test]
fn a_comparison_of_a_record_that_is_gone_is_the_last_one() {
    let mut desk = Desk::new();
    desk.run(&Command::Observe {
        sent_at: desk.now,
        rows: Vec::new(),
        then: Some(Box::new(Command::Reconcile)),
    });
    assert_eq!(desk.last.unwrap().effects.reconcile, crate::ledger::ReconcileSchedule::Done);
}

#[test]
fn nothing_is_stored_for_an_instance_of_which_nothing_is_known() {
    let mut desk = Desk::new();
    assert_eq!(desk.enter(1, "eni-1", Mode::Query), Reply::Admissible);
    assert!(!desk.last.as_ref().unwrap().changed);
    desk.observe(&["eni-9"]);
    assert!(desk.last.as_ref().unwrap().changed);
    desk.begin_epoch(desk.now);
    desk.enter(1, "eni-1", Mode::Query);
    assert!(desk.last.as_ref().unwrap().changed, "a record that is stored follows its epoch");
}

#[test]
fn an_attach_to_an_instance_that_ens_does_not_know_leaves_little_behind() {
    let mut desk = Desk::new();
    let request = request(7);
    desk.observe(&[]);
    desk.pass(Duration::from_millis(1));
    let Reply::Reserved { grant, attempt, .. } =
        desk.run(&enter(1, "eni-1", Mode::Reserve, Some(request)))
    else {
        panic!("not reserved")
    };
    assert!(desk.record.shows_instance() && desk.requests.len() == 1);
    let refusal = crate::model::Failure::new(crate::model::Reason::InstanceNotFound, "no");
    desk.answer(&(grant, Attempt::clone(&attempt)), SendResult::Refused(refusal));
    let effects = &desk.last.as_ref().unwrap().effects;
    assert_eq!(effects.expire_after, Some(EMPTY_LIFE.max(desk.bounds.recovery_hold_down())));
    assert!(!desk.record.shows_instance() && desk.requests.is_empty());
    assert_eq!(desk.state("eni-1"), State::Failed);
}
