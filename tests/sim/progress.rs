//! Checks of progress, in virtual time: callers' waits (P1), use of locks and permits (P2), number
//! of calls (P3). P4: a caller's reason names what it waited for. The limits are in [`limits`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eni_gateway::ledger::{Bounds, Proposal, Record, RequestKey};
use eni_gateway::model::{FencingToken, InstanceId, InterfaceId, RequestId, State, Timestamp};
use eni_gateway::rate_limit::{Permit, RateClass, RateLimitRequest};
use tokio::time::sleep;

use crate::limits;
use crate::run::{Simulation, instance};

/// Interval between two checks of locks and callers.
const INTERVAL: Duration = Duration::from_millis(100);

/// Progress of one run.
#[derive(Default)]
pub(crate) struct Progress(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    outages: Vec<(Duration, Duration)>,
    waiting: BTreeMap<RequestId, Waiting>,
    ledger_calls: BTreeMap<(String, Subject), Second>,
    sends: BTreeMap<RequestId, (Duration, u32)>,
    locks: BTreeMap<InstanceId, Holder>,
    /// Since when a lock is free although a live place waits for it.
    free: BTreeMap<InstanceId, Duration>,
    /// ENS calls on their way, by replica and instance; by ENI id those of callers only.
    ens_calls: BTreeMap<(String, Option<InstanceId>), usize>,
    /// Recovery hold-downs of the callers' instances, as they were last seen.
    holds: BTreeMap<InstanceId, (Duration, Duration)>,
    /// Since when a replica has a breaker's probe.
    probes: BTreeMap<(String, &'static str), Duration>,
}

/// A call that is not answered yet.
struct Waiting {
    who: String,
    replica: String,
    began: Duration,
    limit: Duration,
    /// What a caller attaches.
    attachment: Option<(InstanceId, InterfaceId)>,
}

impl Waiting {
    /// Whether the ENI is attached is not decided yet: ENS contradicts the ledger, or refused for
    /// the ENI's status, and a lag is not over.
    fn outlasts_doubt(&self, simulation: &Simulation) -> bool {
        self.attachment.as_ref().is_some_and(|(instance, eni)| {
            let record = simulation.primary().peek(instance);
            let attempt = record.attempts.get(eni);
            attempt.is_some_and(|attempt| {
                let refused = !attempt.state.kind().is_terminal() && attempt.has_status_conflict();
                attempt.state.is_unconfirmed() || refused
            })
        })
    }
}

/// An attach that was answered.
pub(crate) struct Call {
    pub(crate) who: String,
    pub(crate) replica: String,
    pub(crate) request: RequestId,
    pub(crate) instance: InstanceId,
    pub(crate) eni: InterfaceId,
    pub(crate) began: Duration,
}

impl Call {
    /// Whether it wrote a send, may have joined an attempt, or found one that ENS contradicts or
    /// must affirm.
    fn may_be_sent(&self, simulation: &Simulation) -> bool {
        let record = simulation.primary().peek(&self.instance);
        let since = simulation.now() - (simulation.history.elapsed() - self.began);
        let joined = record.attempts.get(&self.eni).is_some_and(|attempt| {
            let state = attempt.state.kind();
            !state.is_terminal() || attempt.updated_at >= since || state == State::Attached
        });
        joined || simulation.checks.has_written(self.request)
    }
}

/// What ledger calls are counted by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Subject {
    Request(RequestId),
    Instance(InstanceId),
}

/// Calls in one second.
#[derive(Default)]
struct Second {
    number: u64,
    calls: u32,
}

/// The replica that holds a lock, and when it last did something with it.
struct Holder {
    fencing_token: FencingToken,
    replica: String,
    used: Duration,
}

fn family(class: RateClass) -> &'static str {
    match class {
        RateClass::Attach => "attach",
        _ => "describe",
    }
}

impl Facts {
    /// How much of this time lies outside all outages.
    fn outside(&self, from: Duration, until: Duration) -> Duration {
        let mut outages = self.outages.clone();
        outages.sort_unstable();
        let (mut outside, mut at) = (Duration::ZERO, from);
        for (begins, ends) in outages {
            if begins >= until {
                break;
            }
            outside += begins.saturating_sub(at);
            at = at.max(ends);
        }
        outside + until.saturating_sub(at)
    }

