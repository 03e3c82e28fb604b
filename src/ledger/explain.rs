//! What the ledger knows of an instance, in sentences for the people on call. Pure: it reads a
//! snapshot, and decides nothing.

mod attempt;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::{InstanceId, InterfaceId, State, Timestamp};

use super::apply::{Context, Slots};
use super::record::{Attempt, LockGrant, Observation};
use super::{Bounds, Snapshot};

/// A snapshot of one instance, with the state of the budget.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The record.
    pub snapshot: Snapshot,
    /// When the breaker of each family of calls lets the next probe through. Only open ones.
    pub breakers: Vec<(&'static str, Timestamp)>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Its subject.
    pub subject: Subject,
    /// The ENI that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<InterfaceId>,
    /// The fact, as a sentence or more.
    pub text: String,
    /// The same for programs. Names and values depend on the subject.
    pub facts: Map<String, Value>,
}

/// The subject of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The partition: its epoch and a recovery hold-down.
    Ledger,
    /// The account's budget of ENS calls.
    Budget,
    /// The lock of the instance.
    Lock,
    /// The queue for the lock.
    Queue,
    /// The last describe of the whole instance.
    Observation,
    /// Slots by use.
    Slots,
    /// One ENI on the instance.
    Attempt,
}

impl Subject {
    /// The name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Budget => "budget",
            Self::Lock => "lock",
            Self::Queue => "queue",
            Self::Observation => "observation",
            Self::Slots => "slots",
            Self::Attempt => "attempt",
        }
    }
}

/// What is known of `instance`, or of one ENI on it.
#[must_use]
pub fn explain(
    known: &Known,
    instance: &InstanceId,
    eni: Option<&InterfaceId>,
    bounds: &Bounds,
) -> Vec<Statement> {
    let snapshot = &known.snapshot;
    let bounds = &bounds.among(snapshot.partition.shared);
    let explainer = Explainer { known, bounds, now: snapshot.now };
    let mut statements = vec![explainer.ledger(), explainer.budget()];
    if snapshot.version == 0 {
        return statements;
    }
    if eni.is_none() {
        statements.extend([
            explainer.lock(),
            explainer.queue(),
            explainer.observation(),
            explainer.slots(instance),
        ]);
    }
    let attempts = snapshot.record.attempts.values();
    let asked = attempts.filter(|attempt| eni.is_none_or(|eni| *eni == attempt.eni));
    statements.extend(asked.map(|attempt| explainer.attempt(attempt)));
    if let Some(eni) = eni.filter(|eni| !snapshot.record.attempts.contains_key(eni)) {
        let text = "The ledger knows nothing of this network interface on this instance.";
        statements.push(statement(Subject::Attempt, Some(eni), text, json!({ "known": false })));
    }
    statements
}

fn statement(
    subject: Subject,
    eni: Option<&InterfaceId>,
    text: impl Into<String>,
    facts: Value,
) -> Statement {
    let Value::Object(facts) = facts else { unreachable!("facts are an object") };
    Statement { subject, network_interface_id: eni.cloned(), text: text.into(), facts }
}

struct Explainer<'a> {
    known: &'a Known,
    bounds: &'a Bounds,
    now: Timestamp,
}

