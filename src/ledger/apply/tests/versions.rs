//! Records that a newer version wrote. Every step keeps what this version does not know.

use serde_json::{Value, json};

use super::*;
use crate::model::{Failure, Reason};

/// Adds a field to every object of a record, but not to maps: their keys are data.
fn grow(value: &mut Value, is_map: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let map = matches!(
                    name.as_str(),
                    "attempts" | "recently_confirmed" | "metadata" | "requests"
                ) && !is_map;
                // Durations and pairs are values, not objects.
                if !matches!(name.as_str(), "valid_for" | "retry_after") {
                    grow(value, map);
                }
            }
            if !is_map {
                fields.insert("newer".to_owned(), json!({"kept": ["ü", 1, 0.1, null]}));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| grow(item, false)),
        _ => {}
    }
}

/// Number of objects with the field.
fn grown(value: &Value) -> usize {
    match value {
        Value::Object(fields) => {
            usize::from(fields.contains_key("newer")) + fields.values().map(grown).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(grown).sum(),
        _ => 0,
    }
}

/// A record with content at every level: lock, queue, learned limit, refusals, a former attempt,
/// ended ones.
fn full() -> Desk {
    let mut desk = Desk::new();
    desk.bounds.limit = 8;
    let sent = desk.reserve(1, "eni-failed");
    let why = Failure::new(Reason::InstanceNotStopped, "no")
        .ens("E", "R")
        .with("limit", 3)
        .retry_after(SECOND);
    desk.answer(&sent, SendResult::Refused(why.clone()));
    desk.accept(2, "eni-attached");
    desk.pass(12 * SECOND);
    desk.settle("eni-attached", here(ObservedStatus::InUse));
    let sent = desk.reserve(3, "eni-conflict");
    desk.answer(&sent, SendResult::StatusConflict(Failure::new(Reason::EniNotAvailable, "busy")));
    let sent = desk.reserve(4, "eni-limited");
    desk.answer(&sent, SendResult::Refused(Failure::new(Reason::EniLimitExceeded, "full")));
    desk.pass(61 * SECOND);
    desk.observe(&["eni-attached"]);
    desk.pass(Duration::from_millis(1));
    // This attempt replaced the former one.
    let key = Some(request(5));
    let reply = desk.run(&enter(5, "eni-failed", Mode::Reserve, key));
    assert!(matches!(reply, Reply::Reserved { .. }), "{reply:?}");
    desk.enter(6, "eni-waits", Mode::Enqueue);
    desk
}

fn newer(desk: &Desk) -> Value {
    let mut stored = serde_json::to_value(&desk.record).unwrap();
    let now = desk.now.as_micros();
    stored["learned_limit"] = json!({"limit": 8, "at": now, "until": now + 60_000_000});
    stored["attempts"]["eni-failed"]["trace"] = json!({"parent": "00-1-2-01"});
    grow(&mut stored, false);
    stored
}

#[test]
fn fields_of_a_newer_version_are_kept_at_every_level() {
    let mut desk = full();
    let stored = newer(&desk);
    for level in ["lock", "observation", "learned_limit"] {
        assert_eq!(grown(&stored[level]), 1, "{level}: {stored}");
    }
    assert!(grown(&stored["queue"]) == 1 && grown(&stored["attempts"]) > 20, "{stored}");
    desk.record = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&desk.record).unwrap(), stored, "read and written");

    // Other steps leave them unchanged.
    desk.pass(SECOND / 2);
    desk.enter(6, "eni-waits", Mode::Enqueue);
    desk.settle("eni-attached", here(ObservedStatus::InUse));
    desk.settle("eni-conflict", EniObservation::Unclear { text: String::new() });
    let after = serde_json::to_value(&desk.record).unwrap();
    assert_eq!(grown(&after), grown(&stored), "{after}");

    // The attempt is accepted. Its own unknown fields stay, and the former attempt is gone.
    let (grant, attempt) = (desk.record.lock.clone().unwrap(), desk.attempt("eni-failed"));
    let former =
        grown(&serde_json::to_value(&attempt.state.in_flight().unwrap().superseded).unwrap());
    let levels = grown(&serde_json::to_value(&attempt).unwrap()) - former;
    let token = LockToken { ticket: grant.ticket, fencing_token: grant.fencing_token };
    desk.run(&Command::RecordSendResult {
        attempt: attempt.into(),
        token,
        result: SendResult::Accepted { ens_request_id: "E-2".to_owned() },
        release: true,
    });
    let attempt = desk.attempt("eni-failed");
    assert_eq!(attempt.state.kind(), State::Attaching);
    assert_eq!(grown(&serde_json::to_value(&attempt).unwrap()), levels);

    // A refusal that becomes the error keeps its unknown fields.
    desk.pass(SECOND);
    desk.settle("eni-conflict", here(ObservedStatus::Detaching));
    let error = desk.attempt("eni-conflict").state.error().cloned().unwrap();
    assert!(error.unknown.get("newer").is_some(), "{error:?}");
}

