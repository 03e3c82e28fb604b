//! Watches every commit, send and answer, and knows what no gateway does: what really came of it.
//!
//! L1, L5, A2 and the order of revisions are asked of every commit by the same functions that the running gateway asks. What is
//! judged here needs the whole world: whether a send was written before, whether its slot was still there when it came to
//! something, whether a caller was told the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use eni_gateway::ens::Row;
use eni_gateway::ledger::bounds::LEASE_MARGIN;
use eni_gateway::ledger::invariants::{self, world};
use eni_gateway::ledger::record::Attempt;
use eni_gateway::ledger::{Bounds, Proposal, Record};
use eni_gateway::model::{InstanceId, InterfaceId, RequestId, Sent, State, Timestamp, Uid};
use eni_gateway::simulator::Answer;
use tokio::sync::Notify;

use crate::cloud::ATTEMPT_TIMEOUT;
use crate::plan::Plan;
use crate::run::{self, Simulation};

/// How long before an overfull instance somebody else's attach may have been the cause: an attempt that had its slot before
/// may still be sent again and again.
const FOREIGN_CAUSE: Duration = Duration::from_secs(150);

/// How long a gateway may show what the ledger has lost: while it is paused, and a little longer.
const SHOWN_LATE: Duration = Duration::from_secs(120);

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) at: Duration,
    pub(crate) invariant: String,
    pub(crate) what: String,
}

/// One attach on its way to ENS.
pub(crate) struct OnItsWay {
    /// Its `x-acs-date`.
    pub(crate) date: Timestamp,
    send: Option<usize>,
}

/// One send as it was written.
#[derive(Debug)]
struct Send {
    uid: Uid,
    instance: InstanceId,
    eni: InterfaceId,
    at: Timestamp,
    lease_ends: Option<Timestamp>,
    request: Option<RequestId>,
    sent_at: Option<Timestamp>,
    /// ENS refused it: nothing came of it.
    refused: bool,
}

/// A call that was answered "nothing was sent".
#[derive(Debug)]
struct Told {
    request: RequestId,
    reason: String,
}

#[derive(Default)]
struct Books {
    sends: Vec<Send>,
    told: Vec<Told>,
    /// Request ids that more than one call named.
    shared: BTreeSet<RequestId>,
    called: BTreeSet<RequestId>,
    /// Attempts whose slot was given up although nothing took its place.
    released: BTreeMap<Uid, Timestamp>,
    /// When the newest answered describe that spoke of an ENI was sent.
    described: BTreeMap<InterfaceId, Timestamp>,
    foreign: BTreeMap<String, Timestamp>,
    /// When the ledger last lost writes.
    lost_until: Timestamp,
    breach: Option<Breach>,
}

/// The judge of one run.
pub(crate) struct Judge {
    bounds: Bounds,
    books: Mutex<Books>,
    broken: Notify,
}

