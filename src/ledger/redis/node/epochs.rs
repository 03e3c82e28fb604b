//! Keeping the partitions' epochs true. One that is missing, or was written under another server, is renewed with a hold; one that was
//! written by another clock, or does not cover this replica's settings, is renewed without one: nothing was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::ledger::bounds::CLOCK_TOLERANCE;
use crate::ledger::keys::PartitionId;
use crate::ledger::{Bounds, ClockSteps, LedgerError};
use crate::model::Timestamp;
use crate::rate_limit::micros;

use super::super::epoch::{Epoch, SharedSettings};
use super::super::scripts::{ScriptReply, StoredRecord};
use super::Node;
use super::clock::ClockStep;
use super::connection::Operation;
use super::preflight::fact;
use super::records::unexpected;

/// How often the epoch may change under our hands before we give up.
const TRIES: usize = 3;
/// How long a renewal without a hold closes a partition: only the epoch's text must be another one.
const NO_HOLD_DOWN: Duration = Duration::from_micros(1);
/// How long after its last sign of life a replica's settings still count, at least.
const LEAST_LIFE: Duration = Duration::from_secs(20);
/// How long a step of the server's clock is reported.
const STEP_REPORTED: Duration = Duration::from_secs(600);

/// Steps of the server's clock, as this replica saw them.
#[derive(Debug, Default)]
pub(super) struct Steps {
    seen: ClockSteps,
    last: Option<(Instant, ClockStep)>,
    /// The epochs that were in force when the last one was seen: their times are by the old clock.
    stale: BTreeMap<PartitionId, String>,
}

/// What is to be done about an epoch.
enum EpochStatus {
    Current,
    /// Another one takes its place, with these settings and this hold.
    Renew(SharedSettings, Duration),
    /// The same, with the hold that a loss calls for.
    Recover(SharedSettings),
    /// It is not to be renewed by us.
    Refuse(String),
}

impl Node {
    /// What was found, if it is of a current epoch; otherwise what is there once that was renewed. To renew it takes several trips,
    /// for which one call may have no time: they are a call of their own.
    pub(super) async fn current(
        &self,
        partition: PartitionId,
        keys: &[String],
        found: StoredRecord,
    ) -> Result<StoredRecord, LedgerError> {
        if matches!(self.epoch_status(partition, &found), EpochStatus::Current) {
            return Ok(found);
        }
        let settled = self
            .connection
            .call_patiently(Operation::Commit, |mut connection| async move {
                self.resolve_epoch(&mut connection, partition, keys, found).await
            });
        settled.await?
    }

    /// Makes sure that `found` is of a current epoch, renewing it if it was not. The inner error says why we may not.
    async fn resolve_epoch(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
        keys: &[String],
        mut found: StoredRecord,
    ) -> RedisResult<Result<StoredRecord, LedgerError>> {
        for _ in 0..TRIES {
            let (agreement, hold) = match self.epoch_status(partition, &found) {
                EpochStatus::Current => return Ok(Ok(found)),
                EpochStatus::Refuse(why) => return Ok(Err(LedgerError::misconfigured(why))),
                EpochStatus::Renew(agreement, hold) => (agreement, hold),
                EpochStatus::Recover(agreement) => (
                    agreement,
                    self.hold_down_for(connection, partition, &found, &agreement).await?,
                ),
            };
            debug!(
                partition = partition.index(),
                lost = found.epoch.is_empty(),
                ?hold,
                "renewing a partition's epoch"
            );
            found = self.renew(connection, keys, &found, hold, &agreement).await?;
            // One partition that changed is seldom alone.
            self.epoch_check_requested.notify_one();
        }
        Ok(Err(LedgerError::not_applied(
            "the partition's epoch changes faster than it can be read",
        )))
    }

    /// Looks at every partition: renews epochs that are not current, and puts right what another clock put into its queues.
    pub(super) async fn check_all_epochs(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        let partitions = self.partitions();
        let all = partitions.iter().map(|&partition| async move {
            let (mut connection, keys) = (connection.clone(), [self.shared.keys.epoch(partition)]);
            let found = self.repair_queues(&mut connection, partition).await?;
            self.resolve_epoch(&mut connection, partition, &keys, found).await
        });
        // A disagreement stands in the views by now.
        try_join_all(all).await.map(drop)
    }

    async fn repair_queues(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
    ) -> RedisResult<StoredRecord> {
        let settings = &self.shared.settings;
        let shared = self.shared.views().partition(partition).shared;
        let due = Bounds::default()
            .among(shared)
            .due_horizon()
            .max(settings.agreement.recovery_hold_down());
        let mut script = self.shared.scripts.commit.key(self.shared.keys.epoch(partition));
        script
            .key(self.shared.keys.due(partition))
            .key(self.shared.keys.reconciliations(partition));
        script
            .arg("tend")
            .arg(micros(due))
            .arg(micros(settings.reconcile_horizon));
        match self.evaluate(connection, &script).await? {
            ScriptReply::Found(found) => Ok(found),
            ScriptReply::Committed { .. } | ScriptReply::Attended(..) => Err(unexpected()),
        }
    }

