//! Runs one step on one record: read, apply, compare-and-set. Repeats after a conflict.
//!
//! The last known record of an instance is tried first, so that a step without contention is one
//! round trip. An answer that changes nothing is never given from memory, but verified against the
//! ledger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{InstanceId, Outage, Timestamp, random};
use crate::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore};

use super::apply::{Context, apply};
use super::bounds::Bounds;
use super::command::{Change, Command, Reply};
use super::invariants::{self, Violation};
use super::record::Record;
use super::seen::{Seen, SeenRecord};
use super::unreported::UnreportedChanges;
use super::{BootInstant, LedgerError, LedgerStore, Proposal, Snapshot, Verdict};

/// Maximum tries of one step before the ledger counts as unreachable.
const MAX_TRIES: u32 = 50;

/// An event of a committed step, for metrics, spans and logs.
#[derive(Debug)]
pub enum LedgerEvent<'a> {
    /// An attachment changed.
    Changed(&'a Change),
    /// A commit would break an invariant. A defect of the gateway, or of a system on which it
    /// depends.
    InvariantViolated(&'a InstanceId, Violation),
}

/// The receiver of every [`LedgerEvent`].
pub type CommitObserver = Arc<dyn Fn(LedgerEvent<'_>) + Send + Sync>;

/// A ledger store with the rules of the ledger.
pub struct Ledger<L> {
    store: L,
    bounds: Bounds,
    seen: Mutex<Seen>,
    unreported: UnreportedChanges,
    observer: CommitObserver,
}

/// The outcome of a command.
#[derive(Debug, Clone)]
pub struct CommandOutcome {
    /// The reply.
    pub reply: Reply,
    /// The record after the command.
    pub record: Arc<Record>,
    /// The ledger's clock when the command was decided.
    pub now: Timestamp,
    /// This machine's clock before the deciding call. The rest of a lease counts from here.
    pub requested_at: BootInstant,
}

impl CommandOutcome {
    /// The latest time, by this machine's clock, at which a ledger time `expires_at` has passed.
    #[must_use]
    pub fn deadline(&self, expires_at: Timestamp) -> BootInstant {
        self.requested_at + expires_at.since(self.now)
    }
}

impl<L: LedgerStore> Ledger<L> {
    /// A ledger over this store, with these bounds.
    pub fn new(store: L, bounds: Bounds, observer: CommitObserver) -> Self {
        let (seen, unreported) = (Mutex::default(), UnreportedChanges::default());
        Self { store, bounds, seen, unreported, observer }
    }

    /// The store of the records.
    pub fn store(&self) -> &L {
        &self.store
    }

    /// The bounds of this replica.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The bounds in force for an instance, as far as this replica knows. For each bound, the safer
    /// of its own value and that of other replicas.
    pub fn bounds_of(&self, instance: &InstanceId) -> Bounds {
        self.bounds.among(self.store.partition(instance).shared)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// The ledger cannot be reached. The command may have been applied, which a retry shows.
    pub async fn execute(
        &self,
        instance: &InstanceId,
        command: &Command,
    ) -> Result<CommandOutcome, LedgerError> {
        self.perform(instance, command, None).await
    }

    /// Runs one command, but not after this time. This holds even if the process is suspended
    /// meanwhile: the ledger then rejects the commit because of its time.
    ///
    /// # Errors
    /// As [`Ledger::execute`]. Nothing was applied if the time had passed before.
    pub async fn execute_until(
        &self,
        instance: &InstanceId,
        command: &Command,
        until: Instant,
    ) -> Result<CommandOutcome, LedgerError> {
        self.perform(instance, command, Some(until)).await
    }

    async fn perform(
        &self,
        instance: &InstanceId,
        command: &Command,
        until: Option<Instant>,
    ) -> Result<CommandOutcome, LedgerError> {
        let mut requested_at = BootInstant::now();
        // The cache does not show whether a request id was used before.
        let mut verified = command.request().is_some();
        let mut snapshot = self.remembered(instance);
        if verified {
            snapshot = self.store.read_since(instance, command.request(), &snapshot).await?;
        }
        for tries in 0..MAX_TRIES {
            let now = self.store.now(instance).max(snapshot.now);
            // After `now` is taken. A suspension between the two is detected here. A later one
            // makes `now` too old for the commit.
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(LedgerError::not_applied("the time for it was over"));
            }
            let context = Context {
                bounds: &self.bounds.among(snapshot.partition.shared),
                instance,
                partition: &snapshot.partition,
                request: snapshot.request.as_ref(),
                now,
            };
            let step = apply(&snapshot.record, command, context);
            if !step.changed {
                if verified {
                    let record = snapshot.record.clone();
                    self.remember(instance, &snapshot);
                    return Ok(CommandOutcome { reply: step.reply, record, now, requested_at });
                }
                requested_at = BootInstant::now();
                snapshot = self.store.read_since(instance, command.request(), &snapshot).await?;
                verified = true;
                continue;
            }
            let changes = step.changes;
            let proposal = Proposal {
                instance: instance.clone(),
                version: snapshot.version,
                partition: snapshot.partition.clone(),
                now,
                record: Arc::new(step.record),
                request: command.request().cloned(),
                effects: step.effects,
            };
            requested_at = BootInstant::now();
            let verdict = match self.store.commit(&proposal).await {
                Err(error @ LedgerError::OutcomeUnknown(_)) => {
                    self.unreported.add(changes);
                    return Err(error);
                }
                verdict => verdict?,
            };
            match verdict {
                Verdict::Committed { version, now } => {
                    self.notify_observer(&snapshot.record, &proposal.record, &context, &changes);
                    let record = proposal.record;
                    let partition = snapshot.partition;
                    let seen =
                        Snapshot { record: record.clone(), version, request: None, partition, now };
                    self.remember(instance, &seen);
                    return Ok(CommandOutcome { reply: step.reply, record, now, requested_at });
                }
                Verdict::Conflict(current) => {
                    snapshot = *current;
                    verified = true;
                }
            }
            if tries > 2 {
                let pause = random::between(0..5 * u64::from(tries));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        Err(LedgerError::not_applied(format!(
            "the record of {instance} changed {MAX_TRIES} times in a row while a step was tried"
        )))
    }

    /// Reads a record. An unchanged one is the value that an earlier call returned.
    ///
    /// # Errors
    /// The ledger cannot be reached.
    pub async fn read(&self, instance: &InstanceId) -> Result<Snapshot, LedgerError> {
        let known = self.remembered(instance);
        let snapshot = self.store.read_since(instance, None, &known).await?;
        self.remember(instance, &snapshot);
        Ok(snapshot)
    }

    /// Reports the changes whose commit had no known outcome, where a record now shows them. Stops
    /// while the ledger is away; a later call continues. A record that this version cannot read
    /// shows none, and holds up no other.
    pub async fn report_unreported(&self) {
        while let Some(instance) = self.unreported.next() {
            let record = match self.read(&instance).await {
                Ok(snapshot) => snapshot.record,
                Err(error) if error.is_unreadable() => Arc::default(),
                Err(_) => return,
            };
            for change in self.unreported.take(&instance, &record) {
                (self.observer)(LedgerEvent::Changed(&change));
            }
        }
    }

    /// Reports a commit that was computed under `context`.
    fn notify_observer(
        &self,
        before: &Record,
        after: &Record,
        context: &Context<'_>,
        changes: &[Change],
    ) {
        for violation in invariants::check(before, after, context) {
            (self.observer)(LedgerEvent::InvariantViolated(context.instance, violation));
        }
        for change in changes {
            (self.observer)(LedgerEvent::Changed(change));
        }
    }

    /// The last known record, if the partition's epoch is still the same. Versions count within an
    /// epoch: while the clock is behind them, a lost record may have the version of another one.
    fn remembered(&self, instance: &InstanceId) -> Snapshot {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = self.store.partition(instance);
        match seen.get(instance).filter(|seen| seen.epoch == partition.epoch) {
            Some(SeenRecord { record, version, now, .. }) => Snapshot {
                record: record.clone(),
                version: *version,
                request: None,
                partition,
                now: *now,
            },
            None => Snapshot { partition, ..Snapshot::default() },
        }
    }

    /// Whether the last known record shows that ENS has the instance.
    pub fn knows(&self, instance: &InstanceId) -> bool {
        self.remembered(instance).record.shows_instance()
    }

    /// Remembers a record. A blank one is not worth the memory.
    fn remember(&self, instance: &InstanceId, snapshot: &Snapshot) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.refresh(instance, snapshot) {
            return;
        }
        if snapshot.record.is_blank() {
            seen.forget(instance);
        } else {
            seen.put(instance, snapshot);
        }
    }
}

impl<L: LedgerStore> RateLimitStore for Ledger<L> {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, Outage> {
        self.store.take(request).await
    }
}

#[cfg(test)]
mod tests;
