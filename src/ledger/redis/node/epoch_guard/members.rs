//! The settings of all replicas, and when a change of them is put in force.

use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use crate::ledger::redis::epoch::{Epoch, SharedSettings};
use crate::rate_limit::micros;

use super::{EpochGuard, status};

/// How long after its last sign of life a replica's settings still count, at least.
const LEAST_LIFE: Duration = Duration::from_secs(20);

impl EpochGuard {
    /// Reports that this replica is alive, and with which settings. Puts the settings in force that
    /// all replicas together need: fewer, once a replica that needed more is gone for long enough.
    pub(in super::super) async fn register_replica(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<()> {
        let Some(partition) = self.assignment.first_partition() else {
            return Ok(());
        };
        let ours = self.shared.settings.shared_settings;
        let in_force = self.shared.views().partition(partition).shared;
        let life = in_force
            .map_or(LEAST_LIFE, |shared| shared.recovery_hold_down())
            .max(ours.recovery_hold_down())
            .max(LEAST_LIFE);
        let [epoch, freeze] = self.shared.keys.state(partition);
        let keys = [epoch, freeze, self.shared.keys.members(partition)];
        let mut script = self.shared.scripts.commit.key(&keys);
        script.arg("register").arg(ours.to_string()).arg(micros(life));
        let (found, members) = self.run(connection, &script).await?.listed()?;
        let members = members.iter().filter_map(|member| SharedSettings::parse(member));
        let wanted = members.fold(ours, SharedSettings::join);
        match differing(Epoch::parse(&found.epoch), &found.replication_id, &wanted) {
            Some(_) => self.put_in_force(connection, &wanted).await,
            None => Ok(()),
        }
    }

    /// Puts these settings in force, where the epoch is current and has others.
    async fn put_in_force(
        &self,
        connection: &MultiplexedConnection,
        wanted: &SharedSettings,
    ) -> RedisResult<()> {
        let changes = self.for_each(|partition| async move {
            let found = self.read_epoch(connection, partition).await?;
            if let Some(epoch) =
                differing(Epoch::parse(&found.epoch), &found.replication_id, wanted)
            {
                let now = self.steps.old_clock(partition, &found.epoch).unwrap_or(found.now);
                let hold_down = status::remaining_hold_down(&epoch, now, wanted);
                let keys = self.shared.keys.state(partition);
                self.renew(connection, &keys, &found, hold_down, wanted.to_string()).await?;
            }
            Ok(())
        });
        changes.await?;
        self.check_requested.notify_one();
        Ok(())
    }
}

/// The epoch, if it is this server's, and other settings than these are in force.
fn differing(epoch: Option<Epoch>, replication_id: &str, wanted: &SharedSettings) -> Option<Epoch> {
    epoch.filter(|epoch| {
        epoch.replication_id() == replication_id
            && epoch.shared_settings.is_some_and(|shared| shared != *wanted)
    })
}