#[test]
fn an_entry_of_a_newer_version_is_read_and_written_as_it_was() {
    let mut desk = full();
    let attempt = desk.attempt("eni-attached");
    let entry = RequestEntry::new(&attempt.eni, attempt.uid, Some(attempt.attachment()));
    let mut stored = serde_json::to_value(entry).unwrap();
    grow(&mut stored, false);
    let read: RequestEntry = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), stored);
    desk.requests.insert(request(9), read);
    let reply = desk.run(&enter(9, "eni-attached", Mode::Query, Some(request(9))));
    assert!(matches!(reply, Reply::Replayed(_)), "{reply:?}");
}

/// A record with an attempt in an unknown state, and an error with an unknown reason and code.
fn with_new_variants() -> Desk {
    let mut desk = full();
    let mut stored = newer(&desk);
    let attempts = &mut stored["attempts"];
    attempts["eni-conflict"]["state"]["kind"] = json!("suspended");
    attempts["eni-conflict"]["transitions"][0]["state"] = json!({"suspended": {"until": 7}});
    attempts["eni-attached"]["transitions"][0]["state"] = json!("prepared");
    attempts["eni-limited"]["state"]["error"]["reason"] = json!("TOO_HOT");
    attempts["eni-limited"]["state"]["error"]["code"] = json!("OUT_OF_RANGE");
    desk.record = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&desk.record).unwrap(), stored, "kept verbatim");
    desk
}

#[test]
fn an_attempt_in_a_new_state_keeps_its_slot_and_is_left_alone() {
    let mut desk = with_new_variants();
    let before = desk.attempt("eni-conflict");
    assert_eq!((before.state.kind(), before.is_reserved()), (State::Unknown, true));
    for observation in [
        here(ObservedStatus::InUse),
        here(ObservedStatus::Detaching),
        free(),
        EniObservation::Missing,
        EniObservation::Unclear { text: "Deleting".to_owned() },
        EniObservation::Unclear { text: String::new() },
    ] {
        desk.pass(60 * SECOND);
        assert_eq!(desk.settle("eni-conflict", observation.clone()), before, "{observation:?}");
        assert_eq!(desk.last.as_ref().unwrap().effects.due.get(&id("eni-conflict")), None);
    }
    desk.pass(SECOND);
    desk.observe(&["eni-attached", "eni-conflict"]);
    desk.pass(SECOND);
    desk.observe(&["eni-attached"]);
    desk.run(&Command::Observe {
        sent_at: desk.now,
        rows: Vec::new(),
        then: Some(Box::new(Command::Reconcile)),
    });
    assert_eq!(desk.attempt("eni-conflict"), before);
    let joined = desk.enter(8, "eni-conflict", Mode::Reserve);
    assert!(matches!(joined, Reply::Joined(_)), "{joined:?}");
    assert_eq!(desk.resend(8, before.uid, "eni-conflict"), Reply::NotFound);
    desk.pass(2 * ENDED_LIFE);
    desk.observe(&[]);
    assert_eq!(desk.attempt("eni-conflict"), before);
    assert_eq!(desk.last.as_ref().unwrap().effects.expire_after, None, "kept");

    // Its slot is used, beside that of the attempt whose owner is gone.
    desk.bounds.limit = 3;
    desk.accept(20, "eni-a");
    desk.observe(&[]);
    desk.pass(Duration::from_millis(1));
    let full = desk.enter(22, "eni-c", Mode::Reserve);
    assert!(matches!(full, Reply::CapacityExceeded(_)), "{full:?}");
}

#[test]
fn another_epoch_leaves_a_new_state_as_it_is() {
    let mut desk = with_new_variants();
    let before = desk.attempt("eni-conflict").state;
    desk.partition.epoch = "b".into();
    desk.observe(&[]);
    let attempt = desk.attempt("eni-conflict");
    assert_eq!((&attempt.state, attempt.is_reserved()), (&before, true));
}

#[test]
fn a_new_reason_counts_as_an_error_of_ens_and_keeps_its_name() {
    let mut desk = with_new_variants();
    let error = desk.attempt("eni-limited").state.error().cloned().unwrap();
    assert_eq!((error.reason, error.code), (Reason::EnsError, crate::model::Code::Unknown));
    desk.pass(60 * SECOND);
    desk.settle("eni-limited", free());
    let stored = serde_json::to_value(desk.attempt("eni-limited").state.error()).unwrap();
    assert_eq!((&stored["reason"], &stored["code"]), (&json!("TOO_HOT"), &json!("OUT_OF_RANGE")));
}
