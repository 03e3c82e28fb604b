//! A server with records, like Redis: the memory ledger with an epoch for each partition. Its
//! replication id changes at a restart or a failover.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::ledger::keys::PartitionId;
use eni_gateway::ledger::{
    BootInstant, Bounds, ChangedInstances, Due, Effects, LedgerStore as _, MAX_CLOCK_DIFFERENCE,
    Memory, Partition, Proposal, Record, RequestKey, Snapshot, Verdict,
};
use eni_gateway::model::{InstanceId, Position, Timestamp, random};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore as _, Rates};
use futures_util::FutureExt as _;

use crate::mutation::Mutation;
use crate::plan::Plan;

/// How long a renewal without a hold-down closes a partition: only the epoch's text must be another
/// one.
const NO_HOLD_DOWN: Duration = Duration::from_micros(1);

/// One server. It answers at once; what is slow about it is the network.
pub(crate) struct Server {
    bounds: Bounds,
    hold_down: Duration,
    /// Whatever version a commit was computed from will do.
    blind: bool,
    rates: Rates,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    memory: Memory,
    replication_id: String,
    epochs: BTreeMap<usize, Epoch>,
    steps: Steps,
}

/// The steps of a server's clock so far.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) count: usize,
    /// When the last one happened.
    pub(super) last: BootInstant,
}

/// Under which server a partition was opened, and until when it grants nothing.
#[derive(Clone, PartialEq)]
struct Epoch {
    replication_id: String,
    hold_down_until: Timestamp,
}

impl Epoch {
    fn partition(&self) -> Partition {
        Partition {
            epoch: format!("{} {}", self.replication_id, self.hold_down_until.as_micros()).into(),
            hold_down_until: self.hold_down_until,
            shared: None,
            freeze: None,
        }
    }
}

/// What a replica held when its primary stopped replicating.
pub(crate) struct Replica(State);

/// What a commit came to.
pub(crate) struct Commit {
    pub(crate) verdict: Verdict,
    /// The record before it, if it was stored.
    pub(crate) before: Option<Arc<Record>>,
}

fn replication_id() -> String {
    random::uuid().simple().to_string()
}

impl Server {
    /// A new one, which is known to be new.
    pub(crate) fn fresh(plan: &Plan, start: Timestamp) -> Self {
        let rates = Rates::new(plan.attach_per_second, plan.describe_per_second).unwrap();
        let replication_id = replication_id();
        let open =
            Epoch { replication_id: replication_id.clone(), hold_down_until: Timestamp::default() };
        Self {
            bounds: plan.bounds.clone(),
            hold_down: Mutation::hold_down(plan),
            blind: Mutation::compares_nothing(plan),
            rates,
            state: Mutex::new(State {
                memory: Memory::beginning_at(rates, start),
                replication_id,
                epochs: PartitionId::all().map(|id| (id.index(), open.clone())).collect(),
                steps: Steps { count: 0, last: BootInstant::now() },
            }),
        }
    }

    /// What a replica has that receives no more writes from now on.
    pub(crate) fn fork(&self) -> Replica {
        let state = self.state.lock().unwrap();
        Replica(State { memory: state.memory.fork(), ..state.clone() })
    }

    /// That replica as the new primary.
    pub(crate) fn promote(&self, replica: Replica) -> Self {
        Self {
            bounds: self.bounds.clone(),
            hold_down: self.hold_down,
            blind: self.blind,
            rates: self.rates,
            state: Mutex::new(State { replication_id: replication_id(), ..replica.0 }),
        }
    }

    /// It restarts, and has everything still.
    pub(crate) fn restart(&self) {
        self.state.lock().unwrap().replication_id = replication_id();
    }

    /// It loses everything.
    pub(crate) fn wipe(&self) {
        let mut state = self.state.lock().unwrap();
        state.memory = Memory::beginning_at(self.rates, state.memory.clock());
        state.epochs.clear();
    }

    /// Its clock is set forward, or back if negative, and the gateways do what they do when they
    /// see that: epochs are renewed, with a hold-down where one was not over, and the queues are
    /// put right.
    pub(crate) fn step_clock(&self, micros: i64) {
        let mut state = self.state.lock().unwrap();
        let before = state.memory.clock();
        state.memory.step_clock(micros);
        state.steps = Steps { count: state.steps.count + 1, last: BootInstant::now() };
        if Duration::from_micros(micros.unsigned_abs()) <= MAX_CLOCK_DIFFERENCE {
            return;
        }
        let now = state.memory.clock();
        let State { replication_id, epochs, .. } = &mut *state;
        for epoch in epochs.values_mut().filter(|epoch| epoch.replication_id == *replication_id) {
            let hold_down =
                if epoch.hold_down_until > before { self.hold_down } else { NO_HOLD_DOWN };
            epoch.hold_down_until = now + hold_down;
        }
        let due_horizon = self.bounds.due_horizon().max(self.bounds.recovery_hold_down());
        state.memory.repair_queues(due_horizon, self.bounds.reconcile_horizon());
    }

