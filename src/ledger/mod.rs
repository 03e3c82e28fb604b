//! Decides whether an instance may be changed now. One record per instance, one pure function over
//! it, compare-and-set.
//!
//! [`LedgerStore`] is the storage interface. It compares and sets records, and has none of the
//! rules.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{InstanceId, InterfaceId, Outage, Position, Timestamp};
use crate::rate_limit::RateLimitStore;

pub mod apply;
mod boot;
pub mod bounds;
mod change_order;
pub mod changes;
pub mod command;
pub mod execute;
mod expiring;
pub mod explain;
pub mod freeze;
pub mod invariants;
pub mod keys;
pub mod memory;
mod partition;
mod queue;
pub mod record;
pub mod redis;
pub mod safety_checks;
mod seen;
mod unreported;

pub use boot::BootInstant;
pub use bounds::{Bounds, SharedBounds};
pub use changes::{ChangeNotifier, ChangeSubscription, ChangedInstances};
pub use execute::Ledger;
pub use freeze::{Freeze, FrozenPartitions};
pub use memory::Memory;
pub use partition::{Partition, PartitionId};
pub use record::{Record, RequestEntry, RequestKey};
pub use redis::{Redis, RedisSettings};
pub use safety_checks::SafetyCheck;

/// Maximum difference between a proposal's time and the ledger's clock at commit. A later commit is
/// computed again.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_millis(250);

/// How long the entry of a request id is kept.
pub const REQUEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Storage for records: memory or Redis.
pub trait LedgerStore: RateLimitStore {
    /// Reads an instance's record, together with the entry of a request id.
    fn read(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
    ) -> impl Future<Output = Result<Snapshot, LedgerError>> + Send {
        async move { self.read_since(instance, request, &Snapshot::default()).await }
    }