    /// Says that this replica is alive, and with which settings; and has those of all that are in force: no more, once one that asked
    /// for more is gone for long enough.
    pub(super) async fn register_replica(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Some(partition) = self.partitions().first().copied() else {
            return Ok(());
        };
        let ours = self.shared.settings.agreement;
        let shared = self.shared.views().partition(partition).shared;
        let life = shared
            .map_or(LEAST_LIFE, |shared| shared.recovery_hold_down())
            .max(ours.recovery_hold_down())
            .max(LEAST_LIFE);
        let keys = &self.shared.keys;
        let mut script = self.shared.scripts.commit.key(keys.epoch(partition));
        script.key(keys.members(partition));
        script.arg("attend").arg(ours.to_string()).arg(micros(life));
        let ScriptReply::Attended(found, members) = self.evaluate(connection, &script).await? else {
            return Err(unexpected());
        };
        let members = members.iter().filter_map(|member| SharedSettings::parse(member));
        let wanted = members.fold(ours, SharedSettings::join);
        let current = Epoch::parse(&found.epoch).filter(|epoch| epoch.replication_id == found.replication_id);
        if current
            .and_then(|epoch| epoch.agreement)
            .is_some_and(|shared| shared != wanted)
        {
            self.publish_settings(connection, &wanted).await?;
        }
        Ok(())
    }

    /// Puts these settings in force, where the epoch is current and has others.
    async fn publish_settings(&self, connection: &MultiplexedConnection, wanted: &SharedSettings) -> RedisResult<()> {
        let partitions = self.partitions();
        let all = partitions.iter().map(|&partition| async move {
            let (mut connection, keys) = (connection.clone(), [self.shared.keys.epoch(partition)]);
            let found = self.read_epoch(&mut connection, &keys).await?;
            if let Some(epoch) = Epoch::parse(&found.epoch)
                && epoch.replication_id == found.replication_id
                && epoch.agreement.is_some_and(|shared| shared != *wanted)
            {
                let hold = self.remaining_hold_down(partition, &found, &epoch, wanted);
                self.renew(&mut connection, &keys, &found, hold, wanted).await?;
            }
            RedisResult::Ok(())
        });
        try_join_all(all).await?;
        self.epoch_check_requested.notify_one();
        Ok(())
    }

    /// The server's clock was set: what was written by the old one is of another epoch.
    pub(super) fn clock_was_set(&self, step: ClockStep) {
        let seconds = step.by as f64 / 1e6;
        warn!(
            seconds,
            "redis' clock was set: locks and observations are void, and times that protect restart"
        );
        let views = self.shared.views();
        let stale = self
            .partitions()
            .iter()
            .map(|&partition| (partition, views.partition(partition).epoch))
            .collect();
        drop(views);
        let mut steps = self.steps();
        match step.by {
            ..0 => steps.seen.back += 1,
            0.. => steps.seen.forward += 1,
        }
        steps.last = Some((Instant::now(), step));
        steps.stale = stale;
        drop(steps);
        self.epoch_check_requested.notify_one();
    }

    /// How often the server's clock was seen to be set.
    pub(in super::super) fn clock_steps(&self) -> ClockSteps {
        self.steps().seen
    }

    /// What people should know of the server's clock.
    pub(super) fn clock_warning(&self) -> Option<String> {
        let (at, step) = self.steps().last.filter(|(at, _)| at.elapsed() < STEP_REPORTED)?;
        let (seconds, side) = (
            (step.by as f64 / 1e6).abs(),
            if step.by < 0 { "back" } else { "forward" },
        );
        Some(format!(
            "redis' clock was set {side} by {seconds:.1} s, {} s ago: synchronise it without steps (ntp)",
            at.elapsed().as_secs()
        ))
    }

    /// Reads an epoch.
    pub(in super::super) async fn read_epoch(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[String],
    ) -> RedisResult<StoredRecord> {
        match self
            .evaluate(connection, self.shared.scripts.commit.key(keys).arg("look"))
            .await?
        {
            ScriptReply::Found(found) => Ok(found),
            ScriptReply::Committed { .. } | ScriptReply::Attended(..) => Err(unexpected()),
        }
    }

