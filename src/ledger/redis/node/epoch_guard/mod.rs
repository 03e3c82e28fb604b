//! The epochs of the partitions that one server holds, and the guard that keeps them true.
//!
//! An epoch that is missing, or that another server wrote, is renewed with a hold-down. One that
//! another clock wrote, or that does not cover this replica's settings, is renewed without: nothing
//! was lost. The guard runs every commit script, because each answer shows the server's clock.
//!
//! ```text
//!  status        what is to be done about an epoch: a pure function
//!  clock_steps   the steps of the server's clock, and the epochs that they made stale
//!  members       the settings of all replicas, and when a change of them is put in force
//!  new_ledger    epochs of an empty server
//!  promotion     whether a server was a replica until now, and so lost nothing that was confirmed
//! ```

mod clock_steps;
mod members;
mod new_ledger;
mod promotion;
mod status;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, ScriptInvocation};
use tokio::sync::Notify;
use tracing::debug;

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::clock::ServerClock;
use crate::ledger::redis::scripts::{ScriptReply, StoredRecord, unexpected};
use crate::ledger::redis::shared::Shared;
use crate::ledger::{BootInstant, Bounds, ClockSteps, Freeze, LedgerError, Snapshot};
use crate::model::Timestamp;
use crate::rate_limit::micros;

use super::assignment::Assignment;
use clock_steps::StepHistory;
use status::EpochStatus;

pub(in super::super) use new_ledger::LedgerNotEmpty;

/// How often the epoch may change between read and renewal before the guard gives up.
const TRIES: usize = 3;

/// Why a server accepts no writes that answers each of them too late.
pub(in super::super) const TOO_LATE: &str = "commits arrive more than 250 ms after the time for \
    which they were decided: the round trip to the server is too long";

/// Keeps the epochs of one server true.
#[derive(Debug)]
pub(in super::super) struct EpochGuard {
    shared: Arc<Shared>,
    assignment: Assignment,
    clock: ServerClock,
    steps: StepHistory,
    /// Notified when one epoch was not as expected: the others may not be either.
    check_requested: Arc<Notify>,
}

impl EpochGuard {
    /// Of the assigned partitions. It notifies `check_requested` when all epochs should be checked.
    pub(super) fn new(
        (shared, assignment): (Arc<Shared>, Assignment),
        check_requested: Arc<Notify>,
    ) -> Self {
        Self {
            shared,
            assignment,
            clock: ServerClock::new(),
            steps: StepHistory::default(),
            check_requested,
        }
    }