impl Explainer<'_> {
    /// A time, absolute and from now.
    fn at(&self, time: Timestamp) -> String {
        match (self.now.since(time).as_secs(), time.since(self.now).as_secs()) {
            (0, 0) => format!("{time} (now)"),
            (ago, 0) => format!("{time} ({} ago)", span(ago)),
            (_, ahead) => format!("{time} (in {})", span(ahead)),
        }
    }

    fn ledger(&self) -> Statement {
        let Snapshot { record, version, partition, .. } = &self.known.snapshot;
        let is_held = self.now < partition.hold_down_until;
        let mut text = match (partition.epoch.is_empty(), is_held) {
            (true, _) => {
                "The partition has no epoch: the ledger is new, or lost its data. The first replica \
                 that uses it begins a recovery hold-down."
                    .to_owned()
            }
            (false, true) => format!(
                "A recovery hold-down lasts until {}. Until then no lock is granted and no attach is \
                 sent, and callers receive COORDINATION_RECOVERING.",
                self.at(partition.hold_down_until)
            ),
            (false, false) => "The partition is open.".to_owned(),
        };
        if *version == 0 {
            text += " There is no record of this instance: no gateway used it, or everything about \
                     it ended long ago.";
        } else if record.epoch != partition.epoch {
            text += " The record was last written in an earlier epoch. Its lock, queue and \
                     observation are void.";
        }
        if let Some(freeze) = &partition.freeze {
            text += &format!(
                " An operator stopped new attaches: {freeze}. Callers receive FROZEN, and attempts \
                 in flight continue."
            );
        }
        let facts = json!({
            "frozen": partition.freeze.is_some(),
            "epoch": partition.epoch,
            "holdDownUntil": is_held.then(|| partition.hold_down_until.to_string()),
            "hasRecord": *version != 0,
            "time": self.now.to_string(),
        });
        statement(Subject::Ledger, None, text, facts)
    }

    fn budget(&self) -> Statement {
        let open: Vec<_> =
            self.known.breakers.iter().filter(|(_, until)| *until > Timestamp::default()).collect();
        let text = match open.as_slice() {
            [] => "No breaker is open: ENS was not seen to throttle the account.".to_owned(),
            open => {
                let each = open.iter().map(|(family, until)| {
                    format!(
                        "ENS throttled {family} calls. The breaker is open; the next call, a probe, \
                         may go out at {}.",
                        self.at(*until)
                    )
                });
                each.collect::<Vec<_>>().join(" ")
            }
        };
        let open: Map<String, Value> = open
            .iter()
            .map(|(family, until)| ((*family).to_owned(), until.to_string().into()))
            .collect();
        statement(Subject::Budget, None, text, json!({ "openBreakers": open }))
    }

    fn is_current(&self) -> bool {
        self.known.snapshot.record.epoch == self.known.snapshot.partition.epoch
    }

    fn lock(&self) -> Statement {
        let grant = self.known.snapshot.record.lock.as_ref();
        let grant = grant.filter(|grant| self.is_current() && self.now < grant.expires_at);
        let Some(LockGrant { ticket, fencing_token, expires_at, provisional, .. }) = grant else {
            let text = "The lock is free. The next caller gets it at once.";
            return statement(Subject::Lock, None, text, json!({ "held": false }));
        };
        let ends = self.at(*expires_at);
        let text = match provisional {
            true => format!(
                "The lock was handed to the first caller in the queue, which has until {ends} to \
                 confirm it."
            ),
            false => format!(
                "A caller holds the lock: it describes the instance, reserves a slot and sends. The \
                 lease ends at {ends}, whatever happens to its replica."
            ),
        };
        let facts = json!({
            "held": true,
            "ticket": ticket.to_string(),
            "fencingToken": fencing_token.0,
            "leaseEnds": expires_at.to_string(),
            "confirmed": !provisional,
        });
        statement(Subject::Lock, None, text, facts)
    }

    fn queue(&self) -> Statement {
        let waiting = self.known.snapshot.queue_length();
        let text = match waiting {
            0 => "No caller waits for the lock.".to_owned(),
            1 => "One caller waits for the lock.".to_owned(),
            more => format!("{more} callers wait for the lock. They are served in this order."),
        };
        statement(Subject::Queue, None, text, json!({ "length": waiting }))
    }

    fn observation(&self) -> Statement {
        let observation = self.known.snapshot.record.observation.as_ref();
        let Some(observation) = observation.filter(|_| self.is_current()) else {
            let text =
                "The instance was not described in this epoch. The next attach describes it.";
            return statement(Subject::Observation, None, text, json!({ "known": false }));
        };
        let Observation { sent_at, occupied, .. } = observation;
        let enis: Vec<&str> = occupied.iter().map(InterfaceId::as_str).collect();
        let seen = match enis.as_slice() {
            [] => "no network interface that uses a slot".to_owned(),
            enis => format!("in use: {}", enis.join(", ")),
        };
        let is_usable = !observation.is_invalidated() && self.now < observation.expires_at();
        let use_of_it = if is_usable {
            "An attach that finds no free slot is refused by it, without a new describe."
        } else {
            "It is too old to decide by. The next attach describes the instance again."
        };
        let text = format!(
            "The instance was last described at {}. ENS showed {seen}. {use_of_it}",
            self.at(*sent_at)
        );
        let facts = json!({
            "known": true,
            "sentAt": sent_at.to_string(),
            "inUse": enis,
            "usable": is_usable,
        });
        statement(Subject::Observation, None, text, facts)
    }

    fn slots(&self, instance: &InstanceId) -> Statement {
        let Snapshot { record, partition, .. } = &self.known.snapshot;
        let context =
            Context { bounds: self.bounds, instance, partition, request: None, now: self.now };
        let Slots { limit, attached, in_flight, free } = Slots::of(record, context);
        let by = |kind: fn(&Attempt) -> bool| record.attempts.values().filter(|a| kind(a)).count();
        let ours = by(|attempt| attempt.is_from_gateway() && is_attached(attempt));
        let external = by(|attempt| !attempt.is_from_gateway() && is_attached(attempt));
        let mut text = format!(
            "{free} of {limit} slots are free by what is known. {attached} are in use in ENS \
             ({ours} attached by gateways, {external} by others), and {in_flight} are reserved for \
             attaches in flight."
        );
        if limit < self.bounds.limit {
            text += &format!(
                " ENS refused an attach below the configured limit of {}, so the lower one applies \
                 for a minute.",
                self.bounds.limit
            );
        }
        let facts = json!({
            "limit": limit,
            "configuredLimit": self.bounds.limit,
            "inUse": attached,
            "inFlight": in_flight,
            "free": free,
            "attachedByGateways": ours,
            "attachedByOthers": external,
        });
        statement(Subject::Slots, None, text, facts)
    }
}

fn is_attached(attempt: &Attempt) -> bool {
    matches!(attempt.state.kind(), State::Attached | State::Detaching)
}

/// A duration in its greatest unit and the one below.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests;
