//! May it touch this instance now? One record per instance, one pure function over it, compare-and-set.
//!
//! [`LedgerStore`] is where records are kept (the second seam): it compares and sets, and knows no rule.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use crate::model::{InstanceId, InterfaceId, Timestamp};
use crate::rate_limit::{RateLimitStore, StoreUnreachable};

pub mod apply;
mod boot;
pub mod bounds;
pub mod changes;
pub mod command;
pub mod execute;
mod expiring;
pub mod invariants;
pub mod keys;
pub mod memory;
mod queue;
pub mod record;
pub mod redis;
pub mod safety_checks;
mod seen;

pub use boot::BootInstant;
pub use bounds::{Bounds, SharedBounds};
pub use changes::{ChangeNotifier, ChangeSubscription};
pub use execute::Ledger;
pub use memory::Memory;
pub use record::{Record, RequestEntry, RequestKey};
pub use redis::{Redis, RedisSettings};
pub use safety_checks::{SafetyCheck, SafetyChecks};

/// How far a proposal's time may be from the ledger's clock when it is committed: a decision that came late is made again.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_millis(250);

/// How long the entry of a request id is kept.
pub const REQUEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where records are kept: memory, or Redis.
pub trait LedgerStore: RateLimitStore {
    /// Reads an instance's record, and the entry of a request id beside it.
    fn read(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
    ) -> impl Future<Output = Result<Snapshot, LedgerError>> + Send;

    /// Stores a record with its effects if the version is still the one that was read, the clock agrees and the epoch is
    /// the same; otherwise says what is there. All or nothing.
    fn commit(&self, proposal: &Proposal) -> impl Future<Output = Result<Verdict, LedgerError>> + Send;

    /// Makes sure that what was committed for this instance under this epoch is not lost in a failover, where the ledger
    /// is to do so (`ledger.sync_replicas`): what it cannot make sure of must not be sent.
    fn confirm(&self, instance: &InstanceId, epoch: &str) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// The attempts that are due, earliest first and at most `most`. Takes none of them.
    fn due(&self, most: usize) -> impl Future<Output = Result<Vec<Due>, LedgerError>> + Send;

    /// Takes those of these attempts that are still due, and hides them from other replicas for `visibility`.
    fn claim(&self, due: Vec<Due>, visibility: Duration) -> impl Future<Output = Result<Vec<Due>, LedgerError>> + Send;

    /// The instances whose comparison with ENS is due, earliest first and at most `most`. Takes none of them.
    fn due_reconciliations(&self, most: usize) -> impl Future<Output = Result<Vec<InstanceId>, LedgerError>> + Send;

    /// Takes those of these instances whose comparison is still due, and hides them likewise.
    fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<InstanceId>, LedgerError>> + Send;

    /// Who listens for changes: told of every commit with [`Effects::notify`], whichever replica made it, and to look again
    /// when some may have been missed.
    fn changes(&self) -> &ChangeNotifier;

    /// The ledger's clock for an instance, as this replica estimates it; exact for the memory ledger. It is that of the server
    /// which holds the record: those of two instances may differ.
    fn now(&self, instance: &InstanceId) -> Timestamp;

    /// What is known of an instance's partition, for a first try without a read.
    fn partition(&self, instance: &InstanceId) -> Partition;

    /// Whether it can be reached and used, and what is wrong with it.
    fn health(&self) -> Health;
}

/// A ledger call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The ledger cannot be reached, or not in time. Nothing was applied.
    #[error("the ledger cannot be reached: {}", .0.why)]
    NotApplied(Outage),
    /// The ledger must not be used, as a whole or for this instance, until its set-up changes: a retry does not help. Nothing was
    /// applied.
    #[error("the ledger cannot be used: {}", .0.why)]
    Misconfigured(Outage),
    /// The reply was lost: the call may have been applied.
    #[error("the ledger cannot be reached: {}", .0.why)]
    OutcomeUnknown(Outage),
}

/// What is known of a failed ledger call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// What happened, without secrets.
    pub why: String,
    /// How long the server has been out of reach by now, as far as is known; zero if it was reached just now. Of a cluster it is the
    /// node that holds the instance.
    pub down_for: Duration,
}

impl Outage {
    fn just_now(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            down_for: Duration::ZERO,
        }
    }
}

impl LedgerError {
    /// Nothing was applied.
    pub fn not_applied(why: impl Into<String>) -> Self {
        Self::NotApplied(Outage::just_now(why))
    }

    /// Nothing was applied, and nothing will be until the set-up changes.
    pub fn misconfigured(why: impl Into<String>) -> Self {
        Self::Misconfigured(Outage::just_now(why))
    }

