//! Records in this process. For the demo, for tests, and for one replica that may lose everything
//! when it ends. Clones share their records, as replicas share a Redis.
//!
//! Uses tokio's clock, paused or not, and iterates in order, so that a simulation replays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{InstanceId, Outage, Position, Timestamp};
use crate::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore, Rates, TokenBuckets};

use super::change_order::ChangeOrder;
use super::expiring::Expiring;
use super::keys::PartitionId;
use super::queue::DueQueue;
use super::{
    BootInstant, ChangeNotifier, ChangedInstances, Due, Freeze, FrozenPartitions, LedgerError,
    LedgerHealth, LedgerStore, MAX_CLOCK_DIFFERENCE, Partition, Proposal, REQUEST_LIFE,
    ReconcileSchedule, Record, RequestEntry, RequestKey, Snapshot, Verdict,
};

/// Records in this process.
#[derive(Debug, Clone)]
pub struct Memory {
    rates: Rates,
    began: (BootInstant, Timestamp),
    changes: ChangeNotifier,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default, Clone)]
struct State {
    /// It never changes, because the data ends with the process.
    epoch: Arc<str>,
    records: Expiring<InstanceId, (u64, Arc<Record>)>,
    requests: Expiring<(InstanceId, RequestKey), RequestEntry>,
    due: DueQueue<Due>,
    reconciliations: DueQueue<InstanceId>,
    changes: BTreeMap<PartitionId, ChangeOrder>,
    tokens: TokenBuckets,
    freeze: Option<Freeze>,
}

impl Memory {
    /// An empty ledger whose clock starts at the system time.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::beginning_at(rates, Timestamp::default() + since_epoch)
    }

    /// An empty ledger whose clock starts at `start`, for runs that must replay.
    #[must_use]
    pub fn beginning_at(rates: Rates, start: Timestamp) -> Self {
        let epoch = format!("memory {}", start.as_micros()).into();
        Self {
            rates,
            began: (BootInstant::now(), start),
            changes: ChangeNotifier::default(),
            state: Arc::new(Mutex::new(State { epoch, ..State::default() })),
        }
    }

    /// Its clock, the same for all instances.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        let (began, start) = self.began;
        start + began.elapsed()
    }

    /// Sets its clock forward by this many microseconds, or back if negative. Simulates a time
    /// server.
    pub fn step_clock(&mut self, micros: i64) {
        let (_, start) = &mut self.began;
        *start = Timestamp::from_micros(start.as_micros().saturating_add_signed(micros));
    }

    /// Freezes it, or ends the freeze.
    pub fn set_freeze(&self, freeze: Option<Freeze>) {
        self.lock().freeze = freeze;
    }

    /// Corrects due times that another clock wrote. A time beyond the horizon becomes due now.
    pub fn repair_queues(&self, due_horizon: Duration, reconcile_horizon: Duration) {
        let now = self.clock();
        let mut state = self.lock();
        state.due.repair(now, now + due_horizon);
        state.reconciliations.repair(now, now + reconcile_horizon);
    }

    /// An independent copy of the current content. Simulates a replica that no longer replicates.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.lock().clone())),
            changes: ChangeNotifier::default(),
            ..*self
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section can panic half-way: each only inserts and removes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn partition(&self) -> Partition {
        let (epoch, hold_down_until) = (self.epoch.clone(), Timestamp::default());
        Partition { epoch, hold_down_until, shared: None, freeze: self.freeze.clone() }
    }

    fn snapshot(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        now: Timestamp,
    ) -> Snapshot {
        let (version, record) = self.records.get(instance, now).cloned().unwrap_or_default();
        let request = request
            .and_then(|key| self.requests.get(&(instance.clone(), key.clone()), now).cloned());
        let partition = self.partition();
        Snapshot { record, version, request, partition, now }
    }

    fn store(&mut self, proposal: &Proposal, now: Timestamp) -> u64 {
        let Proposal { instance, record, effects, .. } = proposal;
        let version = (proposal.version + 1).max(now.as_micros());
        let end = effects.expire_after.map(|life| now + life);
        self.records.set(instance.clone(), (version, record.clone()), end, now);
        let order = self.changes.entry(PartitionId::of(instance)).or_default();
        order.commit(instance, effects.notify, end, now);
        for (eni, at) in &effects.due {
            let due = Due { instance: instance.clone(), eni: eni.clone() };
            self.due.set(due, *at);
        }
        match effects.reconcile {
            ReconcileSchedule::Kept => {}
            ReconcileSchedule::At(at) => self.reconciliations.set(instance.clone(), Some(at)),
            ReconcileSchedule::Done => self.reconciliations.set(instance.clone(), None),
        }
        for (key, entry) in &effects.requests {
            let key = (instance.clone(), key.clone());
            match entry.clone() {
                Some(entry) => self.requests.set(key, entry, Some(now + REQUEST_LIFE), now),
                None => self.requests.remove(&key),
            }
        }
        version
    }
}

