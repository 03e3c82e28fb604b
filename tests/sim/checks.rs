//! Checks every commit, send and answer with knowledge that no gateway has.
//!
//! For L1, L5, A2 and the order of revisions it calls the running gateway's own functions. The
//! other checks need the whole world: recorded sends, slots at the time of an effect, and true
//! answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use eni_gateway::ens::{EniStatus, Row};
use eni_gateway::ledger::apply::Context;
use eni_gateway::ledger::bounds::LEASE_MARGIN;
use eni_gateway::ledger::invariants::{self, world};
use eni_gateway::ledger::record::Attempt;
use eni_gateway::ledger::{Bounds, Proposal, Record};
use eni_gateway::model::{
    InstanceId, InterfaceId, Reason, RequestId, SendEffect, State, Timestamp, Uid,
};
use eni_gateway::simulator::{Answer, World};
use tokio::sync::Notify;

use crate::callers::NOTHING_SENT;
use crate::cloud::ATTEMPT_TIMEOUT;
use crate::plan::Plan;
use crate::run::{self, Simulation};

/// How long an ENI that somebody else attached excuses an overfull instance: an attempt that had
/// its slot before may still be sent again and again.
const EXTERNAL_CAUSE: Duration = Duration::from_secs(150);

/// How long a gateway may show what the ledger has lost: while it is paused, and a little longer.
const SHOWN_LATE: Duration = Duration::from_secs(120);

/// How long a commit may have been under way when its observation ended.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
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

/// One send as it was written. Its times are those of the simulation's clock, which never steps.
#[derive(Debug)]
struct Send {
    uid: Uid,
    instance: InstanceId,
    eni: InterfaceId,
    /// As the record names it, by the ledger's clock.
    at: Timestamp,
    written_at: Timestamp,
    lease_ends: Option<Timestamp>,
    request: Option<RequestId>,
    sent_at: Option<Timestamp>,
    /// ENS refused it: nothing came of it.
    refused: bool,
    /// It took effect.
    applied: bool,
    /// When somebody else undid that.
    undone_at: Option<Duration>,
}

/// A call that was answered that nothing was sent, or that nothing was applied.
#[derive(Debug)]
struct ReportedOutcome {
    at: Duration,
    request: RequestId,
    reason: String,
    sent: SendEffect,
}

/// The server that stored a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Its clock.
    pub(crate) now: Timestamp,
    /// Another one is the primary: what this one stores is lost.
    pub(crate) lost: bool,
}

/// The true times of an observation.
#[derive(Debug, Clone, Copy)]
struct Observed {
    sent_at: Timestamp,
    recorded_at: Timestamp,
}

/// What the ledger knew of an attempt.
#[derive(Debug)]
struct Known {
    eni: InterfaceId,
    state: State,
    described_at: Option<Timestamp>,
}

#[derive(Default)]
struct Facts {
    sends: Vec<Send>,
    reported: Vec<ReportedOutcome>,
    /// Request ids that more than one call named.
    shared: BTreeSet<RequestId>,
    called: BTreeSet<RequestId>,
    /// Attempts whose slot was given up although nothing took its place.
    released: BTreeMap<Uid, Timestamp>,
    /// When the newest answered describe that spoke of an ENI was sent.
    described: BTreeMap<InterfaceId, Timestamp>,
    /// Every answered describe that spoke of an ENI: when it was sent, and where it showed the ENI
    /// in use.
    shown: BTreeMap<InterfaceId, Vec<(Timestamp, Option<InstanceId>)>>,
    /// The attempts that the ledger last showed to a gateway for a request.
    known: BTreeMap<RequestId, Vec<Known>>,
    /// When each gateway sent the last answered describe of an instance.
    described_by: BTreeMap<(String, InstanceId), Timestamp>,
    /// When each observation was sent and recorded.
    observed: BTreeMap<(InstanceId, Timestamp, Timestamp), Observed>,
    /// When the ledger lost writes.
    losses: Vec<Timestamp>,
    /// When somebody else attached an ENI, by instance and ENI.
    external: BTreeMap<(String, String), Timestamp>,
    /// The attempt whose send last took effect, by instance and ENI.
    applied: BTreeMap<(InstanceId, InterfaceId), Uid>,
    /// When the ledger last lost writes.
    lost_until: Timestamp,
    /// When the ledger's clock was last set forward.
    expired_at: Option<Timestamp>,
    violation: Option<Violation>,
}

