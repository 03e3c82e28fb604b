//! Whether a server was a replica until now. A replica that was waited for before each send has
//! every reservation, so that its promotion loses nothing that was sent.
//!
//! A server that lost its data has lost it, and so may have a primary that restarted with what it
//! had saved. The two differ by a time that gateways write while they use a primary: a promoted
//! replica has one that is younger than its process.

use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::epoch::{Epoch, SharedSettings};
use crate::ledger::redis::info::field;
use crate::ledger::redis::scripts::StoredRecord;
use crate::model::Timestamp;

use super::{EpochGuard, status};

impl EpochGuard {
    /// How long a partition is closed whose epoch another server wrote, or that has none.
    pub(super) async fn hold_down_after_loss(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
        found: &StoredRecord,
        settings: &SharedSettings,
    ) -> RedisResult<Duration> {
        let old_clock = self.steps.old_clock(partition, &found.epoch);
        Ok(match Epoch::parse(&found.epoch) {
            // Where the clock was set, it is not known how old anything is.
            Some(epoch)
                if settings.synced
                    && old_clock.is_none()
                    && self.was_replica(connection, found.now).await? =>
            {
                status::remaining_hold_down(&epoch, found.now, settings)
            }
            _ => settings.recovery_hold_down(),
        })
    }

    /// Whether a server, not used as a primary yet, has data that is newer than its own process.
    async fn was_replica(
        &self,
        connection: &MultiplexedConnection,
        now: Timestamp,
    ) -> RedisResult<bool> {
        let Some(first) = self.assignment.first_partition() else {
            return Ok(false);
        };
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(self.shared.keys.primary_seen_at(first));
        pipe.cmd("INFO").arg("server");
        let (seen_at, info): (Option<u64>, String) =
            pipe.query_async(&mut connection.clone()).await?;
        let seen_at = seen_at.map(Timestamp::from_micros).filter(|seen_at| *seen_at <= now);
        let uptime = field(&info, "uptime_in_seconds").and_then(|seconds| seconds.parse().ok());
        // Whole seconds, and another one for clocks that differ a little.
        let started =
            uptime.map(|seconds| now - Duration::from_secs(seconds) + Duration::from_secs(1));
        Ok(seen_at.zip(started).is_some_and(|(seen_at, started)| seen_at > started))
    }

    /// Writes down, where replicas are waited for, that this server is used as a primary now.
    ///
    /// Only once its epochs are current: the time would make a primary that restarted look like a
    /// promoted replica.
    pub(in super::super) async fn record_primary_seen(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
    ) -> RedisResult<()> {
        if self.shared.settings.sync_replicas > 0 {
            let keys = &self.shared.keys;
            let [epoch, freeze] = keys.state(partition);
            let keys = [epoch, freeze, keys.primary_seen_at(partition)];
            let mut script = self.shared.scripts.commit.key(&keys);
            self.run(connection, script.arg("primary_seen")).await?;
        }
        Ok(())
    }
}