    pub(super) fn steps(&self) -> Steps {
        self.state.lock().unwrap().steps
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.lock().unwrap().memory.clock()
    }

    pub(crate) fn read(&self, instance: &InstanceId, request: Option<&RequestKey>) -> Snapshot {
        let mut state = self.state.lock().unwrap();
        let partition = state.settle(PartitionId::of(instance), self.hold_down);
        Snapshot { partition, ..state.read(instance, request) }
    }

    /// The record, read without opening its partition.
    pub(crate) fn peek(&self, instance: &InstanceId) -> Arc<Record> {
        self.state.lock().unwrap().read(instance, None).record
    }

    pub(crate) fn commit(&self, proposal: &Proposal) -> Commit {
        let mut state = self.state.lock().unwrap();
        let instance = &proposal.instance;
        let partition = state.settle(PartitionId::of(instance), self.hold_down);
        if proposal.partition.epoch != partition.epoch {
            let found = Snapshot { partition, ..state.read(instance, proposal.request.as_ref()) };
            return Commit { verdict: Verdict::Conflict(Box::new(found)), before: None };
        }
        let before = state.read(instance, None).record;
        let version =
            if self.blind { state.read(instance, None).version } else { proposal.version };
        let stored =
            Proposal { version, partition: state.memory.partition(instance), ..proposal.clone() };
        let verdict = at_once(state.memory.commit(&stored));
        match verdict {
            Verdict::Committed { .. } => Commit { verdict, before: Some(before) },
            Verdict::Conflict(found) => Commit {
                verdict: Verdict::Conflict(Box::new(Snapshot { partition, ..*found })),
                before: None,
            },
        }
    }

    /// Puts an attempt into the queue of due attempts that no record holds.
    pub(crate) fn plant(&self, due: &Due) {
        let state = self.state.lock().unwrap();
        let now = state.memory.clock();
        let found = state.read(&due.instance, None);
        let effects = Effects {
            due: [(due.eni.clone(), Some(now))].into(),
            expire_after: Some(Duration::from_millis(1)),
            ..Effects::default()
        };
        let planted = Proposal {
            instance: due.instance.clone(),
            version: found.version,
            partition: found.partition,
            now,
            record: Arc::default(),
            request: None,
            effects,
        };
        at_once(state.memory.commit(&planted));
    }

    pub(crate) fn due(&self, most: usize) -> Vec<Due> {
        at_once(self.state.lock().unwrap().memory.due(most))
    }

    pub(crate) fn claim(&self, due: Vec<Due>, visibility: Duration) -> Vec<Due> {
        at_once(self.state.lock().unwrap().memory.claim(due, visibility))
    }

    pub(crate) fn due_reconciliations(&self, most: usize) -> Vec<InstanceId> {
        at_once(self.state.lock().unwrap().memory.due_reconciliations(most))
    }

    pub(crate) fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Vec<InstanceId> {
        at_once(self.state.lock().unwrap().memory.claim_reconciliations(due, visibility))
    }

    pub(crate) fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> ChangedInstances {
        let mut state = self.state.lock().unwrap();
        let settled = state.settle(partition, self.hold_down);
        let changed = at_once(state.memory.changed_since(partition, after, most));
        ChangedInstances { partition: settled, ..changed }
    }

    pub(crate) fn take(&self, order: RateLimitRequest) -> RateLimitDecision {
        at_once(self.state.lock().unwrap().memory.take(order))
    }
}

impl State {
    fn read(&self, instance: &InstanceId, request: Option<&RequestKey>) -> Snapshot {
        at_once(self.memory.read(instance, request))
    }

    /// The partition's epoch; one that is missing, or of another server, is renewed with a
    /// hold-down.
    fn settle(&mut self, partition: PartitionId, hold_down: Duration) -> Partition {
        let index = partition.index();
        let current =
            self.epochs.get(&index).filter(|epoch| epoch.replication_id == self.replication_id);
        if let Some(epoch) = current {
            return epoch.partition();
        }
        let epoch = Epoch {
            replication_id: self.replication_id.clone(),
            hold_down_until: self.memory.clock() + hold_down,
        };
        let partition = epoch.partition();
        self.epochs.insert(index, epoch);
        partition
    }
}

/// The memory ledger never waits and never fails.
fn at_once<T, E: std::fmt::Debug>(answer: impl Future<Output = Result<T, E>>) -> T {
    answer.now_or_never().unwrap().unwrap()
}