    /// As [`LedgerStore::read`]. The record of `known` is not transferred again, but returned, if
    /// it is still the stored one.
    fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        known: &Snapshot,
    ) -> impl Future<Output = Result<Snapshot, LedgerError>> + Send;

    /// Stores a record with its effects if version, epoch and freeze are unchanged, and the clock
    /// agrees. Otherwise returns what is stored. All or nothing.
    fn commit(
        &self,
        proposal: &Proposal,
    ) -> impl Future<Output = Result<Verdict, LedgerError>> + Send;

    /// Ensures that commits for this instance under this epoch survive a failover, if
    /// `ledger.sync_replicas` is set. After an error nothing may be sent.
    fn confirm(
        &self,
        instance: &InstanceId,
        epoch: &str,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Attempts that are due, earliest first, at most `most`. Claims none of them.
    fn due(&self, most: usize) -> impl Future<Output = Result<Vec<Due>, LedgerError>> + Send;

    /// Claims those of these attempts that are still due, and hides them from other replicas for
    /// `visibility`.
    fn claim(
        &self,
        due: Vec<Due>,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<Due>, LedgerError>> + Send;

    /// Instances whose reconciliation is due, earliest first, at most `most`. Claims none of them.
    fn due_reconciliations(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<Vec<InstanceId>, LedgerError>> + Send;

    /// Claims those of these instances whose reconciliation is still due, and hides them likewise.
    fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<InstanceId>, LedgerError>> + Send;

    /// The instances of a partition whose last change is after this position, in the order of these
    /// changes, at most `most`. The records may be newer.
    fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> impl Future<Output = Result<ChangedInstances, LedgerError>> + Send;

    /// Notifier of changes. Notifies after every commit with [`Effects::notify`], of any replica,
    /// and also when notifications may have been missed.
    fn changes(&self) -> &ChangeNotifier;

    /// Estimate of the ledger's clock for an instance. Exact for the memory ledger. The clock
    /// belongs to the server with the record, so those of two instances may differ.
    fn now(&self, instance: &InstanceId) -> Timestamp;

    /// The known state of an instance's partition, for a first try without a read.
    fn partition(&self, instance: &InstanceId) -> Partition;

    /// Whether the ledger is reachable and usable, with the current problems.
    fn health(&self) -> LedgerHealth;
}

/// A ledger call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The ledger was not reached in time, or refused for the moment. Nothing was applied.
    #[error("the ledger is unavailable: {}", .0.why)]
    NotApplied(Outage),
    /// The ledger must not be used, for this instance or at all, until its configuration changes. A
    /// retry does not help. Nothing was applied.
    #[error("the ledger cannot be used: {}", .0.why)]
    Misconfigured(Outage),
    /// What is stored of this instance cannot be read by this version. A retry does not help.
    /// Other instances are not affected. Nothing was applied.
    #[error("{}", .0.why)]
    Unreadable(Outage),
    /// The reply was lost. The call may have been applied.
    #[error("the ledger is unavailable: {}", .0.why)]
    OutcomeUnknown(Outage),
}

impl LedgerError {
    /// An error after which nothing was applied.
    pub fn not_applied(why: impl Into<String>) -> Self {
        Self::NotApplied(Outage::just_now(why))
    }

    /// An error after which nothing is applied until the configuration changes.
    pub fn misconfigured(why: impl Into<String>) -> Self {
        Self::Misconfigured(Outage::just_now(why))
    }

    /// An error about the stored content of one instance.
    pub fn unreadable(why: impl Into<String>) -> Self {
        Self::Unreadable(Outage::just_now(why))
    }

    /// An error after which the call may have been applied.
    pub fn outcome_unknown(why: impl Into<String>) -> Self {
        Self::OutcomeUnknown(Outage::just_now(why))
    }

    /// The same error, from a server that has been unreachable for this long.
    #[must_use]
    pub fn with_outage(mut self, down_for: Duration) -> Self {
        let (Self::NotApplied(outage)
        | Self::Misconfigured(outage)
        | Self::Unreadable(outage)
        | Self::OutcomeUnknown(outage)) = &mut self;
        outage.down_for = down_for;
        self
    }

    /// The details of the failure.
    #[must_use]
    pub fn outage(&self) -> &Outage {
        let (Self::NotApplied(outage)
        | Self::Misconfigured(outage)
        | Self::Unreadable(outage)
        | Self::OutcomeUnknown(outage)) = self;
        outage
    }

    /// Whether a retry is useless: the ledger is misconfigured, or the record unreadable.
    #[must_use]
    pub fn is_misconfigured(&self) -> bool {
        matches!(self, Self::Misconfigured(_) | Self::Unreadable(_))
    }

    /// Whether only the stored content of the instance is at fault.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }

    /// Whether the call may have been applied.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_))
    }
}

impl From<LedgerError> for Outage {
    fn from(error: LedgerError) -> Self {
        let (LedgerError::NotApplied(outage)
        | LedgerError::Misconfigured(outage)
        | LedgerError::Unreadable(outage)
        | LedgerError::OutcomeUnknown(outage)) = error;
        outage
    }
}

/// A record as it was at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The record. The default one for an instance never seen.
    pub record: Arc<Record>,
    /// The version that a commit compares. 0 for an instance never seen.
    pub version: u64,
    /// The entry of the requested request id.
    pub request: Option<RequestEntry>,
    /// The state of the partition.
    pub partition: Partition,
    /// The ledger's clock at that time.
    pub now: Timestamp,
}

impl Snapshot {
    /// What a store returns that transfers no record which the reader has: this stored snapshot,
    /// but with the record of `known` if version and epoch are the same.
    #[must_use]
    pub fn or_known(self, known: &Self) -> Self {
        let same = self.version == known.version && self.partition.epoch == known.partition.epoch;
        if same { Self { record: known.record.clone(), ..self } } else { self }
    }

    /// When the Describe call behind the record was sent, if there is one and nothing was lost
    /// since.
    #[must_use]
    pub fn observed_at(&self) -> Option<Timestamp> {
        let is_current = self.record.epoch == self.partition.epoch;
        self.record.observed_at().filter(|_| is_current)
    }

