//! Reads one instance without changing anything, for `explain`. No replica need run.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

use crate::ledger::LedgerError;
use crate::ledger::explain::Known;
use crate::ledger::keys::PartitionId;
use crate::model::{InstanceId, Timestamp};
use crate::rate_limit::{RateClass, family};

use super::errors::{describe, is_answer};
use super::inspect::InspectError;
use super::settings::RedisSettings;
use super::shared::Shared;
use super::topology;

/// Reads what is stored of an instance, and the breakers of the budget. Writes nothing but the
/// scripts into the server's cache.
///
/// # Errors
/// The ledger cannot be reached, or refuses, or the record cannot be read.
pub async fn peek(settings: RedisSettings, instance: &InstanceId) -> Result<Known, InspectError> {
    let shared = Arc::new(Shared::new(settings)?);
    let partition = PartitionId::of(instance);
    let nodes = topology::connect_all(&shared).await?;
    let holder = nodes.iter().find(|(node, _)| node.partitions().contains(&partition));
    let (node, connection) = holder.ok_or_else(|| {
        InspectError::Unreachable("no node of the cluster holds this instance".to_owned())
    })?;
    let snapshot = node.peek(connection, instance).await.map_err(|error| match error {
        LedgerError::Unreadable(outage) => InspectError::Refused {
            why: outage.why,
            remedy: "use the version that wrote the record, or a newer one",
        },
        error => InspectError::Unreachable(error.outage().why.clone()),
    })?;
    let mut breakers = Vec::new();
    for (_, connection) in &nodes {
        // A node of a cluster that does not hold the budget redirects.
        match open_breakers(connection, &shared.keys.budget()).await {
            Ok(open) => breakers.extend(open),
            Err(error) if is_answer(&error) && nodes.len() > 1 => {}
            Err(error) => return Err(InspectError::Unreachable(describe(&error))),
        }
    }
    Ok(Known { snapshot, breakers })
}

/// The families of calls whose breaker is open, and until when it lets nothing through.
async fn open_breakers(
    connection: &MultiplexedConnection,
    budget: &str,
) -> RedisResult<Vec<(&'static str, Timestamp)>> {
    let mut open = Vec::new();
    for family in [RateClass::Attach, RateClass::Describe].map(family) {
        let field = format!("{family}:blocked");
        let mut connection = connection.clone();
        let until: Option<u64> =
            cmd("HGET").arg(budget).arg(field).query_async(&mut connection).await?;
        open.extend(until.map(|until| (family, Timestamp::from_micros(until))));
    }
    Ok(open)
}