    /// The server's clock, as far as it is known.
    pub(in super::super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How often the server's clock was seen to be set.
    pub(super) fn clock_steps(&self) -> ClockSteps {
        self.steps.counts()
    }

    /// Warnings about the server's clock, for operators.
    pub(super) fn warning(&self) -> Option<String> {
        self.steps.warning()
    }

    /// Runs the commit script, and learns the time from its answer.
    pub(super) async fn run(
        &self,
        connection: &MultiplexedConnection,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<ScriptReply> {
        let sent = BootInstant::now();
        let answer = script.invoke_async(&mut connection.clone()).await?;
        let answer = ScriptReply::read(answer).ok_or_else(unexpected)?;
        self.clock.learn(answer.now(), sent, |step| {
            let views = self.shared.views();
            let partitions = self.assignment.partitions();
            let in_force = partitions.iter().map(|&held| (held, views.partition(held).epoch));
            self.steps.record(step, in_force.collect());
            self.check_requested.notify_one();
        });
        Ok(answer)
    }

    /// Reads the epoch of a partition, and the record whose keys follow it, if any and if `known`
    /// is not the stored one.
    pub(super) async fn read_since(
        &self,
        connection: &MultiplexedConnection,
        keys: &[String],
        known: &Snapshot,
    ) -> RedisResult<StoredRecord> {
        let mut script = self.shared.scripts.commit.key(keys);
        script.arg("read").arg(known.version).arg(&*known.partition.epoch);
        self.run(connection, &script).await?.found()
    }

    /// Reads the epoch of a partition.
    pub(super) async fn read_epoch(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
    ) -> RedisResult<StoredRecord> {
        let keys = self.shared.keys.state(partition);
        self.read_since(connection, &keys, &Snapshot::default()).await
    }

    /// Reads the epochs of all partitions.
    pub(in super::super) async fn read_all(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Vec<StoredRecord>> {
        self.for_each(|partition| self.read_epoch(connection, partition)).await
    }

    /// Freezes all partitions, or ends their freeze.
    pub(in super::super) async fn set_freeze(
        &self,
        connection: &MultiplexedConnection,
        freeze: Option<&Freeze>,
    ) -> RedisResult<()> {
        let changes = self.for_each(|partition| async move {
            let keys = self.shared.keys.state(partition);
            let mut script = self.shared.scripts.commit.key(&keys);
            script.arg("freeze").arg(freeze.map_or("", Freeze::text));
            self.run(connection, &script).await?.found()
        });
        changes.await.map(drop)
    }

    /// Makes a write like a commit's, which changes nothing that is kept. Returns whether it
    /// arrived in time.
    pub(in super::super) async fn probe_write(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
    ) -> RedisResult<bool> {
        let keys = &self.shared.keys;
        let [epoch, freeze] = keys.state(partition);
        let keys = [epoch, freeze, keys.scratch(partition)];
        let mut script = self.shared.scripts.commit.key(&keys);
        script.arg("probe").arg(self.now().as_micros());
        let reply = self.run(connection, &script).await?;
        Ok(matches!(reply, ScriptReply::Committed { .. }))
    }

    /// Whether what was found is of an epoch that may be used as it is.
    pub(super) fn is_current(&self, partition: PartitionId, found: &StoredRecord) -> bool {
        matches!(self.status(partition, found), EpochStatus::Current)
    }

    /// Returns what is stored under `keys` once its epoch is current, and renews the epoch where it
    /// was not. The inner error says why this replica may not. It takes several trips.
    pub(super) async fn renew_until_current(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
        keys: &[String],
        mut found: StoredRecord,
    ) -> RedisResult<Result<StoredRecord, LedgerError>> {
        for _ in 0..TRIES {
            let (settings, hold_down) = match self.status(partition, &found) {
                EpochStatus::Current => return Ok(Ok(found)),
                EpochStatus::Refuse(why) => return Ok(Err(LedgerError::misconfigured(why))),
                EpochStatus::Renew(settings, hold_down) => (settings, hold_down),
                EpochStatus::Recover(settings) => {
                    let hold_down =
                        self.hold_down_after_loss(connection, partition, &found, &settings);
                    (settings, hold_down.await?)
                }
            };
            debug!(
                partition = partition.index(),
                lost = found.epoch.is_empty(),
                ?hold_down,
                "renewing a partition's epoch"
            );
            let settings = settings.to_string();
            found = self.renew(connection, keys, &found, hold_down, settings).await?;
            // One partition that changed is seldom alone.
            self.check_requested.notify_one();
        }
        Ok(Err(LedgerError::not_applied(
            "the partition's epoch changes faster than it can be read",
        )))
    }

    /// Renews every epoch that is not current, and corrects due times that another clock wrote.
    pub(super) async fn check_all(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        let checks = self.for_each(|partition| async move {
            let keys = self.shared.keys.state(partition);
            let found = self.repair_queues(connection, partition).await?;
            // A version conflict stands in the views by now.
            self.renew_until_current(connection, partition, &keys, found).await
        });
        checks.await.map(drop)
    }

    /// Makes due at once what is due later than it may be. Returns the epoch.
    async fn repair_queues(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
    ) -> RedisResult<StoredRecord> {
        let Shared { settings, keys, .. } = &*self.shared;
        let shared = self.shared.views().partition(partition).shared;
        let bounds = Bounds::default().among(shared);
        let due = bounds.due_horizon().max(settings.shared_settings.recovery_hold_down());
        let [epoch, freeze] = keys.state(partition);
        let keys = [epoch, freeze, keys.due(partition), keys.reconciliations(partition)];
        let mut script = self.shared.scripts.commit.key(&keys);
        script.arg("repair").arg(micros(due)).arg(micros(settings.reconcile_horizon));
        self.run(connection, &script).await?.found()
    }

    /// Replaces the epoch that was found, if it is still there, and returns what is stored then.
    async fn renew(
        &self,
        connection: &MultiplexedConnection,
        keys: &[String],
        found: &StoredRecord,
        hold_down: Duration,
        settings: String,
    ) -> RedisResult<StoredRecord> {
        let mut script = self.shared.scripts.commit.key(keys);
        script.arg("epoch").arg(&found.epoch).arg(&found.replication_id);
        script.arg(micros(hold_down)).arg(settings);
        self.run(connection, &script).await?.found()
    }

    /// The action for the epoch that was found.
    fn status(&self, partition: PartitionId, found: &StoredRecord) -> EpochStatus {
        let ours = &self.shared.settings.shared_settings;
        let epoch = self.shared.views().record(partition, &found.epoch, &found.freeze, ours);
        status::evaluate(epoch.as_ref(), found, ours, self.steps.old_clock(partition, &found.epoch))
    }

    /// Does one thing for every partition, all at once.
    async fn for_each<T, F: Future<Output = RedisResult<T>>>(
        &self,
        work: impl Fn(PartitionId) -> F,
    ) -> RedisResult<Vec<T>> {
        let partitions = self.assignment.partitions();
        try_join_all(partitions.iter().map(|&partition| work(partition))).await
    }
}
