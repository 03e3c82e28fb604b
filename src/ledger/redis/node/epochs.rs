//! Keeping the partitions' epochs true: what is missing, or was written under another server, is renewed with a hold.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tracing::debug;

use crate::ledger::Unavailable;
use crate::ledger::keys::PartitionId;
use crate::model::Timestamp;

use super::super::epoch::Epoch;
use super::super::scripts::{Answer, Found};
use super::Node;
use super::fitness::fact;
use super::link::Operation;
use super::records::unexpected;

/// How often the epoch may change under our hands before we give up.
const TRIES: usize = 3;

/// What is to be done about an epoch.
enum Standing {
    Current,
    Renew,
    /// It is to be renewed, but not by us.
    Refuse(String),
}

impl Node {
    /// What was found, if it is of a current epoch; otherwise what is there once that was renewed. To renew it takes several trips,
    /// for which one call may have no time: they are a call of their own.
    pub(super) async fn current(
        &self,
        partition: PartitionId,
        keys: &[String],
        found: Found,
    ) -> Result<Found, Unavailable> {
        if matches!(self.standing(partition, &found), Standing::Current) {
            return Ok(found);
        }
        let settled = self
            .link
            .call_patiently(Operation::Commit, |mut connection| async move {
                self.settle(&mut connection, partition, keys, found).await
            });
        settled.await?
    }

    /// Makes sure that `found` is of a current epoch, renewing it if it was not. The inner error says why we may not.
    async fn settle(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
        keys: &[String],
        mut found: Found,
    ) -> RedisResult<Result<Found, Unavailable>> {
        for _ in 0..TRIES {
            match self.standing(partition, &found) {
                Standing::Current => return Ok(Ok(found)),
                Standing::Refuse(why) => return Ok(Err(Unavailable::unfit(why))),
                Standing::Renew => {}
            }
            let hold = self.hold_for(connection, &found).await?;
            debug!(
                partition = partition.index(),
                lost = found.epoch.is_empty(),
                "closing a partition"
            );
            found = self.renew(connection, keys, &found, hold).await?;
            // One partition that changed is seldom alone.
            self.suspicion.notify_one();
        }
        Ok(Err(Unavailable::before(
            "the partition's incarnation changes faster than it can be read",
        )))
    }

    /// Looks at every partition, and closes those whose epoch is not current.
    pub(super) async fn sweep(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        let partitions = self.partitions();
        let all = partitions.iter().map(|&partition| async move {
            let (mut connection, keys) = (connection.clone(), [self.shared.keys.epoch(partition)]);
            let found = self.look(&mut connection, &keys).await?;
            self.settle(&mut connection, partition, &keys, found).await
        });
        // A disagreement stands in the views by now.
        try_join_all(all).await.map(drop)
    }

    /// Reads an epoch.
    pub(in super::super) async fn look(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[String],
    ) -> RedisResult<Found> {
        match self
            .evaluate(connection, self.shared.scripts.commit.key(keys).arg("look"))
            .await?
        {
            Answer::Found(found) => Ok(found),
            Answer::Committed { .. } => Err(unexpected()),
        }
    }

    /// Puts a new epoch in the place of the one that was found, if it is still there, and reads what is there then.
    pub(in super::super) async fn renew(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[String],
        found: &Found,
        hold: Duration,
    ) -> RedisResult<Found> {
        let mut script = self.shared.scripts.commit.key(keys);
        script
            .arg("epoch")
            .arg(&found.epoch)
            .arg(&found.replication_id)
            .arg(hold.as_micros().to_string());
        script.arg(self.shared.settings.agreement.to_string());
        match self.evaluate(connection, &script).await? {
            Answer::Found(found) => Ok(found),
            Answer::Committed { .. } => Err(unexpected()),
        }
    }

    /// How long a partition is closed whose epoch was found so. Replicas that are waited for before each send have every
    /// reservation: then a promoted one has lost nothing that was sent. A server that lost its data has, and so may have a primary
    /// that restarted with what it had saved.
    async fn hold_for(&self, connection: &mut MultiplexedConnection, found: &Found) -> RedisResult<Duration> {
        let settings = &self.shared.settings;
        Ok(match Epoch::parse(&found.epoch) {
            Some(epoch) if settings.sync_replicas > 0 && self.was_replica(connection, found.now).await? => {
                epoch.hold_until.since(found.now)
            }
            _ => settings.hold,
        })
    }

    /// Whether a server, not used as a primary yet, has data that came by replication: newer than its own process.
    async fn was_replica(&self, connection: &mut MultiplexedConnection, now: Timestamp) -> RedisResult<bool> {
        let Some(partition) = self.partitions().first().copied() else {
            return Ok(false);
        };
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(self.shared.keys.mark(partition));
        pipe.cmd("INFO").arg("server");
        let (mark, info): (Option<u64>, String) = pipe.query_async(connection).await?;
        let uptime = fact(&info, "uptime_in_seconds").and_then(|seconds| seconds.parse().ok());
        // Whole seconds, and another one for clocks that differ a little.
        let started = uptime.map(|seconds| now - Duration::from_secs(seconds) + Duration::from_secs(1));
        Ok(mark
            .zip(started)
            .is_some_and(|(mark, started)| Timestamp::from_micros(mark) > started))
    }

    /// Writes down, where replicas are waited for, that this server is used as a primary now. Only once its epochs are current: the
    /// mark would pass a primary that restarted off as a promoted replica.
    pub(super) async fn mark(&self, connection: &mut MultiplexedConnection, partition: PartitionId) -> RedisResult<()> {
        if self.shared.settings.sync_replicas > 0 {
            let keys = [self.shared.keys.epoch(partition), self.shared.keys.mark(partition)];
            self.evaluate(
                connection,
                self.shared.scripts.commit.key(&keys[0]).key(&keys[1]).arg("mark"),
            )
            .await?;
        }
        Ok(())
    }

    fn standing(&self, partition: PartitionId, found: &Found) -> Standing {
        let Some(epoch) = Epoch::parse(&found.epoch) else {
            return Standing::Renew;
        };
        let ours = &self.shared.settings.agreement;
        self.shared.views().saw(partition, &epoch, ours);
        if epoch.replication_id == found.replication_id {
            return Standing::Current;
        }
        epoch.disagreement(ours).map_or(Standing::Renew, Standing::Refuse)
    }
}
