//! Whatever is asked of a record, in whatever order and after however long: the invariants hold of
//! every step, nothing under way is forgotten, and the record survives being stored.
//!
//! What only a gateway says is said as a gateway says it: an answer comes once for each send, and
//! each attempt has a uid of its own.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use eni_gateway::ledger::apply::{Context, apply};
use eni_gateway::ledger::command::{
    Acquire, Command, EniObservation, LockToken, Mode, ObservedEni, ObservedStatus, Reply,
    SendResult,
};
use eni_gateway::ledger::record::{Attempt, Record};
use eni_gateway::ledger::{Bounds, Partition, RequestEntry, RequestKey, invariants};
use eni_gateway::model::{
    Caller, Failure, InstanceId, InterfaceId, Reason, RequestId, Ticket, Timestamp, TraceContext,
    Uid,
};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

/// Most steps of one input.
const MOST: usize = 200;

#[derive(Debug, Arbitrary)]
struct Input {
    limit: u8,
    count_primary: bool,
    acts: Vec<(Pause, Act)>,
}

/// How much later the next thing happens.
#[derive(Debug, Arbitrary)]
enum Pause {
    None,
    Millis(u16),
    Seconds(u16),
    /// As after an outage of hours or months.
    Minutes(u16),
}

#[derive(Debug, Arbitrary)]
enum Act {
    Read,
    Acquire(Entry),
    Resend {
        who: u8,
        eni: u8,
    },
    Observe {
        ago: u16,
        rows: Vec<Row>,
        then: Option<Entry>,
    },
    Answer {
        which: u8,
        how: Answer,
        release: bool,
    },
    Settle {
        ago: u16,
        observations: Vec<(u8, Found)>,
    },
    Compare,
    Leave(u8),
    /// A failover that lost nothing, or what came since the saved record.
    Failover {
        lost: bool,
        hold_down: u8,
    },
    Save,
}

#[derive(Debug, Arbitrary)]
struct Entry {
    who: u8,
    eni: u8,
    request: Option<u8>,
    traced: bool,
    mode: Distance,
}

#[derive(Debug, Arbitrary)]
enum Distance {
    Ask,
    Queue,
    Reserve,
}

#[derive(Debug, Arbitrary)]
struct Row {
    eni: u8,
    status: Word,
    primary: bool,
}

#[derive(Debug, Arbitrary)]
enum Word {
    Attaching,
    InUse,
    Detaching,
    Available,
    Other,
}

#[derive(Debug, Arbitrary)]
enum Answer {
    Accepted,
    Refused(bool),
    Conflicting,
    Void,
    Unanswered,
}

#[derive(Debug, Arbitrary)]
enum Found {
    Here(Word),
    Elsewhere,
    Available,
    Missing,
    Unclear(bool),
}

struct Desk {
    bounds: Bounds,
    instance: InstanceId,
    partition: Partition,
    record: Record,
    saved: Record,
    requests: BTreeMap<RequestKey, RequestEntry>,
    now: Timestamp,
    uids: u128,
    /// Sends whose answer is still to come.
    sent: Vec<(LockToken, Attempt)>,
}

fuzz_target!(|input: Input| {
    let mut desk = Desk::new(&input);
    for (pause, act) in input.acts.into_iter().take(MOST) {
        desk.now = desk.now
            + match pause {
                Pause::None => Duration::ZERO,
                Pause::Millis(millis) => Duration::from_millis(millis.into()),
                Pause::Seconds(seconds) => Duration::from_secs(seconds.into()),
                Pause::Minutes(minutes) => Duration::from_secs(60 * u64::from(minutes)),
            };
        desk.perform(act);
    }
});