/// The checks of one run.
pub(crate) struct Checks {
    bounds: Bounds,
    facts: Mutex<Facts>,
    broken: Notify,
}

impl Checks {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { bounds: plan.bounds.clone(), facts: Mutex::default(), broken: Notify::new() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    /// Runs until `work` ends or an invariant is broken; the violation.
    pub(crate) async fn first(&self, work: impl Future<Output = ()>) -> Option<Violation> {
        tokio::select! {
            biased;
            () = work => {}
            () = self.broken.notified() => {}
        }
        self.facts().violation.clone()
    }

    /// An invariant was broken. The first one counts.
    pub(crate) fn violation(&self, simulation: &Simulation, invariant: &str, what: String) {
        let at = simulation.history.elapsed();
        simulation.history.note(format_args!("BREACH {invariant}: {what}"));
        self.facts().violation.get_or_insert(Violation {
            at,
            invariant: invariant.to_owned(),
            what,
        });
        self.broken.notify_one();
    }

    /// A record was stored.
    pub(crate) fn committed(
        &self,
        simulation: &Simulation,
        gateway: &str,
        proposal: &Proposal,
        before: &Record,
        clock: Clock,
    ) {
        let (instance, after) = (&proposal.instance, &proposal.record);
        let now = simulation.now();
        simulation.history.note(format_args!("{gateway}: {instance} is {}", summary(after)));
        let context = Context {
            bounds: &self.bounds,
            instance,
            partition: &proposal.partition,
            request: None,
            now: proposal.now,
        };
        for violation in invariants::check(before, after, &context) {
            let excused = violation == invariants::Violation::Truth
                && self.appeared_externally(instance, before, after);
            if excused {
                continue;
            }
            self.violation(
                simulation,
                violation.id(),
                format!("{gateway} committed to {instance}: {violation:?}"),
            );
        }
        self.observed(gateway, instance, before, after, now);
        for (eni, attempt) in after.attempts.iter() {
            let then = before.attempts.get(eni).filter(|then| then.uid == attempt.uid);
            if then.is_none() {
                // One that was withdrawn may begin again.
                self.facts().released.remove(&attempt.uid);
            }
            let written = |at| then.is_some_and(|then| then.sends.iter().any(|send| send.at == at));
            for send in attempt.sends.iter().filter(|send| !written(send.at)) {
                self.resent(simulation, then, now);
                // What the ledger lost and gets back was written before.
                if send.at == proposal.now {
                    self.reserved(simulation, gateway, proposal, clock);
                }
                self.facts().sends.push(Send {
                    uid: attempt.uid,
                    instance: instance.clone(),
                    eni: eni.clone(),
                    at: send.at,
                    written_at: now,
                    lease_ends: after
                        .lock
                        .as_ref()
                        .map(|grant| now + grant.expires_at.since(clock.now)),
                    request: attempt.request.as_ref().map(|key| key.id),
                    sent_at: None,
                    refused: false,
                    applied: false,
                    undone_at: None,
                });
            }
        }
        for (eni, then) in before.attempts.iter().filter(|(_, then)| then.is_reserved()) {
            let now = after.attempts.get(eni).filter(|now| now.uid == then.uid);
            let given_up = match now.map(|now| now.state.kind()) {
                None | Some(State::Failed) => true,
                Some(_) => false,
            };
            if given_up {
                let applied = {
                    let mut facts = self.facts();
                    facts.released.insert(then.uid, proposal.now);
                    facts.applied.get(&(instance.clone(), eni.clone())) == Some(&then.uid)
                };
                // An early end leaves the slot to a lag of settling.
                let kept = after.recently_confirmed.contains_key(eni);
                if applied && !kept && self.is_there(simulation, instance, eni) {
                    let what = format!(
                        "{gateway} gives up the slot of {eni} on {instance}, and ens has it there"
                    );
                    self.violation(simulation, "L3", what);
                }
            }
        }
    }