    /// Puts a new epoch in the place of the one that was found, if it is still there, and reads what is there then.
    pub(in super::super) async fn renew(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[String],
        found: &StoredRecord,
        hold: Duration,
        agreement: &SharedSettings,
    ) -> RedisResult<StoredRecord> {
        let mut script = self.shared.scripts.commit.key(keys);
        script
            .arg("epoch")
            .arg(&found.epoch)
            .arg(&found.replication_id)
            .arg(hold.as_micros().to_string());
        script.arg(agreement.to_string());
        match self.evaluate(connection, &script).await? {
            ScriptReply::Found(found) => Ok(found),
            ScriptReply::Committed { .. } | ScriptReply::Attended(..) => Err(unexpected()),
        }
    }

    /// How long a partition is closed whose epoch was found so. Replicas that are waited for before each send have every
    /// reservation: then a promoted one has lost nothing that was sent. A server that lost its data has, and so may have a primary
    /// that restarted with what it had saved.
    async fn hold_down_for(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
        found: &StoredRecord,
        agreement: &SharedSettings,
    ) -> RedisResult<Duration> {
        Ok(match Epoch::parse(&found.epoch) {
            Some(epoch) if agreement.synced && self.was_replica(connection, partition, found).await? => {
                self.remaining_hold_down(partition, found, &epoch, agreement)
            }
            _ => agreement.recovery_hold_down(),
        })
    }

    /// How long a partition stays closed whose epoch is renewed for another reason than a loss: a hold that is not over begins again.
    /// Where the server's clock was set, its end is by the old clock.
    fn remaining_hold_down(
        &self,
        partition: PartitionId,
        found: &StoredRecord,
        epoch: &Epoch<'_>,
        agreement: &SharedSettings,
    ) -> Duration {
        let before = self.steps().last.map(|(_, step)| step.before);
        let now = before
            .filter(|_| self.is_stale(partition, &found.epoch))
            .unwrap_or(found.now);
        if epoch.hold_until > now {
            agreement.recovery_hold_down()
        } else {
            NO_HOLD_DOWN
        }
    }

    /// Whether a server, not used as a primary yet, has data that came by replication: newer than its own process. Not known where its
    /// clock was set.
    async fn was_replica(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
        found: &StoredRecord,
    ) -> RedisResult<bool> {
        let Some(first) = self.partitions().first().copied() else {
            return Ok(false);
        };
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(self.shared.keys.primary_seen_at(first));
        pipe.cmd("INFO").arg("server");
        let (mark, info): (Option<u64>, String) = pipe.query_async(connection).await?;
        let mark = mark.map(Timestamp::from_micros);
        if self.is_stale(partition, &found.epoch) || mark.is_some_and(|mark| mark > found.now) {
            return Ok(false);
        }
        let uptime = fact(&info, "uptime_in_seconds").and_then(|seconds| seconds.parse().ok());
        // Whole seconds, and another one for clocks that differ a little.
        let started = uptime.map(|seconds| found.now - Duration::from_secs(seconds) + Duration::from_secs(1));
        Ok(mark.zip(started).is_some_and(|(mark, started)| mark > started))
    }

    /// Whether this epoch was in force when the server's clock was set.
    fn is_stale(&self, partition: PartitionId, epoch: &str) -> bool {
        self.steps().stale.get(&partition).is_some_and(|stale| stale == epoch)
    }

    /// Writes down, where replicas are waited for, that this server is used as a primary now. Only once its epochs are current: the
    /// mark would pass a primary that restarted off as a promoted replica.
    pub(super) async fn mark_primary_seen(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
    ) -> RedisResult<()> {
        if self.shared.settings.sync_replicas > 0 {
            let keys = [
                self.shared.keys.epoch(partition),
                self.shared.keys.primary_seen_at(partition),
            ];
            self.evaluate(
                connection,
                self.shared.scripts.commit.key(&keys[0]).key(&keys[1]).arg("mark"),
            )
            .await?;
        }
        Ok(())
    }

    fn epoch_status(&self, partition: PartitionId, found: &StoredRecord) -> EpochStatus {
        let ours = self.shared.settings.agreement;
        let Some(epoch) = Epoch::parse(&found.epoch) else {
            return EpochStatus::Recover(ours);
        };
        self.shared.views().saw(partition, &epoch, &ours);
        let same_server = epoch.replication_id == found.replication_id;
        let Some(shared) = epoch.agreement else {
            return match epoch.disagreement() {
                Some(why) if !same_server => EpochStatus::Refuse(why),
                _ => EpochStatus::Current,
            };
        };
        let agreement = shared.join(ours);
        if !same_server {
            return EpochStatus::Recover(agreement);
        }
        let is_stale = self.is_stale(partition, &found.epoch);
        // Longer than any hold: by another clock, which no replica saw change.
        let is_far = epoch.hold_until > found.now + agreement.recovery_hold_down() + CLOCK_TOLERANCE;
        if agreement != shared || is_stale || is_far {
            return EpochStatus::Renew(
                agreement,
                self.remaining_hold_down(partition, found, &epoch, &agreement),
            );
        }
        EpochStatus::Current
    }
}
