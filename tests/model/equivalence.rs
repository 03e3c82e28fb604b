//! Equality of states: values that decide nothing (revisions, fencing tokens, counts, texts) are
//! ignored.

use std::hash::{DefaultHasher, Hash, Hasher};

use eni_gateway::ledger::Record;
use eni_gateway::ledger::record::Attempt;
use serde_json::Value;

use crate::task::{Step, Task};
use crate::world::World;

const IDLE: [&str; 13] = [
    "revision",
    "fencing_token",
    "transitions",
    "poll_count",
    "due_at",
    "created_at",
    "ens_request_id",
    "observed_at",
    "trace",
    "request",
    "message",
    "ens_status",
    "stuck",
];

pub(crate) fn of(world: &World) -> u64 {
    let mut key = DefaultHasher::new();
    (world.now, world.left, &world.ghosts, &world.violation).hash(&mut key);
    let ledger = &world.ledger;
    (ledger.newest.key, ledger.epoch, ledger.hold_down_until).hash(&mut key);
    let mut older: Vec<_> = ledger.older.iter().map(|(until, older)| (until, older.key)).collect();
    older.sort_unstable();
    // Nor does the order decide in which attaches were sent.
    let mut flying: Vec<_> = world.flying.iter().collect();
    flying.sort_unstable();
    (older, &world.cloud, flying, &world.describes, &world.external, &world.grants).hash(&mut key);
    for task in &world.tasks {
        task_into(task, &mut key);
    }
    key.finish()
}

pub(crate) fn of_record(record: &Record) -> u64 {
    let mut key = DefaultHasher::new();
    value_into(&serde_json::to_value(record).unwrap(), &mut key);
    key.finish()
}

fn task_into(task: &Task, key: &mut impl Hasher) {
    (task.number, task.taken_back, task.replica, std::mem::discriminant(&task.step)).hash(key);
    match &task.step {
        Step::Waiting | Step::Over => {}
        Step::Asking(asking) => format!("{:?}", asking.command()).hash(key),
        Step::Describing { sent_at, .. } => sent_at.hash(key),
        Step::Reserved(reserved) => {
            (reserved.lease().expires_at, reserved.epoch()).hash(key);
            attempt_into(reserved.attempt(), key);
        }
        Step::Confirmed(confirmed) => {
            confirmed.reserved().lease().expires_at.hash(key);
            attempt_into(confirmed.reserved().attempt(), key);
        }
        Step::UnderWay(under_way) => attempt_into(under_way.attempt(), key),
        Step::Answered(answered) => {
            format!("{:?}", answered.result()).hash(key);
            attempt_into(answered.attempt(), key);
        }
    }
}

/// An attempt in hand is written again if the ledger lost it.
fn attempt_into(attempt: &Attempt, key: &mut impl Hasher) {
    (attempt.uid, std::mem::discriminant(&attempt.state.kind())).hash(key);
    (attempt.described_at, attempt.observed_attached_at, attempt.was_recently_attached).hash(key);
    attempt.state.refusal().map(|refusal| refusal.reason).hash(key);
    for send in &attempt.sends {
        (send.at, send.answered_at, send.restarted_at).hash(key);
    }
}

fn value_into(value: &Value, key: &mut impl Hasher) {
    match value {
        Value::Object(fields) => {
            // Its id is derived from the time.
            let external = fields.get("origin").and_then(Value::as_str) == Some("external");
            for (name, field) in fields.iter().filter(|(name, _)| !IDLE.contains(&name.as_str())) {
                if !(external && name == "uid") {
                    name.hash(key);
                    value_into(field, key);
                }
            }
        }
        Value::Array(items) => {
            items.len().hash(key);
            items.iter().for_each(|item| value_into(item, key));
        }
        Value::Null => 0_u8.hash(key),
        Value::Bool(flag) => flag.hash(key),
        Value::Number(number) => number.as_u64().hash(key),
        Value::String(text) => text.hash(key),
    }
}
