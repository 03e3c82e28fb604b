//! Epochs of an empty server, without a hold-down. An empty server looks exactly like one that lost
//! everything, so an operator has to state that the ledger is new.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::epoch::Epoch;
use crate::model::{Timestamp, random};

use super::EpochGuard;

/// A ledger that is not new.
#[derive(Debug, thiserror::Error)]
#[error("the ledger is not empty: it holds {0}")]
pub struct LedgerNotEmpty(String);

impl EpochGuard {
    /// Sets the epochs of an empty server without a hold-down. Replicas that do so at once do no
    /// harm: what they find of each other's is as new as their own.
    pub(in super::super::super) async fn open_new(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Result<(), LedgerNotEmpty>> {
        if let Err(stored) = self.ensure_new(connection).await? {
            return Ok(Err(stored));
        }
        let opened = self.for_each(|partition| async move {
            let found = self.read_epoch(connection, partition).await?;
            if found.epoch.is_empty() {
                let (keys, ours) =
                    (self.shared.keys.state(partition), &self.shared.settings.shared_settings);
                // A server may be emptied, and declared new again.
                let settings = format!("{ours} id={}", random::uuid());
                self.renew(connection, &keys, &found, Duration::ZERO, settings).await?;
            }
            Ok(())
        });
        opened.await?;
        Ok(Ok(()))
    }

    /// The inner error says what shows that the server is not new.
    pub(in super::super::super) async fn ensure_new(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Result<(), LedgerNotEmpty>> {
        if let Some(key) = self.find_stored(connection).await? {
            return Ok(Err(LedgerNotEmpty(key)));
        }
        let found = self.read_all(connection).await?;
        let old = found
            .iter()
            .find(|found| !found.epoch.is_empty() && !is_new(&found.epoch, &found.replication_id));
        Ok(match old {
            Some(found) => Err(LedgerNotEmpty(format!("the epoch '{}'", found.epoch))),
            None => Ok(()),
        })
    }

    /// A key of the ledger that holds something about attachments.
    pub(in super::super::super) async fn find_stored(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Option<String>> {
        let keys = &self.shared.keys;
        let known: Vec<String> = PartitionId::all()
            .flat_map(|partition| {
                let own = [keys.scratch(partition), keys.members(partition)];
                // They outlive the records, which they list.
                let lists = [keys.changed(partition), keys.ends(partition)];
                let own = own.into_iter().chain(lists);
                keys.scratches(partition).into_iter().chain(keys.state(partition)).chain(own)
            })
            .chain([keys.budget()])
            .collect();
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(keys.pattern()).arg("COUNT").arg(1_000);
            let (next, found): (u64, Vec<String>) =
                scan.query_async(&mut connection.clone()).await?;
            if let Some(key) = found.into_iter().find(|key| !known.contains(key)) {
                return Ok(Some(key));
            }
            if next == 0 {
                return Ok(None);
            }
            cursor = next;
        }
    }
}

/// Whether an epoch is one that [`EpochGuard::open_new`] set on the server as it runs now.
fn is_new(epoch: &str, replication_id: &str) -> bool {
    Epoch::parse(epoch).is_some_and(|epoch| {
        epoch.replication_id() == replication_id
            && epoch.hold_down_until == Timestamp::default()
            && epoch.version_conflict().is_none()
    })
}
