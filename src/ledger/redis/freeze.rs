//! Freezes a ledger, and ends its freeze.

use std::sync::Arc;

use redis::cmd;

use crate::ledger::freeze::Freeze;

use super::inspect::InspectError;
use super::settings::RedisSettings;
use super::shared::Shared;
use super::topology;

/// Freezes every partition for this reason, or with `None` ends every freeze. When it returns, no
/// replica can commit a reservation that it computed before, and as many of Redis' replicas have
/// the freeze as `ledger.sync_replicas` demands. After an error some partitions may be changed:
/// repeat it.
///
/// # Errors
/// The ledger cannot be reached, or refuses, or its replicas do not follow.
pub async fn set_freeze(settings: RedisSettings, reason: Option<&str>) -> Result<(), InspectError> {
    let shared = Arc::new(Shared::new(settings)?);
    let nodes = topology::connect_all(&shared).await?;
    let mut freeze = None;
    for (node, connection) in &nodes {
        // The text is the same in every partition. The first answer shows the time.
        node.epochs.read_all(connection).await?;
        if let (None, Some(reason)) = (&freeze, reason) {
            freeze = Some(Freeze::new(node.epochs.now(), reason));
        }
    }
    for (node, connection) in &nodes {
        node.epochs.set_freeze(connection, freeze.as_ref()).await?;
        let (wanted, patience) =
            (shared.settings.sync_replicas, shared.settings.response_timeout / 2);
        if wanted == 0 {
            continue;
        }
        let mut wait = cmd("WAIT");
        wait.arg(wanted).arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let reached: usize = wait.query_async(&mut connection.clone()).await?;
        if reached < wanted {
            return Err(InspectError::Refused {
                why: format!(
                    "{reached} of {wanted} replicas have the change: a failover may lose it"
                ),
                remedy: "connect redis' replicas, and repeat the command",
            });
        }
    }
    Ok(())
}