    /// Whether somebody else attached every ENI that appeared here after its attempt failed. A
    /// gateway cannot tell this from the effect of one of its own copies.
    fn appeared_externally(&self, instance: &InstanceId, before: &Record, after: &Record) -> bool {
        let facts = self.facts();
        let failed = |then: &Attempt| then.is_from_gateway() && then.state.kind() == State::Failed;
        let appeared = |eni| after.attempts.get(eni).is_some_and(|now| !now.is_from_gateway());
        let mut enis = before.attempts.iter().filter(|(_, then)| failed(then)).map(|(eni, _)| eni);
        enis.all(|eni| {
            let pair = (instance.to_string(), eni.to_string());
            !appeared(eni) || facts.external.contains_key(&pair)
        })
    }

    /// Whether ENS has an ENI on an instance, for what the gateways sent.
    fn is_there(&self, simulation: &Simulation, instance: &InstanceId, eni: &InterfaceId) -> bool {
        let on = |world: &World| {
            world.placement(eni.as_str()).is_some_and(|at| at.occupies(instance.as_str()))
        };
        simulation.cloud.world(|world, _| on(world))
    }

    /// L6: a second send is written only after ENS was asked about the first.
    fn resent(&self, simulation: &Simulation, then: Option<&Attempt>, at: Timestamp) {
        let Some((then, last)) = then.and_then(|then| Some((then, then.last_send()?))) else {
            return;
        };
        let eni = &then.eni;
        let facts = self.facts();
        let asked = facts.described.get(eni).copied();
        let written = facts.sends.iter().find(|send| send.uid == then.uid && send.at == last.at);
        let Some(due) =
            written.map(|send| send.written_at + self.bounds.lag - simulation.plan.spare)
        else {
            return;
        };
        drop(facts);
        if then.has_unanswered_send() && asked.is_none_or(|asked| asked < due) {
            let what = format!(
                "{eni} is sent again at {at}, last asked for at {asked:?}, and not after {due}"
            );
            self.violation(simulation, "L6", what);
        }
    }

    /// Keeps when a new observation was really sent and recorded.
    fn observed(
        &self,
        gateway: &str,
        instance: &InstanceId,
        before: &Record,
        after: &Record,
        now: Timestamp,
    ) {
        let key = |record: &Record| {
            record.observation.as_ref().map(|seen| (seen.sent_at, seen.recorded_at))
        };
        let Some((sent_at, recorded_at)) = key(after).filter(|_| key(before) != key(after)) else {
            return;
        };
        let mut facts = self.facts();
        let Some(sent) = facts.described_by.get(&(gateway.to_owned(), instance.clone())).copied()
        else {
            return;
        };
        let times = Observed { sent_at: sent, recorded_at: now };
        facts.observed.insert((instance.clone(), sent_at, recorded_at), times);
    }

    /// L1, whatever the ledger's clock says: a send is written by an observation that is not too
    /// old, and was made after what the ledger lost must have shown.
    fn reserved(&self, simulation: &Simulation, gateway: &str, proposal: &Proposal, clock: Clock) {
        let (instance, now) = (&proposal.instance, simulation.now());
        let facts = self.facts();
        let observation = proposal.record.observation.as_ref();
        let Some((observation, times)) = observation.and_then(|seen| {
            let key = (instance.clone(), seen.sent_at, seen.recorded_at);
            Some((seen, *facts.observed.get(&key)?))
        }) else {
            return;
        };
        let spare = simulation.plan.spare.max(UNDER_WAY);
        let old = times.recorded_at + observation.valid_for + spare < now;
        let hold_down = self.bounds.recovery_hold_down();
        let hidden = |at: &&Timestamp| {
            !clock.lost && **at <= now && times.sent_at + spare < **at + hold_down
        };
        let lost = facts.losses.iter().find(hidden).copied();
        drop(facts);
        let why = match lost {
            Some(lost) => format!(
                "sent {}, before all that the ledger lost at {lost} must show",
                times.sent_at
            ),
            None if old => format!("recorded {}, and it is {now}", times.recorded_at),
            None => return,
        };
        self.violation(
            simulation,
            "L1",
            format!("{gateway} sends to {instance} by an observation that was {why}"),
        );
    }

    /// Whether a send of this request was written.
    pub(crate) fn has_written(&self, request: RequestId) -> bool {
        self.facts().sends.iter().any(|send| send.request == Some(request))
    }