impl Desk {
    fn new(input: &Input) -> Self {
        Self {
            bounds: Bounds {
                limit: usize::from(input.limit % 5),
                count_primary: input.count_primary,
                ..Bounds::default()
            },
            instance: "i-1".parse().expect("an id"),
            partition: Partition {
                epoch: "0".into(),
                hold_down_until: Timestamp::default(),
                shared: None,
                freeze: None,
            },
            record: Record::default(),
            saved: Record::default(),
            requests: BTreeMap::new(),
            now: Timestamp::from_micros(1_700_000_000_000_000),
            uids: 0,
            sent: Vec::new(),
        }
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Read => self.run(&Command::Read),
            Act::Acquire(entry) => {
                let command = self.enter(entry);
                self.run(&command);
            }
            Act::Resend { who, eni } => {
                if let Some(uid) = self.record.attempts.get(&id(eni)).map(|attempt| attempt.uid) {
                    self.run(&Command::Resend { ticket: ticket(who), uid, eni: id(eni) });
                }
            }
            Act::Observe { ago, rows, then } => {
                let then = then.map(|entry| Box::new(self.enter(entry)));
                self.run(&Command::Observe { sent_at: self.before(ago), rows: sights(rows), then });
            }
            Act::Answer { which, how, release } => {
                if self.sent.is_empty() {
                    return;
                }
                let (grant, attempt) = self.sent.swap_remove(usize::from(which) % self.sent.len());
                self.run(&Command::RecordSendResult {
                    attempt: attempt.into(),
                    token: grant,
                    result: how.into(),
                    release,
                });
            }
            Act::Settle { ago, observations } => {
                let observations = observations
                    .into_iter()
                    .take(8)
                    .map(|(eni, found)| (id(eni), found.into()))
                    .collect();
                self.run(&Command::RecordStatuses { sent_at: self.before(ago), observations });
            }
            Act::Compare => self.run(&Command::Reconcile),
            Act::Leave(who) => self.run(&Command::Release { ticket: ticket(who) }),
            Act::Failover { lost, hold_down } => {
                self.uids += 1;
                self.partition = Partition {
                    epoch: self.uids.to_string().into(),
                    hold_down_until: self.now + Duration::from_secs(hold_down.into()),
                    shared: None,
                    freeze: None,
                };
                if lost {
                    self.record = self.saved.clone();
                }
            }
            Act::Save => self.saved = self.record.clone(),
        }
    }

    fn enter(&mut self, entry: Entry) -> Command {
        self.uids += 1;
        Command::Acquire(Acquire {
            ticket: ticket(entry.who),
            uid: Uid(Uuid::from_u128(1000 + self.uids)),
            eni: id(entry.eni),
            request: entry.request.map(|id| {
                let id = RequestId(Uuid::from_u128(1 + u128::from(id % 4)));
                RequestKey::new(Caller::anonymous(), id)
            }),
            caller: None,
            trace: entry.traced.then(TraceContext::default),
            mode: match entry.mode {
                Distance::Ask => Mode::Query,
                Distance::Queue => Mode::Enqueue,
                Distance::Reserve => Mode::Reserve,
            },
            confirmed_since: self.now,
        })
    }

    /// When a describe was sent that is answered now.
    fn before(&self, millis: u16) -> Timestamp {
        self.now - Duration::from_millis(millis.into())
    }

    fn run(&mut self, command: &Command) {
        let context = Context {
            bounds: &self.bounds,
            instance: &self.instance,
            partition: &self.partition,
            request: command.request().and_then(|key| self.requests.get(key)),
            now: self.now,
        };
        let step = apply(&self.record, command, context);
        assert_eq!(invariants::check(&self.record, &step.record, &context), [], "{command:?}");
        let text = serde_json::to_string(&step.record).expect("a record can be written");
        let stored: Record = serde_json::from_str(&text).expect("and read");
        assert_eq!(stored, step.record, "survives being stored");
        for attempt in step.record.attempts.values() {
            let driven = !attempt.is_reserved() || attempt.state.due_at().is_some();
            assert!(driven, "no step would ever poll {attempt:?} after {command:?}");
        }
        if let Reply::Reserved { grant, attempt, .. } = step.reply {
            self.sent.push((grant.token, (*attempt).clone()));
        }
        for (key, entry) in step.effects.requests {
            match entry {
                Some(entry) => self.requests.insert(key, entry),
                None => self.requests.remove(&key),
            };
        }
        self.record = step.record;
    }
}

fn id(eni: u8) -> InterfaceId {
    format!("eni-{}", eni % 6).parse().expect("an id")
}

fn ticket(who: u8) -> Ticket {
    Ticket(Uuid::from_u128(1 + u128::from(who % 4)))
}

/// As one describe has them: a row for each ENI.
fn sights(rows: Vec<Row>) -> Vec<ObservedEni> {
    let rows = rows.into_iter().take(16).map(|Row { eni, status, primary }| {
        let (status, text) = status.read();
        (id(eni), ObservedEni { eni: id(eni), status, text, primary })
    });
    rows.collect::<BTreeMap<_, _>>().into_values().collect()
}

impl Word {
    fn read(self) -> (ObservedStatus, String) {
        let status = match self {
            Self::Attaching => ObservedStatus::Attaching,
            Self::InUse => ObservedStatus::InUse,
            Self::Detaching => ObservedStatus::Detaching,
            Self::Available => ObservedStatus::Available,
            Self::Other => ObservedStatus::Other,
        };
        (status, format!("{status:?}"))
    }
}

impl From<Answer> for SendResult {
    fn from(answer: Answer) -> Self {
        let failure = |reason| Failure::new(reason, "no");
        match answer {
            Answer::Accepted => Self::Accepted { ens_request_id: "E".to_owned() },
            Answer::Refused(true) => Self::Refused(failure(Reason::EniLimitExceeded)),
            Answer::Refused(false) => Self::Refused(failure(Reason::InstanceNotStopped)),
            Answer::Conflicting => Self::StatusConflict(failure(Reason::InstanceNotStopped)),
            Answer::Void => Self::NoEffect,
            Answer::Unanswered => Self::NoResponse,
        }
    }
}

impl From<Found> for EniObservation {
    fn from(found: Found) -> Self {
        match found {
            Found::Here(word) => {
                let (status, text) = word.read();
                Self::Here { status, text }
            }
            Found::Elsewhere => Self::Elsewhere {
                instance: "i-2".parse().expect("an id"),
                text: "InUse".to_owned(),
            },
            Found::Available => Self::Available { text: "Available".to_owned() },
            Found::Missing => Self::Missing,
            Found::Unclear(named) => {
                Self::Unclear { text: if named { "Deleting".to_owned() } else { String::new() } }
            }
        }
    }
}
