//! A stored record, of this version, another one, or damaged: it is read or refused, and what was
//! read is written without loss.
#![no_main]

use std::fmt::Debug;

use eni_gateway::ledger::apply::{Context, apply};
use eni_gateway::ledger::command::Command;
use eni_gateway::ledger::{Bounds, Partition, Record, RequestEntry, invariants};
use eni_gateway::model::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|text: &str| {
    stable::<RequestEntry>(text);
    let Some(record) = stable::<Record>(text) else {
        return;
    };
    let _ = record.observed_at();
    let bounds = Bounds::default();
    for attempt in record.attempts.values() {
        let _ =
            (attempt.grace_ends(&bounds), attempt.may_be_resent(), attempt.has_status_conflict());
    }
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let context = Context {
        bounds: &bounds,
        instance: &"i-1".parse().expect("an id"),
        partition: &Partition {
            epoch: "a".into(),
            hold_down_until: Timestamp::default(),
            shared: None,
            freeze: None,
        },
        request: None,
        now,
    };
    let _ = invariants::check(&record, &record, &context);
    let step = apply(&record, &Command::Read, context);
    assert!(!step.changed && step.record == record, "a read changes nothing");
});

/// What is read, written, and read again is the same.
fn stable<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = serde_json::from_str(text).ok()?;
    let stored = serde_json::to_string(&value).expect("what was read can be written");
    let again: T = serde_json::from_str(&stored).expect("what was written can be read");
    assert_eq!(again, value, "{stored}");
    Some(value)
}