    /// The call may have been applied.
    pub fn outcome_unknown(why: impl Into<String>) -> Self {
        Self::OutcomeUnknown(Outage::just_now(why))
    }

    /// The same, from a server that has been out of reach for this long.
    #[must_use]
    pub fn with_outage(mut self, down_for: Duration) -> Self {
        let (Self::NotApplied(outage) | Self::Misconfigured(outage) | Self::OutcomeUnknown(outage)) = &mut self;
        outage.down_for = down_for;
        self
    }

    /// What is known of the failure.
    #[must_use]
    pub fn outage(&self) -> &Outage {
        let (Self::NotApplied(outage) | Self::Misconfigured(outage) | Self::OutcomeUnknown(outage)) = self;
        outage
    }

    /// Whether a retry does not help.
    #[must_use]
    pub fn is_misconfigured(&self) -> bool {
        matches!(self, Self::Misconfigured(_))
    }

    /// Whether the call may have been applied.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_))
    }
}

impl From<LedgerError> for StoreUnreachable {
    fn from(error: LedgerError) -> Self {
        let (LedgerError::NotApplied(outage)
        | LedgerError::Misconfigured(outage)
        | LedgerError::OutcomeUnknown(outage)) = error;
        let Outage { why, down_for } = outage;
        Self { why, down_for }
    }
}

/// A record as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The record; the default one for an instance never seen.
    pub record: Record,
    /// What a commit compares; 0 for an instance never seen.
    pub version: u64,
    /// The entry of the request id that was asked for.
    pub request: Option<RequestEntry>,
    /// The partition's epoch.
    pub partition: Partition,
    /// The ledger's clock at that moment.
    pub now: Timestamp,
}

/// What is true of all instances of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// Changes with every restart, failover and loss.
    pub epoch: String,
    /// Until when nothing is granted or reserved after such a change.
    pub hold_down_until: Timestamp,
    /// What its replicas share; `None` where there is only one.
    pub shared: Option<SharedBounds>,
}

/// A change of one record, to be made if nothing else changed it.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Whose record.
    pub instance: InstanceId,
    /// The version it was computed from.
    pub version: u64,
    /// The epoch it was computed under.
    pub partition: Partition,
    /// The time it was computed for.
    pub now: Timestamp,
    /// The new record.
    pub record: Record,
    /// The request id whose entry a conflict brings back with the record.
    pub request: Option<RequestKey>,
    /// What else changes with it.
    pub effects: Effects,
}

/// What a commit changes beside the record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// The places in the queue of due attempts that change: when to look, or no more.
    pub due: BTreeMap<InterfaceId, Option<Timestamp>>,
    /// When the instance is compared with ENS next.
    pub reconcile: ReconcileSchedule,
    /// The entries of request ids that change: what to keep for 24 hours, or nothing any more.
    pub requests: Vec<(RequestKey, Option<RequestEntry>)>,
    /// Whether to tell others: an attachment changed, or the lock was handed over.
    pub notify: bool,
    /// How long the record is kept when nobody touches it; `None`: for ever, because something in it is live.
    pub expire_after: Option<Duration>,
}

/// What a commit changes of its instance's place in the queue of reconciliations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReconcileSchedule {
    /// Nothing.
    #[default]
    Kept,
    /// It is due then.
    At(Timestamp),
    /// None is to come, until something changes.
    Done,
}

/// What became of a [`Proposal`].
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Stored.
    Committed {
        /// The record's new version.
        version: u64,
        /// The ledger's clock at that moment.
        now: Timestamp,
    },
    /// Something else was there, or the clock or the epoch was another: this.
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

/// How the ledger is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it could be reached at the last try.
    pub up: bool,
    /// Whether it could ever be reached.
    pub reached: bool,
    /// Why it cannot be reached, where it is not up; empty while it was not tried yet.
    pub down: Vec<String>,
    /// Why it takes no writes at the moment, though it can be reached: its memory is full, for example. Nothing is sent meanwhile.
    pub refusing: Vec<String>,
    /// Why it must not be used: a wrong eviction policy, a version too old, a right that lacks.
    pub misconfigured: Vec<String>,
    /// What it does not guarantee as it is set up: no reason to refuse, but worth saying.
    pub warnings: Vec<String>,
    /// Partitions that recover from a loss.
    pub recovering: usize,
    /// How often its clock was seen to be set, back and forward, since this process began.
    pub clock_steps: ClockSteps,
}

/// How often a ledger's clock was set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockSteps {
    /// To an earlier time.
    pub back: u64,
    /// To a later time.
    pub forward: u64,
}

impl ClockSteps {
    /// Those that came since `earlier`.
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
        Self {
            back: self.back + other.back,
            forward: self.forward + other.forward,
        }
    }
}