impl Judge {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            bounds: plan.bounds.clone(),
            books: Mutex::default(),
            broken: Notify::new(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// Runs until `work` ends or an invariant is broken; the breach.
    pub(crate) async fn first(&self, work: impl Future<Output = ()>) -> Option<Breach> {
        tokio::select! {
            biased;
            () = work => {}
            () = self.broken.notified() => {}
        }
        self.books().breach.clone()
    }

    /// An invariant was broken. The first one counts.
    pub(crate) fn breach(&self, simulation: &Simulation, invariant: &str, what: String) {
        let at = simulation.history.elapsed();
        simulation.history.note(format_args!("BREACH {invariant}: {what}"));
        self.books().breach.get_or_insert(Breach {
            at,
            invariant: invariant.to_owned(),
            what,
        });
        self.broken.notify_one();
    }

    /// A record was stored.
    pub(crate) fn committed(&self, simulation: &Simulation, gateway: &str, proposal: &Proposal, before: &Record) {
        let (instance, after) = (&proposal.instance, &proposal.record);
        simulation
            .history
            .note(format_args!("{gateway}: {instance} is {}", summary(after)));
        for breach in invariants::check(before, after, &self.bounds) {
            self.breach(
                simulation,
                breach.id(),
                format!("{gateway} committed to {instance}: {breach:?}"),
            );
        }
        for (eni, attempt) in &after.attempts {
            let then = before.attempts.get(eni).filter(|then| then.uid() == attempt.uid());
            if then.is_none() {
                // One that was withdrawn may begin again.
                self.books().released.remove(&attempt.uid());
            }
            let written = |at| then.is_some_and(|then| then.sends.iter().any(|send| send.at == at));
            for send in attempt.sends.iter().filter(|send| !written(send.at)) {
                self.resent(simulation, then, send.at);
                self.books().sends.push(Send {
                    uid: attempt.uid(),
                    instance: instance.clone(),
                    eni: eni.clone(),
                    at: send.at,
                    lease_ends: after.lock.map(|grant| grant.expires_at),
                    request: attempt.request.as_ref().map(|key| key.id),
                    sent_at: None,
                    refused: false,
                });
            }
        }
        for (eni, then) in before.attempts.iter().filter(|(_, then)| then.reserved) {
            let now = after.attempts.get(eni).filter(|now| now.uid() == then.uid());
            let given_up = match now.map(|now| now.attachment.state) {
                None | Some(State::Failed) => true,
                Some(_) => false,
            };
            if given_up {
                self.books().released.insert(then.uid(), proposal.now);
            }
        }
    }

    /// L6: a second send is written only after ENS was asked about the first.
    fn resent(&self, simulation: &Simulation, then: Option<&Attempt>, at: Timestamp) {
        let Some((then, last)) = then.and_then(|then| Some((then, then.last_send()?))) else {
            return;
        };
        let eni = &then.attachment.eni;
        let asked = self.books().described.get(eni).copied();
        let due = last.at + self.bounds.lag;
        if then.has_unanswered_send() && asked.is_none_or(|asked| asked < due) {
            let what = format!("{eni} is sent again at {at}, last asked for at {asked:?}, and not after {due}");
            self.breach(simulation, "L6", what);
        }
    }

    /// A gateway sends an attach, having checked whatever it checks.
    pub(crate) fn sends(
        &self,
        simulation: &Simulation,
        gateway: &str,
        instance: &InstanceId,
        eni: &InterfaceId,
        date: Timestamp,
    ) -> OnItsWay {
        let now = simulation.now();
        simulation
            .history
            .note(format_args!("{gateway}: sends attach of {eni} to {instance}"));
        let mut books = self.books();
        let written =
            |send: &Send| send.sent_at.is_none() && send.instance == *instance && send.eni == *eni && send.at >= date;
        let Some(index) = books.sends.iter().rposition(written) else {
            drop(books);
            self.breach(
                simulation,
                "L2",
                format!("{gateway} sends {eni} to {instance}, which no record holds"),
            );
            return OnItsWay { date, send: None };
        };
        let send = &mut books.sends[index];
        send.sent_at = Some(now);
        let needed = now + ATTEMPT_TIMEOUT + LEASE_MARGIN;
        let lease_ends = send.lease_ends.unwrap_or_default();
        let request = send.request;
        drop(books);
        if let Some(request) = request {
            simulation.progress.sends(simulation, gateway, request);
        }
        // The gateway counts from before its call, and so is stricter by the time that took.
        if needed > lease_ends {
            let what = format!("{gateway} sends {eni} to {instance}, and its lease ends {lease_ends}, before {needed}");
            self.breach(simulation, "L4", what);
        }
        OnItsWay {
            date,
            send: Some(index),
        }
    }

    /// A send has come to ENS, and this came of it.
    pub(crate) fn arrived(&self, simulation: &Simulation, sent: OnItsWay, answer: &Answer) {
        let Some(index) = sent.send else { return };
        let mut books = self.books();
        let books = &mut *books;
        let send = &mut books.sends[index];
        let applied = matches!(answer, Answer::Reply(reply) if reply.outcome.is_ok());
        send.refused =
            matches!(answer, Answer::Reply(reply) if reply.outcome.is_err() && reply.code() != "ens.interface.error");
        let (uid, eni, instance) = (send.uid, send.eni.clone(), send.instance.clone());
        simulation
            .history
            .note(format_args!("ens: attach of {eni} to {instance}: {}", said(answer)));
        if let (true, Some(released)) = (applied, books.released.get(&uid).copied()) {
            let what = format!("ens takes {eni} to {instance}, attempt {uid}, whose slot was given up at {released}");
            let breach = (simulation, "L3", what);
            // The books are locked.
            let at = simulation.history.elapsed();
            breach.0.history.note(format_args!("BREACH {}: {}", breach.1, breach.2));
            books.breach.get_or_insert(Breach {
                at,
                invariant: breach.1.to_owned(),
                what: breach.2,
            });
            self.broken.notify_one();
        }
    }

    /// A describe that was sent at `asked` was answered.
    pub(crate) fn described(
        &self,
        simulation: &Simulation,
        gateway: &str,
        asked: Timestamp,
        instance: Option<&InstanceId>,
        ids: &[InterfaceId],
        rows: &[Row],
    ) {
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                format!(
                    "{} {} {}",
                    row.eni,
                    row.status_text,
                    row.instance.as_ref().map_or("-", |on| on.as_str())
                )
            })
            .collect();
        let of = instance.map_or_else(|| format!("{ids:?}"), ToString::to_string);
        simulation.history.note(format_args!(
            "{gateway}: describe of {of} sent {asked}: [{}]",
            shown.join(", ")
        ));
        let mut books = self.books();
        for eni in ids.iter().chain(rows.iter().map(|row| &row.eni)) {
            let newest = books.described.entry(eni.clone()).or_default();
            *newest = asked.max(*newest);
        }
    }

    /// Somebody else attaches to an instance.
    pub(crate) fn foreign_attach(&self, simulation: &Simulation, instance: &str) {
        self.books().foreign.insert(instance.to_owned(), simulation.now());
    }

    /// The ledger loses writes, now and for so long.
    pub(crate) fn loses(&self, simulation: &Simulation, during: Duration) {
        let until = simulation.now() + during;
        let mut books = self.books();
        books.lost_until = until.max(books.lost_until);
    }

    /// Whether what somebody was shown may have been lost since.
    pub(crate) fn lost_lately(&self, simulation: &Simulation) -> bool {
        let lost_until = self.books().lost_until;
        lost_until > Timestamp::default() && simulation.now() < lost_until + SHOWN_LATE
    }

    /// A call with this request id begins.
    pub(crate) fn called(&self, request: RequestId) {
        let mut books = self.books();
        if !books.called.insert(request) {
            books.shared.insert(request);
        }
    }

    /// A call was answered that nothing was sent, for this reason.
    pub(crate) fn told_nothing_sent(&self, request: RequestId, reason: String) {
        self.books().told.push(Told { request, reason });
    }

    /// D1, at the end: who was told that nothing was sent was told the truth.
    pub(crate) fn judge_told(&self, simulation: &Simulation) {
        let books = self.books();
        let lied = books
            .told
            .iter()
            .filter(|told| !books.shared.contains(&told.request))
            .find_map(|told| {
                // What ENS refused might as well not have been sent.
                let sent = |send: &&Send| send.request == Some(told.request) && send.sent_at.is_some() && !send.refused;
                let sends: Vec<_> = books.sends.iter().filter(sent).collect();
                (!world::told_truth(Sent::Nothing, sends.len() as u64, 0))
                    .then(|| format!("a call was told {}, but sent {sends:?}", told.reason))
            });
        drop(books);
        if let Some(what) = lied {
            self.breach(simulation, "D1", what);
        }
    }

    /// L1, in ENS itself: no instance is ever overfull for what the gateways sent.
    pub(crate) async fn watch_occupancy(&self, simulation: &Simulation) {
        let mut before: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            for instance in (0..simulation.plan.instances).map(run::instance) {
                let occupied = simulation.cloud.world(|world, _| world.occupied(&instance));
                let rose = occupied > before.insert(instance.clone(), occupied).unwrap_or_default();
                let foreign = self.books().foreign.get(&instance).copied();
                let excused = foreign.is_some_and(|at| at + FOREIGN_CAUSE >= simulation.now());
                if rose && !world::within_limit(occupied, self.bounds.limit) && !excused {
                    let what = format!(
                        "{instance} holds {occupied} enis, and its limit is {}",
                        self.bounds.limit
                    );
                    return self.breach(simulation, "L1", what);
                }
            }
        }
    }
}

fn said(answer: &Answer) -> String {
    match answer {
        Answer::Reply(reply) => reply.code().to_owned(),
        other => format!("{other:?}").chars().take(20).collect(),
    }
}

/// A record on one line.
fn summary(record: &Record) -> String {
    let attempts: Vec<_> = record
        .attempts
        .values()
        .map(|attempt| {
            format!(
                "{} {:?}{} sends {} rev {}",
                attempt.attachment.eni,
                attempt.attachment.state,
                if attempt.reserved { " reserved" } else { "" },
                attempt.sends.len(),
                attempt.attachment.revision
            )
        })
        .collect();
    let occupied = record
        .observation
        .as_ref()
        .map(|observation| observation.occupied.len());
    format!(
        "lock {} queue {} observed {:?} settled {:?} [{}]",
        record
            .lock
            .map_or_else(|| "free".to_owned(), |grant| grant.fence.to_string()),
        record.queue.len(),
        occupied,
        record.settled.keys().collect::<Vec<_>>(),
        attempts.join(", ")
    )
}