    /// Whether a send of this request was written, and none went out.
    pub(crate) fn has_reserved_only(&self, request: RequestId) -> bool {
        let facts = self.facts();
        let mut sends = facts.sends.iter().filter(|send| send.request == Some(request)).peekable();
        sends.peek().is_some() && sends.all(|send| send.sent_at.is_none())
    }

    /// A gateway sends an attach, having checked whatever it checks.
    pub(crate) fn record_send(
        &self,
        simulation: &Simulation,
        gateway: &str,
        instance: &InstanceId,
        eni: &InterfaceId,
        date: Timestamp,
    ) -> OnItsWay {
        let now = simulation.now();
        simulation.history.note(format_args!("{gateway}: sends attach of {eni} to {instance}"));
        let mut facts = self.facts();
        let written = |send: &Send| {
            send.sent_at.is_none()
                && send.instance == *instance
                && send.eni == *eni
                && send.written_at >= date
        };
        let Some(index) = facts.sends.iter().rposition(written) else {
            drop(facts);
            self.violation(
                simulation,
                "L2",
                format!("{gateway} sends {eni} to {instance}, which no record holds"),
            );
            return OnItsWay { date, send: None };
        };
        let send = &mut facts.sends[index];
        send.sent_at = Some(now);
        let needed = now + ATTEMPT_TIMEOUT + LEASE_MARGIN;
        let lease_ends = send.lease_ends.unwrap_or_default();
        let request = send.request;
        drop(facts);
        if let Some(request) = request {
            simulation.progress.record_send(simulation, gateway, request);
        }
        // The gateway counts from before its call, and so is stricter by the time that took.
        if needed > lease_ends {
            let what = format!(
                "{gateway} sends {eni} to {instance}, and its lease ends {lease_ends}, \
                 before {needed}"
            );
            self.violation(simulation, "L4", what);
        }
        OnItsWay { date, send: Some(index) }
    }

