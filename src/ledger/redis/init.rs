//! Saying that a ledger is new. An empty one looks exactly like one that lost everything, and would be closed for a hold.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, cmd};

use crate::ledger::keys::PartitionId;

use super::epoch::Epoch;
use super::node::connection::{describe, is_answer};
use super::node::{Node, preflight};
use super::{InvalidSettings, RedisSettings, Shared, topology};

/// Why a ledger was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// No connection could ever be made so.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// Nobody answers.
    #[error("the ledger cannot be reached: {0}")]
    Unreachable(String),
    /// The server answers, and does not let this user do what a ledger needs.
    #[error("the ledger's server refuses: {0}")]
    Refused(String),
    /// The server must not be used.
    #[error("the server is misconfigured: {0}")]
    Unfit(String),
    /// There is something: it stays as it is.
    #[error(transparent)]
    Held(#[from] LedgerNotEmpty),
}

/// A ledger that is not new.
#[derive(Debug, thiserror::Error)]
#[error("the ledger is not empty: it holds {0}")]
pub struct LedgerNotEmpty(String);

impl From<RedisError> for InitError {
    fn from(error: RedisError) -> Self {
        match is_answer(&error) {
            true => Self::Refused(describe(&error)),
            false => Self::Unreachable(describe(&error)),
        }
    }
}

/// Makes a new ledger, in which nothing needs to recover. Done twice it is done once, as long as nothing was stored.
///
/// # Errors
/// Something is held there, the server is misconfigured, or it cannot be reached.
pub async fn init(settings: RedisSettings) -> Result<(), InitError> {
    let shared = Arc::new(Shared::new(settings)?);
    let mut nodes = topology::connect_all(&shared).await?;
    // All or nothing, as far as that goes: a cluster of which one node holds something is left alone.
    for (node, connection) in &mut nodes {
        let found = preflight::inspect(node, connection).await?;
        if !found.errors.is_empty() {
            return Err(InitError::Unfit(found.errors.join("; ")));
        }
        if let Some(held) = held(node, connection).await? {
            return Err(InitError::Held(held));
        }
    }
    for (node, connection) in &mut nodes {
        begin(node, connection).await??;
    }
    Ok(())
}

/// Sets the epochs of an empty server without a hold. Replicas that begin at once do no harm: what they find of each other's is
/// as new as their own.
pub(super) async fn begin(
    node: &Node,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Result<(), LedgerNotEmpty>> {
    if let Some(held) = held(node, connection).await? {
        return Ok(Err(held));
    }
    let partitions = node.partitions();
    let made = partitions.iter().map(|&partition| {
        let (mut connection, keys) = (connection.clone(), [node.shared.keys.epoch(partition)]);
        async move {
            let found = node.read_epoch(&mut connection, &keys).await?;
            match found.epoch.is_empty() {
                true => node
                    .renew(
                        &mut connection,
                        &keys,
                        &found,
                        Duration::ZERO,
                        &node.shared.settings.agreement,
                    )
                    .await
                    .map(drop),
                false => Ok(()),
            }
        }
    });
    try_join_all(made).await?;
    Ok(Ok(()))
}

/// What says that a server is not new, if anything does.
async fn held(node: &Node, connection: &mut MultiplexedConnection) -> RedisResult<Option<LedgerNotEmpty>> {
    if let Some(key) = find_stored(node, connection).await? {
        return Ok(Some(LedgerNotEmpty(key)));
    }
    let partitions = node.partitions();
    let looked = try_join_all(partitions.iter().map(|&partition| {
        let (mut connection, keys) = (connection.clone(), [node.shared.keys.epoch(partition)]);
        async move { node.read_epoch(&mut connection, &keys).await }
    }));
    let found = looked.await?;
    let old = found
        .iter()
        .filter(|found| !found.epoch.is_empty())
        .find(|found| !is_new(&found.epoch, &found.replication_id));
    Ok(old.map(|found| LedgerNotEmpty(format!("the epoch '{}'", found.epoch))))
}

/// Whether an epoch is one that [`begin`] set on the server as it runs now.
fn is_new(epoch: &str, replication_id: &str) -> bool {
    Epoch::parse(epoch).is_some_and(|epoch| {
        epoch.replication_id == replication_id
            && epoch.hold_until == crate::model::Timestamp::default()
            && epoch.disagreement().is_none()
    })
}

/// A key of ours that says something of attachments.
pub(super) async fn find_stored(node: &Node, connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    let keys = &node.shared.keys;
    let known: Vec<String> = PartitionId::all()
        .flat_map(|partition| {
            let tried = keys.scratches(partition);
            tried
                .into_iter()
                .chain([keys.epoch(partition), keys.scratch(partition), keys.members(partition)])
        })
        .chain([keys.budget()])
        .collect();
    let mut cursor = 0_u64;
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(keys.pattern())
            .arg("COUNT")
            .arg(1_000);
        let (next, found): (u64, Vec<String>) = scan.query_async(connection).await?;
        if let Some(key) = found.into_iter().find(|key| !known.contains(key)) {
            return Ok(Some(key));
        }
        if next == 0 {
            return Ok(None);
        }
        cursor = next;
    }
}
