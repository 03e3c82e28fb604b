//! Keeping the partitions' epochs true: what is missing, or was written under another server, is renewed with a hold.

use futures_util::future::try_join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tracing::{debug, warn};

use crate::ledger::keys::PartitionId;

use super::Core;
use super::epoch::Epoch;
use super::records::unexpected;
use super::scripts::{Answer, Found};

/// How often the epoch may change under our hands before we give up.
const TRIES: usize = 3;

/// What is to be done about an epoch.
enum Standing {
    Current,
    Renew,
    /// It is to be renewed, but not by us.
    Refuse(String),
}

impl Core {
    /// Makes sure that `found` is of a current epoch, renewing it if it was not. The inner error says why we may not.
    pub(super) async fn settle(
        &self,
        connection: &mut MultiplexedConnection,
        partition: PartitionId,
        keys: &[String],
        mut found: Found,
    ) -> RedisResult<Result<Found, String>> {
        for _ in 0..TRIES {
            match self.standing(partition, &found) {
                Standing::Current => return Ok(Ok(found)),
                Standing::Refuse(why) => return Ok(Err(why)),
                Standing::Renew => {}
            }
            debug!(
                partition = partition.index(),
                lost = found.epoch.is_empty(),
                "closing a partition"
            );
            found = self
                .renew(connection, keys, &found, self.settings.hold.as_micros())
                .await?;
            // One partition that changed is seldom alone.
            self.suspicion.notify_one();
        }
        Ok(Err(
            "the partition's incarnation changes faster than it can be read".to_owned()
        ))
    }

    /// Looks at every partition, and closes those whose epoch is not current.
    pub(super) async fn sweep(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        let all = PartitionId::all().map(|partition| async move {
            let (mut connection, keys) = (connection.clone(), [self.keys.epoch(partition)]);
            let found = self.look(&mut connection, &keys).await?;
            self.settle(&mut connection, partition, &keys, found).await
        });
        // A disagreement stands in the views by now.
        try_join_all(all).await?;
        let recovering = self.views().recovering(self.clock.now());
        if recovering > 0 {
            warn!(
                recovering,
                hold = ?self.settings.hold,
                "the ledger restarted, failed over or lost data: partitions grant nothing until their hold is over"
            );
        }
        Ok(())
    }

    /// Reads an epoch.
    pub(super) async fn look(&self, connection: &mut MultiplexedConnection, keys: &[String]) -> RedisResult<Found> {
        match self
            .evaluate(connection, self.scripts.commit.key(keys).arg("look"))
            .await?
        {
            Answer::Found(found) => Ok(found),
            Answer::Committed { .. } => Err(unexpected()),
        }
    }

    /// Puts a new epoch in the place of the one that was found, if it is still there, and reads what is there then.
    pub(super) async fn renew(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[String],
        found: &Found,
        hold_micros: u128,
    ) -> RedisResult<Found> {
        let mut script = self.scripts.commit.key(keys);
        script
            .arg("epoch")
            .arg(&found.epoch)
            .arg(&found.replication_id)
            .arg(hold_micros.to_string());
        script.arg(self.settings.agreement.to_string());
        match self.evaluate(connection, &script).await? {
            Answer::Found(found) => Ok(found),
            Answer::Committed { .. } => Err(unexpected()),
        }
    }

    fn standing(&self, partition: PartitionId, found: &Found) -> Standing {
        let Some(epoch) = Epoch::parse(&found.epoch) else {
            return Standing::Renew;
        };
        let ours = &self.settings.agreement;
        self.views().saw(partition, &epoch, ours);
        if epoch.replication_id == found.replication_id {
            return Standing::Current;
        }
        epoch.disagreement(ours).map_or(Standing::Renew, Standing::Refuse)
    }
}
