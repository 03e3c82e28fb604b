//! The memory ledger with faults: unreachable, without notifications, or wiped.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::ledger::keys::PartitionId;
use eni_gateway::ledger::{
    ChangeNotifier, ChangedInstances, Due, LedgerError, LedgerHealth, LedgerStore, Memory,
    Partition, Proposal, RequestKey, Snapshot, Verdict,
};
use eni_gateway::model::{InstanceId, Outage, Position, Timestamp};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore, Rates};
use tokio::time::Instant;

/// One replica's connection to a ledger. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Faulty {
    records: Arc<Mutex<Memory>>,
    clock: Memory,
    changes: ChangeNotifier,
    down: Arc<Mutex<Option<Instant>>>,
    /// The next commit takes effect, its reply is lost, and the ledger stays unreachable.
    loses_reply: Arc<AtomicBool>,
    /// The end of every partition's hold-down.
    hold_down_until: Arc<Mutex<Timestamp>>,
    /// Instances whose record cannot be read.
    spoilt: Arc<Mutex<BTreeSet<InstanceId>>>,
    reads: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    latency: Duration,
}

impl Faulty {
    pub(crate) fn new() -> Self {
        Self::with(Rates::default())
    }

    /// A ledger with a budget of these rates.
    pub(crate) fn with(rates: Rates) -> Self {
        let memory = Memory::new(rates);
        let changes = memory.changes().clone();
        Self {
            records: Arc::new(Mutex::new(memory.clone())),
            clock: memory,
            changes,
            down: Arc::default(),
            loses_reply: Arc::default(),
            hold_down_until: Arc::default(),
            spoilt: Arc::default(),
            reads: Arc::default(),
            calls: Arc::default(),
            latency: Duration::ZERO,
        }
    }

    /// Adds a latency to each call, so that a loop without a pause takes time, and ends.
    pub(crate) fn taking(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// Another replica's connection to the same ledger, with its own faults.
    pub(crate) fn replica(&self) -> Self {
        Self {
            down: Arc::default(),
            loses_reply: Arc::default(),
            reads: Arc::default(),
            calls: Arc::default(),
            ..self.clone()
        }
    }

    /// Another replica's connection without change notifications.
    pub(crate) fn deaf_replica(&self) -> Self {
        Self { changes: ChangeNotifier::default(), ..self.replica() }
    }

    /// Makes the ledger unreachable, or reachable.
    pub(crate) fn down(&self, down: bool) {
        *self.down.lock().unwrap() = down.then(Instant::now);
    }

    /// Makes the ledger unreachable right after the next commit, whose reply is lost.
    pub(crate) fn down_after_commit(&self) {
        self.loses_reply.store(true, Ordering::Relaxed);
    }

    /// Starts a hold-down of every partition, for all replicas.
    pub(crate) fn hold_down(&self, hold_down: Duration) {
        *self.hold_down_until.lock().unwrap() = self.clock.clock() + hold_down;
    }

    fn recovering(&self, partition: Partition) -> Partition {
        let hold_down_until = *self.hold_down_until.lock().unwrap();
        Partition { hold_down_until, ..partition }
    }

    /// Makes the record of an instance unreadable, for all replicas, or readable.
    pub(crate) fn spoil(&self, instance: &InstanceId, spoilt: bool) {
        let mut all = self.spoilt.lock().unwrap();
        if spoilt {
            all.insert(instance.clone())
        } else {
            all.remove(instance)
        };
    }

    /// Deletes everything.
    pub(crate) fn wipe(&self) {
        self.restart_at(self.clock());
    }

    /// Deletes everything, on a server with this time.
    pub(crate) fn restart_at(&self, time: Timestamp) {
        *self.records.lock().unwrap() = Memory::beginning_at(Rates::default(), time);
        self.changes.notify_all();
    }

    /// The time of the first server.
    pub(crate) fn clock(&self) -> Timestamp {
        self.clock.clock()
    }

    /// The number of reads of a record.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The number of this replica's calls.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn reached(&self) -> Result<Memory, LedgerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        if let Some(since) = *self.down.lock().unwrap() {
            return Err(LedgerError::not_applied("it is down").with_outage(since.elapsed()));
        }
        Ok(self.records.lock().unwrap().clone())
    }
}

impl RateLimitStore for Faulty {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, Outage> {
        self.reached().await?.take(request).await
    }
}

impl LedgerStore for Faulty {
    async fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.spoilt.lock().unwrap().contains(instance) {
            return Err(LedgerError::unreadable("the stored record cannot be read: nonsense"));
        }
        let snapshot = self.reached().await?.read_since(instance, request, known).await?;
        let partition = self.recovering(snapshot.partition.clone());
        Ok(Snapshot { partition, ..snapshot })
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        let verdict = self.reached().await?.commit(proposal).await;
        if proposal.effects.notify && matches!(verdict, Ok(Verdict::Committed { .. })) {
            self.changes.notify(&proposal.instance);
        }
        if self.loses_reply.swap(false, Ordering::Relaxed) {
            self.down(true);
            return Err(LedgerError::outcome_unknown("the reply was lost"));
        }
        verdict.map(|verdict| match verdict {
            Verdict::Conflict(mut found) => {
                found.partition = self.recovering(found.partition.clone());
                Verdict::Conflict(found)
            }
            committed @ Verdict::Committed { .. } => committed,
        })
    }

    async fn confirm(&self, instance: &InstanceId, epoch: &str) -> Result<(), LedgerError> {
        self.reached().await?.confirm(instance, epoch).await
    }

    async fn due(&self, most: usize) -> Result<Vec<Due>, LedgerError> {
        self.reached().await?.due(most).await
    }

    async fn claim(&self, due: Vec<Due>, visibility: Duration) -> Result<Vec<Due>, LedgerError> {
        self.reached().await?.claim(due, visibility).await
    }

    async fn due_reconciliations(&self, most: usize) -> Result<Vec<InstanceId>, LedgerError> {
        self.reached().await?.due_reconciliations(most).await
    }

    async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        self.reached().await?.claim_reconciliations(due, visibility).await
    }

    async fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> Result<ChangedInstances, LedgerError> {
        let changed = self.reached().await?.changed_since(partition, after, most).await?;
        let partition = self.recovering(changed.partition.clone());
        Ok(ChangedInstances { partition, ..changed })
    }

    fn changes(&self) -> &ChangeNotifier {
        &self.changes
    }

    fn now(&self, instance: &InstanceId) -> Timestamp {
        self.clock.now(instance)
    }

    fn partition(&self, instance: &InstanceId) -> Partition {
        self.recovering(self.clock.partition(instance))
    }

    fn health(&self) -> LedgerHealth {
        self.clock.health()
    }
}
