use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ledger::record::{
    Attempt, AttemptState, Observation, QueuedTicket, Record, SendEntry, Unconfirmed,
};
use crate::model::{Failure, FencingToken, Reason, Ticket, Uid, Unknown};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn instance() -> InstanceId {
    "i-1".parse().unwrap()
}

fn eni(name: &str) -> InterfaceId {
    name.parse().unwrap()
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() - seconds * 1_000_000)
}

fn record(known: &mut Known) -> &mut Record {
    Arc::make_mut(&mut known.snapshot.record)
}

fn known() -> Known {
    let mut known = Known::default();
    known.snapshot.now = NOW;
    known.snapshot.version = 1;
    known.snapshot.partition.epoch = "a".into();
    record(&mut known).epoch = "a".into();
    known
}

fn with(known: &mut Known, name: &str, state: AttemptState) {
    let mut attempt = Attempt::new(&instance(), &eni(name), Uid(uuid::Uuid::nil()), ago(20));
    attempt.state = state;
    attempt.updated_at = ago(5);
    attempt.sends.push(SendEntry::new(ago(15)));
    record(known).attempts.insert(eni(name), attempt);
}

fn of(known: &Known, subject: Subject) -> Statement {
    let mut statements = explain(known, &instance(), None, &Bounds::default()).into_iter();
    statements.find(|statement| statement.subject == subject).expect("it is said")
}

#[test]
fn an_unknown_instance_is_not_called_empty() {
    let mut known = known();
    known.snapshot.version = 0;
    let statements = explain(&known, &instance(), None, &Bounds::default());
    let subjects: Vec<_> = statements.iter().map(|statement| statement.subject).collect();
    assert_eq!(subjects, [Subject::Ledger, Subject::Budget]);
    assert_eq!(statements[0].facts["hasRecord"], false);
    assert!(statements[0].text.contains("no record"), "{}", statements[0].text);
}

#[test]
fn a_hold_down_says_until_when() {
    let mut known = known();
    known.snapshot.partition.hold_down_until = NOW + Duration::from_secs(12);
    let ledger = of(&known, Subject::Ledger);
    assert!(ledger.text.contains("(in 12 s)"), "{}", ledger.text);
    assert!(ledger.text.contains("COORDINATION_RECOVERING"), "{}", ledger.text);
}

#[test]
fn lock_and_queue_are_void_after_their_time_and_in_another_epoch() {
    let mut known = known();
    record(&mut known).lock = Some(LockGrant {
        ticket: Ticket(uuid::Uuid::nil()),
        fencing_token: FencingToken(7),
        expires_at: NOW + Duration::from_secs(9),
        provisional: false,
        unknown: Unknown::default(),
    });
    for seconds in [1, 2] {
        record(&mut known).queue.push_back(QueuedTicket {
            ticket: Ticket(uuid::Uuid::nil()),
            expires_at: NOW + Duration::from_millis(seconds * 400),
            unknown: Unknown::default(),
        });
    }
    let (lock, queue) = (of(&known, Subject::Lock), of(&known, Subject::Queue));
    assert_eq!((&lock.facts["held"], &lock.facts["fencingToken"]), (&true.into(), &7.into()));
    assert!(lock.text.contains("(in 9 s)"), "{}", lock.text);
    assert_eq!(queue.facts["length"], 2);
    known.snapshot.partition.epoch = "b".into();
    let (lock, queue) = (of(&known, Subject::Lock), of(&known, Subject::Queue));
    assert_eq!((&lock.facts["held"], &queue.facts["length"]), (&false.into(), &0.into()));
}

#[test]
fn slots_are_counted_by_origin() {
    let mut known = known();
    with(&mut known, "eni-1", AttemptState::of(State::Attaching));
    with(&mut known, "eni-2", AttemptState::of(State::Attached));
    with(&mut known, "eni-3", AttemptState::of(State::Attached));
    let external = record(&mut known).attempts.get_mut(&eni("eni-3")).unwrap();
    external.origin = crate::ledger::record::Origin::External;
    record(&mut known).observation = Some(Observation {
        sent_at: ago(90),
        occupied: vec![eni("eni-2"), eni("eni-3")],
        recorded_at: ago(90),
        valid_for: Duration::from_secs(30),
        unknown: Unknown::default(),
    });
    let (slots, observation) = (of(&known, Subject::Slots), of(&known, Subject::Observation));
    for (fact, expected) in [
        ("limit", 10),
        ("inUse", 2),
        ("inFlight", 1),
        ("free", 7),
        ("attachedByGateways", 1),
        ("attachedByOthers", 1),
    ] {
        assert_eq!(slots.facts[fact], expected, "{fact}");
    }
    assert_eq!(observation.facts["usable"], false);
    assert!(observation.text.contains("(1 min 30 s ago)"), "{}", observation.text);
}

#[test]
fn each_state_says_what_comes_next() {
    let error = Failure::new(Reason::EniNotAvailable, "the interface is busy");
    let unconfirmed = Unconfirmed::new(ago(3), NOW + Duration::from_secs(2));
    let attached = AttemptState::Attached(crate::ledger::record::Attached {
        unconfirmed: Some(unconfirmed),
        unknown: Unknown::default(),
    });
    for (state, expected) in [
        (AttemptState::of(State::Pending), "ENS has not answered yet"),
        (AttemptState::of(State::Verifying), "proves that nothing was applied"),
        (AttemptState::of(State::Attaching), "ENS accepted the attach"),
        (AttemptState::of(State::Attached), "ATTACHED since"),
        (attached, "ENS is asked again. A replica describes it next at"),
        (AttemptState::failed(error), "ENI_NOT_AVAILABLE: the interface is busy. It uses no slot"),
        (AttemptState::of(State::Detaching), "It uses its slot until"),
        (AttemptState::of(State::Detached), "It uses no slot"),
        (AttemptState::of(State::Unknown), "this version does not know"),
    ] {
        let mut known = known();
        with(&mut known, "eni-1", state);
        let attempt = of(&known, Subject::Attempt);
        assert!(attempt.text.contains(expected), "{expected}: {}", attempt.text);
        assert_eq!(attempt.network_interface_id, Some(eni("eni-1")));
    }
}

#[test]
fn one_interface_is_explained_alone() {
    let mut known = known();
    with(&mut known, "eni-1", AttemptState::of(State::Attached));
    with(&mut known, "eni-2", AttemptState::of(State::Attached));
    let asked = |name: &str| {
        let statements = explain(&known, &instance(), Some(&eni(name)), &Bounds::default());
        let of = statements.into_iter().filter(|statement| statement.subject == Subject::Attempt);
        of.map(|statement| (statement.network_interface_id, statement.facts["known"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(asked("eni-2"), [(Some(eni("eni-2")), true.into())]);
    assert_eq!(asked("eni-9"), [(Some(eni("eni-9")), false.into())]);
}

#[test]
fn an_open_breaker_is_named() {
    let mut known = known();
    assert!(of(&known, Subject::Budget).text.starts_with("No breaker is open"));
    known.breakers = vec![("attach", NOW + Duration::from_secs(4))];
    let budget = of(&known, Subject::Budget);
    assert!(budget.text.contains("attach calls") && budget.text.contains("(in 4 s)"));
}