    fn record_use(&mut self, replica: &str, instance: Option<&InstanceId>, now: Duration) {
        let locks = self.locks.iter_mut();
        for (_, holder) in locks
            .filter(|(of, holder)| holder.replica == replica && instance.is_none_or(|it| it == *of))
        {
            holder.used = now;
        }
    }
}

impl Progress {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap()
    }

    /// An outage begins. Which one, for its end.
    pub(crate) fn outage(&self, now: Duration) -> usize {
        let mut facts = self.facts();
        facts.outages.push((now, Duration::MAX));
        facts.outages.len() - 1
    }

    /// An outage ends then.
    pub(crate) fn outage_ends(&self, outage: usize, at: Duration) {
        self.facts().outages[outage].1 = at;
    }

    /// A caller waits for its attach, which must be answered within this time.
    pub(crate) fn add_caller(&self, call: &Call, limit: Duration) {
        let waiting = Waiting {
            who: call.who.clone(),
            replica: call.replica.clone(),
            began: call.began,
            limit,
            attachment: Some((call.instance.clone(), call.eni.clone())),
        };
        self.facts().waiting.insert(call.request, waiting);
    }

    /// A reader waits for an answer.
    pub(crate) fn add_reader(&self, request: RequestId, who: String, replica: &str, now: Duration) {
        let waiting = Waiting {
            who,
            replica: replica.to_owned(),
            began: now,
            limit: limits::READ,
            attachment: None,
        };
        self.facts().waiting.insert(request, waiting);
    }

    /// It is answered, or leaves. How long it waited, outages not counted.
    pub(crate) fn answered(&self, request: RequestId, now: Duration) -> Duration {
        let mut facts = self.facts();
        let began = facts.waiting.remove(&request).map_or(now, |waiting| waiting.began);
        facts.outside(began, now)
    }

    /// An instance's partition is closed for so long.
    pub(crate) fn record_hold_down(
        &self,
        instance: &InstanceId,
        now: Duration,
        left: Duration,
        bounds: &Bounds,
    ) {
        let mut facts = self.facts();
        let until = now + left;
        let known =
            facts.holds.get(instance).is_some_and(|(_, known)| known.abs_diff(until) < INTERVAL);
        if !known {
            facts.holds.insert(instance.clone(), (now, until));
            facts.outages.push((now, until + bounds.lease));
        }
    }

    /// P4: the reason that a caller was given, beside what happened to its request meanwhile.
    pub(crate) fn reason(&self, simulation: &Simulation, call: &Call, reason: &str) {
        let (facts, now) = (self.facts(), simulation.history.elapsed());
        let Call { began, instance, eni, .. } = call;
        let closed =
            facts.holds.get(instance).is_some_and(|(from, until)| *from <= *began && now <= *until);
        let long = now - *began >= limits::LONG_ENOUGH;
        let calm = facts.outside(*began, now) == now - *began;
        drop(facts);
        // It waited for nothing but the ledger, and longer than the product waits out an outage.
        let cut = cut_for(simulation, &call.replica)
            .is_some_and(|cut| cut.min(now - *began) > limits::LEDGER_PATIENCE);
        let broken = match reason {
            "LOCK_WAIT" if closed && long => Some("while the ledger recovered"),
            "LOCK_WAIT" if cut => Some("while its replica did not reach the ledger"),
            "OUTCOME_UNKNOWN" if calm && !call.may_be_sent(simulation) => {
                Some("and nothing was reserved")
            }
            _ => None,
        };
        if let Some(broken) = broken {
            let what = format!("{} received {reason} of {eni} on {instance} {broken}", call.who);
            simulation.checks.violation(simulation, "P4", what);
        }
    }

    /// A replica calls the ledger.
    pub(crate) fn calls_ledger(
        &self,
        simulation: &Simulation,
        replica: &str,
        instance: &InstanceId,
        request: Option<&RequestKey>,
    ) {
        let (subject, limit) = match request {
            Some(key) => (Subject::Request(key.id), limits::LEDGER_CALLS_PER_REQUEST),
            None => {
                let limit = limits::ledger_calls_per_instance(&simulation.plan);
                (Subject::Instance(instance.clone()), limit)
            }
        };
        let number = simulation.history.elapsed().as_secs();
        let mut facts = self.facts();
        let second = facts.ledger_calls.entry((replica.to_owned(), subject.clone())).or_default();
        if second.number != number {
            *second = Second { number, calls: 0 };
        }
        second.calls += 1;
        let too_many = second.calls == limit + 1;
        drop(facts);
        if too_many {
            let what = format!(
                "{replica} made more than {limit} ledger calls in one second for {subject:?}"
            );
            simulation.checks.violation(simulation, "P3", what);
        }
    }

    /// A replica sends an attach of this request.
    pub(crate) fn record_send(&self, simulation: &Simulation, replica: &str, request: RequestId) {
        let now = simulation.history.elapsed();
        let mut facts = self.facts();
        let (first, sends) = facts.sends.entry(request).or_insert((now, 0));
        *sends += 1;
        let (sends, elapsed) = (*sends, now - *first);
        drop(facts);
        if sends > limits::sends(elapsed) {
            let what = format!(
                "{replica} sends request {} for the {sends}th time within {elapsed:?}",
                request.0
            );
            simulation.checks.violation(simulation, "P3", what);
        }
    }

    /// A replica committed: who holds the lock now, and whether it did something with it.
    pub(crate) fn committed(
        &self,
        replica: &str,
        proposal: &Proposal,
        before: &Record,
        now: Duration,
    ) {
        let (instance, after) = (&proposal.instance, &proposal.record);
        let mut facts = self.facts();
        let Some(grant) = after.lock.as_ref().filter(|grant| !grant.provisional) else {
            facts.locks.remove(instance);
            return;
        };
        let known = facts
            .locks
            .get(instance)
            .is_some_and(|holder| holder.fencing_token == grant.fencing_token);
        if !known {
            let (fencing_token, replica) = (grant.fencing_token, replica.to_owned());
            facts.locks.insert(instance.clone(), Holder { fencing_token, replica, used: now });
        }
        // A send is written, or its answer.
        let sends = |record: &Record| {
            let all = record.attempts.values().flat_map(|attempt| &attempt.sends);
            all.map(|send| (send.at, send.answered_at)).collect::<Vec<_>>()
        };
        if sends(before) != sends(after) {
            facts.record_use(replica, Some(instance), now);
        }
    }

    /// An ENS call of this replica begins; of this instance, or by ENI ids. Whether it is one that
    /// a holder of a lock may make.
    pub(crate) fn ens_call(
        &self,
        replica: &str,
        permit: &Permit,
        instance: Option<&InstanceId>,
        now: Duration,
    ) -> bool {
        let mut facts = self.facts();
        let attach = permit.class() == RateClass::Attach;
        if permit.is_probe() {
            let family = if attach { "attach" } else { "describe" };
            facts.probes.remove(&(replica.to_owned(), family));
        }
        let counts = attach || permit.class() == RateClass::Describe;
        if counts {
            *facts.ens_calls.entry((replica.to_owned(), instance.cloned())).or_default() += 1;
            facts.record_use(replica, instance, now);
        }
        counts
    }

    /// It ended.
    pub(crate) fn ens_call_ended(
        &self,
        replica: &str,
        instance: Option<&InstanceId>,
        now: Duration,
    ) {
        let mut facts = self.facts();
        if let Some(calls) = facts.ens_calls.get_mut(&(replica.to_owned(), instance.cloned())) {
            *calls -= 1;
        }
        facts.record_use(replica, instance, now);
    }

    /// A replica was granted a probe.
    pub(crate) fn probe(&self, replica: &str, class: RateClass, now: Duration) {
        self.facts().probes.insert((replica.to_owned(), family(class)), now);
    }

    /// What a replica asks of the counter.
    pub(crate) fn ordered(&self, replica: &str, order: RateLimitRequest, now: Duration) {
        let mut facts = self.facts();
        match order {
            RateLimitRequest::GiveBack { class, .. } => {
                facts.probes.remove(&(replica.to_owned(), family(class)));
            }
            RateLimitRequest::Trip(_, pause) => {
                facts.outages.push((now, now + limits::breaker(pause)))
            }
            RateLimitRequest::Take(..) | RateLimitRequest::Close(_) => {}
        }
    }

    /// Checks locks, probes and callers until the run is over.
    pub(crate) async fn watch(&self, simulation: &Arc<Simulation>) {
        let instances: Vec<InstanceId> = (0..simulation.plan.instances)
            .map(|number| instance(number).parse().unwrap())
            .collect();
        while !simulation.is_over() {
            sleep(INTERVAL).await;
            let broken = self.late(simulation).or_else(|| self.idle(simulation, &instances));
            if let Some((invariant, what)) = broken {
                return simulation.checks.violation(simulation, invariant, what);
            }
        }
    }

    /// P1: a caller that waits for too long.
    fn late(&self, simulation: &Simulation) -> Option<(&'static str, String)> {
        let (mut facts, now) = (self.facts(), simulation.history.elapsed());
        for waiting in facts.waiting.values_mut() {
            if waiting.outlasts_doubt(simulation) {
                waiting.limit += INTERVAL;
            }
        }
        for (request, Waiting { who, replica, began, limit, .. }) in &facts.waiting {
            if facts.outside(*began, now) > *limit {
                return Some((
                    "P1",
                    format!("{who} has waited since {began:?}, longer than {limit:?}"),
                ));
            }
            let sent = facts.sends.contains_key(request);
            let cut = cut_for(simulation, replica).map(|cut| cut.min(now - *began));
            if cut.is_some_and(|cut| cut > limits::ledger_down(sent)) {
                let what = format!(
                    "{who} still waits, and its replica has not reached the ledger for {cut:?}"
                );
                return Some(("P1", what));
            }
        }
        None
    }

    /// P2: a lock, or a breaker's probe, that is not used.
    fn idle(
        &self,
        simulation: &Simulation,
        instances: &[InstanceId],
    ) -> Option<(&'static str, String)> {
        let (mut facts, now) = (self.facts(), simulation.history.elapsed());
        if facts.outside(now, now + INTERVAL) < INTERVAL {
            // Who cannot use it need not.
            facts.free.clear();
            facts.locks.values_mut().for_each(|holder| holder.used = now);
            facts.probes.values_mut().for_each(|since| *since = now);
            return None;
        }
        let names: Vec<String> = simulation.nodes().iter().map(|node| node.name.clone()).collect();
        facts.probes.retain(|(replica, _), _| names.contains(replica));
        let kept = facts.probes.iter().find(|(_, since)| now - **since > limits::PROBE);
        if let Some(((replica, family), since)) = kept {
            return Some((
                "P2",
                format!("{replica} keeps the {family} breaker's probe since {since:?}"),
            ));
        }
        let server = simulation.primary();
        for instance in instances {
            let (record, clock) = (server.peek(instance), server.now());
            if is_free(&record, clock) {
                let since = *facts.free.entry(instance.clone()).or_insert(now);
                if now - since > limits::free_lock(&simulation.plan) {
                    return Some((
                        "P2",
                        format!(
                            "the lock of {instance} is free since {since:?}, and its queue waits"
                        ),
                    ));
                }
            } else {
                facts.free.remove(instance);
            }
            let Some(grant) =
                record.lock.as_ref().filter(|grant| grant.expires_at > clock && !grant.provisional)
            else {
                continue;
            };
            let holder = facts
                .locks
                .get(instance)
                .filter(|holder| holder.fencing_token == grant.fencing_token);
            let Some(Holder { replica, used, .. }) = holder else {
                continue;
            };
            let calls = |of: Option<&InstanceId>| {
                facts.ens_calls.get(&(replica.clone(), of.cloned())).copied()
            };
            let calling =
                [calls(Some(instance)), calls(None)].into_iter().flatten().sum::<usize>() > 0;
            if !calling && now - *used > limits::idle_lock(&simulation.plan) {
                return Some((
                    "P2",
                    format!(
                        "{replica} holds the lock of {instance}, and has not used it since {used:?}"
                    ),
                ));
            }
        }
        None
    }
}

/// How long a replica that runs has not reached the ledger by now.
fn cut_for(simulation: &Simulation, replica: &str) -> Option<Duration> {
    let nodes = simulation.nodes();
    let node = nodes.iter().find(|node| node.name == replica)?;
    Some(node.link.cut_for()?.min(node.process.running_for()?))
}

/// Whether the lock is free although its queue has a live ticket.
fn is_free(record: &Record, clock: Timestamp) -> bool {
    let held = record.lock.as_ref().is_some_and(|grant| grant.expires_at > clock);
    !held && record.queue.iter().any(|waiter| waiter.expires_at > clock)
}
