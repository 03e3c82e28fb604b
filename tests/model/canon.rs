//! When two situations are the same: times count from now, and what decides nothing (revisions, fences, counts) does not count.

use serde_json::Value;

use crate::world::{SECOND, START, World};

/// Further back than every bound all times are alike.
const HORIZON: i64 = 16;
const IDLE: [&str; 13] = [
    "revision",
    "fence",
    "transitions",
    "looks",
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

pub(crate) fn of(world: &World) -> String {
    let now = world.now;
    let ago = |time: u64| (now as i64 - time as i64).clamp(-HORIZON, HORIZON);
    let mut record = serde_json::to_value(&world.record).unwrap();
    still(&mut record, now);
    let tasks: Vec<String> = world
        .tasks
        .iter()
        .map(|task| {
            let mut step = format!("{:?}", task.step);
            // Attempts in hand are those that were written: their times say which.
            if let Some(at) = step.find("created_at") {
                step.truncate(at);
            }
            match &task.step {
                crate::task::Step::Describe { sent_at } => step = format!("describe {}", ago(*sent_at)),
                crate::task::Step::Send {
                    lease,
                    attempt,
                    incarnation,
                    confirmed,
                } => {
                    let ends = ago((lease.expires_at.as_micros() - START) / SECOND);
                    step = format!("send {ends} {incarnation} {confirmed} {}", sends(attempt, now));
                }
                crate::task::Step::Wait { attempt, .. } => step = format!("wait {}", sends(attempt, now)),
                crate::task::Step::Answer { attempt, answer, .. } => {
                    step = format!("answer {answer:?} {}", sends(attempt, now));
                }
                _ => {}
            }
            format!("{} {} {:?} {step}", task.number, task.eni, task.resends)
        })
        .collect();
    let tracks: Vec<Vec<(i64, crate::cloud::Place)>> = world
        .cloud
        .iter()
        .map(|track| track.0.iter().map(|(at, place)| (ago(*at), *place)).collect())
        .collect();
    let flying: Vec<String> = world
        .flying
        .iter()
        .map(|send| format!("{} {} {} {}", send.eni, send.uid, ago(send.date), send.task))
        .collect();
    let looks: Vec<(usize, i64)> = world.looks.iter().map(|(eni, at)| (*eni, ago(*at))).collect();
    let older: Vec<String> = world
        .older
        .iter()
        .map(|(at, record)| {
            let mut record = serde_json::to_value(record).unwrap();
            still(&mut record, now);
            format!("{} {record}", ago(*at))
        })
        .collect();
    let foreign: Vec<(usize, i64)> = world.foreign.iter().map(|(eni, at)| (*eni, ago(*at))).collect();
    format!(
        "{record}|{tasks:?}|{tracks:?}|{flying:?}|{looks:?}|{older:?}|{foreign:?}|{:?}|{:?}|{}|{}|{}|{:?}",
        world.left,
        world.ghosts,
        ago(world.hold_until),
        world.incarnation,
        world.ticks_left(),
        world.breach
    )
}

fn sends(attempt: &eni_gateway::ledger::record::Attempt, now: u64) -> String {
    let ago = |at: u64| now as i64 - ((at - START) / SECOND) as i64;
    let sends: Vec<_> = attempt
        .sends
        .iter()
        .map(|send| {
            let answered = send.answered_at.map(|at| ago(at.as_micros()).min(HORIZON));
            (ago(send.at.as_micros()).min(HORIZON), answered)
        })
        .collect();
    format!("{} {sends:?} {:?}", attempt.uid(), attempt.attachment.state)
}

fn still(value: &mut Value, now: u64) {
    match value {
        Value::Object(fields) => {
            let foreign = fields.get("ours") == Some(&Value::Bool(false));
            fields.retain(|name, _| !IDLE.contains(&name.as_str()));
            for (name, field) in fields.iter_mut() {
                if foreign && name == "attachment" {
                    // An id that is derived from the time.
                    field.as_object_mut().unwrap().remove("uid");
                }
                still(field, now);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| still(item, now)),
        Value::Number(number) => {
            if let Some(time) = number.as_u64().filter(|time| *time >= START / 2) {
                let ago = now as i64 - ((time.saturating_sub(START)) / SECOND) as i64;
                *value = ago.clamp(-HORIZON, HORIZON).into();
            }
        }
        _ => {}
    }
}