    /// A send has come to ENS, and this came of it.
    pub(crate) fn arrived(
        &self,
        simulation: &Simulation,
        sent: OnItsWay,
        answer: &Answer,
        applied: bool,
    ) {
        let Some(index) = sent.send else { return };
        let mut facts = self.facts();
        let facts = &mut *facts;
        let send = &mut facts.sends[index];
        let refused = match answer {
            Answer::Reply(reply) => reply.outcome.is_err() && reply.code() != "ens.interface.error",
            _ => false,
        };
        send.refused = refused && !applied;
        send.applied |= applied;
        let (uid, eni, instance) = (send.uid, send.eni.clone(), send.instance.clone());
        simulation
            .history
            .note(format_args!("ens: attach of {eni} to {instance}: {}", outcome_of(answer)));
        if applied {
            facts.applied.insert((instance.clone(), eni.clone()), uid);
            facts.external.retain(|(_, external), _| external != eni.as_str());
        }
        if let (true, Some(released)) = (applied, facts.released.get(&uid).copied()) {
            let what = format!(
                "ens takes {eni} to {instance}, attempt {uid}, whose slot was given up at \
                 {released}"
            );
            let violation = (simulation, "L3", what);
            // The facts are locked.
            let at = simulation.history.elapsed();
            violation.0.history.note(format_args!("BREACH {}: {}", violation.1, violation.2));
            facts.violation.get_or_insert(Violation {
                at,
                invariant: violation.1.to_owned(),
                what: violation.2,
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
        simulation
            .history
            .note(format_args!("{gateway}: describe of {of} sent {asked}: [{}]", shown.join(", ")));
        let mut facts = self.facts();
        if let Some(instance) = instance {
            facts.described_by.insert((gateway.to_owned(), instance.clone()), asked);
        }
        for eni in ids.iter().chain(rows.iter().map(|row| &row.eni)) {
            let newest = facts.described.entry(eni.clone()).or_default();
            *newest = asked.max(*newest);
        }
        let named: BTreeSet<_> = ids.iter().chain(rows.iter().map(|row| &row.eni)).collect();
        for eni in named {
            let row = rows.iter().find(|row| row.eni == *eni && row.status == EniStatus::InUse);
            let on = row.and_then(|row| row.instance.clone());
            facts.shown.entry(eni.clone()).or_default().push((asked, on));
        }
    }

    /// The ledger showed a record to a gateway, for this request.
    pub(crate) fn record_answer(&self, request: RequestId, record: &Record) {
        let known = record.attempts.iter().map(|(eni, attempt)| Known {
            eni: eni.clone(),
            state: attempt.state.kind(),
            described_at: attempt.described_at,
        });
        self.facts().known.insert(request, known.collect());
    }

    /// A1: a call that sent nothing was answered OK for an ENI that was attached before. A describe
    /// that was sent after the call began must have shown the ENI in use there, and so must the
    /// newest one that the ledger knew of.
    pub(crate) fn affirmed(
        &self,
        simulation: &Simulation,
        request: RequestId,
        pair: (&str, &str),
        began: Duration,
    ) {
        let mut facts = self.facts();
        let (instance, eni) = pair;
        let known = facts.known.remove(&request).unwrap_or_default();
        let attached = |known: &&Known| known.eni.as_str() == eni && known.state == State::Attached;
        let Some(known) = known.iter().find(attached) else {
            return;
        };
        if facts.shared.contains(&request)
            || facts.sends.iter().any(|send| send.request == Some(request))
        {
            return;
        }
        let here = |on: &Option<InstanceId>| on.as_ref().is_some_and(|on| on.as_str() == instance);
        let since = simulation.now() - (simulation.history.elapsed() - began);
        let shown = facts.shown.get(&known.eni).map_or(&[][..], Vec::as_slice);
        let mut lately = shown.iter().filter(|(asked, _)| *asked + simulation.plan.spare >= since);
        // The ledger names a describe by its own clock, which agrees with this one unless it steps.
        let same = |asked: Timestamp| {
            known.described_at.is_some_and(|at| at.as_micros().abs_diff(asked.as_micros()) < 1_000)
        };
        let mut newest = shown.iter().filter(|(asked, _)| same(*asked)).peekable();
        let why = if newest.peek().is_some() && !newest.any(|(_, on)| here(on)) {
            "although ens, asked last, did not show it in use"
        } else if !lately.any(|(_, on)| here(on)) {
            "and no describe since has shown it in use"
        } else {
            return;
        };
        drop(facts);
        let what =
            format!("{eni} on {instance} was affirmed to a call that began at {began:?}, {why}");
        self.violation(simulation, "A1", what);
    }

    /// Somebody else attaches an ENI to an instance.
    pub(crate) fn external_attach(&self, simulation: &Simulation, instance: &str, eni: &str) {
        let mut facts = self.facts();
        let pair = (instance.to_owned(), eni.to_owned());
        facts.external.insert(pair, simulation.now());
        facts.applied.retain(|(_, applied), _| applied.as_str() != eni);
    }

    /// The ledger loses writes, now and for so long.
    pub(crate) fn record_loss(&self, simulation: &Simulation, during: Duration) {
        let until = simulation.now() + during;
        let mut facts = self.facts();
        facts.losses.push(simulation.now());
        facts.lost_until = until.max(facts.lost_until);
    }

    /// The ledger's clock is set forward: records that nothing keeps expire at once.
    pub(crate) fn record_expiry(&self, simulation: &Simulation) {
        self.facts().expired_at = Some(simulation.now());
    }

    /// Whether the revisions of a record that was shown may have begun again, lost or expired.
    pub(crate) fn began_again_lately(&self, simulation: &Simulation) -> bool {
        let expired_at = self.facts().expired_at;
        self.lost_lately(simulation)
            || expired_at.is_some_and(|at| simulation.now() < at + SHOWN_LATE)
    }

    /// Whether what somebody was shown may have been lost since.
    pub(crate) fn lost_lately(&self, simulation: &Simulation) -> bool {
        let lost_until = self.facts().lost_until;
        lost_until > Timestamp::default() && simulation.now() < lost_until + SHOWN_LATE
    }

    /// A call with this request id begins.
    pub(crate) fn called(&self, request: RequestId) {
        let mut facts = self.facts();
        if !facts.called.insert(request) {
            facts.shared.insert(request);
        }
    }

    /// A call was answered with this reason, which says what was sent.
    pub(crate) fn reported(&self, at: Duration, request: RequestId, reason: &str, by_ens: bool) {
        let nothing = NOTHING_SENT.contains(&reason) && !by_ens;
        let sent = match Reason::named(reason).map(Reason::send_effect) {
            _ if nothing => SendEffect::Nothing,
            Some(sent @ (SendEffect::Refused | SendEffect::NotApplied)) => sent,
            _ => return,
        };
        let reason = reason.to_owned();
        let outcome = ReportedOutcome { at, request, reason, sent };
        self.facts().reported.push(outcome);
    }

    /// Somebody else detaches an ENI.
    pub(crate) fn detached(&self, at: Duration, eni: &str) {
        for send in &mut self.facts().sends {
            if send.applied && send.eni.as_str() == eni {
                send.undone_at.get_or_insert(at);
            }
        }
    }

    /// D1, at the end: callers that received that nothing was sent received the truth.
    pub(crate) fn reported_effects(&self, simulation: &Simulation) {
        let facts = self.facts();
        let lied = facts
            .reported
            .iter()
            .filter(|outcome| !facts.shared.contains(&outcome.request))
            .find_map(|outcome| {
                // What ENS refused might as well not have been sent.
                let sent = |send: &&Send| {
                    send.request == Some(outcome.request) && send.sent_at.is_some() && !send.refused
                };
                let sends: Vec<_> = facts.sends.iter().filter(sent).collect();
                let undone = |send: &Send| send.undone_at.is_some_and(|at| at <= outcome.at);
                let applied = sends.iter().filter(|send| send.applied && !undone(send)).count();
                (!world::reported_truthfully(outcome.sent, sends.len() as u64, applied as u64))
                    .then(|| format!("a call received {}, but sent {sends:?}", outcome.reason))
            });
        drop(facts);
        if let Some(what) = lied {
            self.violation(simulation, "D1", what);
        }
    }

    /// How many ENIs stand on an instance that others attached: in all, and so lately that a
    /// reservation from before may still be sent.
    fn external_on(&self, simulation: &Simulation, instance: &str) -> (usize, usize) {
        let (mut facts, now) = (self.facts(), simulation.now());
        let there = |on: &str, eni: &str| {
            simulation
                .cloud
                .world(|world, _| world.placement(eni).is_some_and(|at| at.occupies(on)))
        };
        facts.external.retain(|(on, eni), _| there(on, eni));
        let here = facts.external.iter().filter(|((on, _), _)| on == instance);
        let lately = here.clone().filter(|(_, at)| **at + EXTERNAL_CAUSE >= now);
        (here.count(), lately.count())
    }

    /// L1, in ENS itself: no instance is ever overfull for what the gateways sent.
    pub(crate) async fn watch_occupancy(&self, simulation: &Simulation) {
        let mut before: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            for instance in (0..simulation.plan.instances).map(run::instance) {
                let occupied = simulation.cloud.world(|world, _| world.occupied(&instance));
                let (external, lately) = self.external_on(simulation, &instance);
                let ours = occupied - external;
                // What others do to a full instance is not the gateways' doing.
                let rose = ours > before.insert(instance.clone(), ours).unwrap_or_default();
                let counted = occupied - lately;
                if rose && !world::within_limit(counted, self.bounds.limit) {
                    let what = format!(
                        "{instance} holds {counted} enis, {ours} of them sent by gateways, and its \
                         limit is {}",
                        self.bounds.limit
                    );
                    return self.violation(simulation, "L1", what);
                }
            }
        }
    }
}

fn outcome_of(answer: &Answer) -> String {
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
                attempt.eni,
                attempt.state.kind(),
                if attempt.is_reserved() { " reserved" } else { "" },
                attempt.sends.len(),
                attempt.revision
            )
        })
        .collect();
    let occupied = record.observation.as_ref().map(|observation| observation.occupied.len());
    format!(
        "lock {} queue {} observed {:?} settled {:?} [{}]",
        record
            .lock
            .as_ref()
            .map_or_else(|| "free".to_owned(), |grant| grant.fencing_token.to_string()),
        record.queue.len(),
        occupied,
        record.recently_confirmed.keys().collect::<Vec<_>>(),
        attempts.join(", ")
    )
}