impl RateLimitStore for Memory {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, Outage> {
        let now = self.clock();
        Ok(self.lock().tokens.take(request, &self.rates, now))
    }
}

impl LedgerStore for Memory {
    async fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        _known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        // The record is shared, so nothing is transferred.
        Ok(self.lock().snapshot(instance, request, self.clock()))
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        let mut state = self.lock();
        let now = self.clock();
        let held = state.records.get(&proposal.instance, now).map_or(0, |(version, _)| *version);
        let difference = now.since(proposal.now).max(proposal.now.since(now));
        if held != proposal.version
            || proposal.partition.epoch != state.epoch
            || proposal.partition.freeze != state.freeze
            || difference > MAX_CLOCK_DIFFERENCE
        {
            let found = state.snapshot(&proposal.instance, proposal.request.as_ref(), now);
            return Ok(Verdict::Conflict(Box::new(found)));
        }
        let version = state.store(proposal, now);
        drop(state);
        if proposal.effects.notify {
            self.changes.notify(&proposal.instance);
        }
        Ok(Verdict::Committed { version, now })
    }

    async fn confirm(&self, _instance: &InstanceId, _epoch: &str) -> Result<(), LedgerError> {
        // Nothing survives this process, so there is nothing to confirm.
        Ok(())
    }

    async fn due(&self, most: usize) -> Result<Vec<Due>, LedgerError> {
        let now = self.clock();
        Ok(self.lock().due.due(most, now))
    }

    async fn claim(&self, due: Vec<Due>, visibility: Duration) -> Result<Vec<Due>, LedgerError> {
        let now = self.clock();
        Ok(self.lock().due.claim(due, now, visibility))
    }

    async fn due_reconciliations(&self, most: usize) -> Result<Vec<InstanceId>, LedgerError> {
        let now = self.clock();
        Ok(self.lock().reconciliations.due(most, now))
    }

    async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        let now = self.clock();
        Ok(self.lock().reconciliations.claim(due, now, visibility))
    }

    async fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> Result<ChangedInstances, LedgerError> {
        let state = self.lock();
        let order = state.changes.get(&partition);
        Ok(ChangedInstances {
            partition: state.partition(),
            last: order.map(ChangeOrder::last).unwrap_or_default(),
            instances: order.map(|order| order.after(after, most)).unwrap_or_default(),
        })
    }

    fn changes(&self) -> &ChangeNotifier {
        &self.changes
    }

    fn partition(&self, _instance: &InstanceId) -> Partition {
        self.lock().partition()
    }

    fn now(&self, _instance: &InstanceId) -> Timestamp {
        self.clock()
    }

    fn health(&self) -> LedgerHealth {
        let frozen = FrozenPartitions::among([self.lock().freeze.as_ref()].into_iter());
        LedgerHealth { up: true, reached: true, frozen, ..LedgerHealth::default() }
    }
}