    /// Number of tickets that wait for the lock.
    #[must_use]
    pub fn queue_length(&self) -> usize {
        let is_current = self.record.epoch == self.partition.epoch;
        let lives = |waiter: &&record::QueuedTicket| is_current && self.now < waiter.expires_at;
        self.record.queue.iter().filter(lives).count()
    }
}

/// A change of one record, committed only if the record is unchanged.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The instance of the record.
    pub instance: InstanceId,
    /// The version from which it was computed.
    pub version: u64,
    /// The partition state under which it was computed.
    pub partition: Partition,
    /// The time for which it was computed.
    pub now: Timestamp,
    /// The new record.
    pub record: Arc<Record>,
    /// The request id whose entry a conflict returns with the record.
    pub request: Option<RequestKey>,
    /// The other changes of the commit.
    pub effects: Effects,
}

/// The changes of a commit beside the record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Changes of the due queue: the next poll, or `None` for removal.
    pub due: BTreeMap<InterfaceId, Option<Timestamp>>,
    /// The next reconciliation of the instance.
    pub reconcile: ReconcileSchedule,
    /// Changed entries of request ids: the entry to keep for 24 hours, or `None` for removal.
    pub requests: Vec<(RequestKey, Option<RequestEntry>)>,
    /// Whether to notify other replicas, and to give the instance a new position: an attachment or
    /// the doubt about it changed, or the lock was handed over.
    pub notify: bool,
    /// How long the record is kept without a change. `None` means without limit, because something
    /// in it is live.
    pub expire_after: Option<Duration>,
}

/// The change of the instance's place in the reconciliation queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReconcileSchedule {
    /// No change.
    #[default]
    Kept,
    /// Due at this time.
    At(Timestamp),
    /// None until the instance changes.
    Done,
}

/// The result of a [`Proposal`].
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The record was stored.
    Committed {
        /// The record's new version.
        version: u64,
        /// The ledger's clock at the commit.
        now: Timestamp,
    },
    /// The version, the clock, the epoch or the freeze did not match. Contains what is stored.
    Conflict(Box<Snapshot>),
}

/// An attempt that is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Its instance.
    pub instance: InstanceId,
    /// Its ENI.
    pub eni: InterfaceId,
}

/// The health of a ledger store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerHealth {
    /// Whether the last try reached it.
    pub up: bool,
    /// Whether any try ever reached it.
    pub reached: bool,
    /// Why it is unreachable. Empty if it is up, or was not tried yet.
    pub down: Vec<String>,
    /// Why it currently refuses writes although it is reachable, for example because its memory is
    /// full. Nothing is sent meanwhile.
    pub refusing: Vec<String>,
    /// Why it must not be used: a wrong eviction policy, an unsupported version, a missing right.
    pub misconfigured: Vec<String>,
    /// Guarantees that its configuration does not give. No reason to refuse calls.
    pub warnings: Vec<String>,
    /// Percent of its maximum memory in use; the fullest server of a cluster. `None` without a
    /// maximum.
    pub memory_used: Option<u64>,
    /// Number of partitions that recover from a loss.
    pub recovering: usize,
    /// The partitions in which no attach begins, by an operator's order.
    pub frozen: FrozenPartitions,
    /// Clock steps seen since this process started, back and forward.
    pub clock_steps: ClockSteps,
}

impl LedgerHealth {
    /// Whether the ledger is reachable and accepts writes, so that attaches can be made.
    #[must_use]
    pub fn accepts_writes(&self) -> bool {
        self.up && self.refusing.is_empty()
    }
}

/// Number of clock steps of a ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockSteps {
    /// To an earlier time.
    pub back: u64,
    /// To a later time.
    pub forward: u64,
}

impl ClockSteps {
    /// Steps since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            back: self.back.saturating_sub(earlier.back),
            forward: self.forward.saturating_sub(earlier.forward),
        }
    }
}

impl std::ops::Add for ClockSteps {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { back: self.back + other.back, forward: self.forward + other.forward }
    }
}
