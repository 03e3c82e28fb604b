//! Saying that a ledger is new. An empty one looks exactly like one that lost everything, and would be closed for a hold.

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, cmd};

use crate::ledger::keys::PartitionId;

use super::epoch::Epoch;
use super::link::{describe, is_answer};
use super::{Core, InvalidSettings, RedisSettings, fitness};

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
    #[error("the server is unfit: {0}")]
    Unfit(String),
    /// There is something: it stays as it is.
    #[error(transparent)]
    Held(#[from] Held),
}

/// A ledger that is not new.
#[derive(Debug, thiserror::Error)]
#[error("the ledger is not empty: it holds {0}")]
pub struct Held(String);

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
/// Something is held there, the server is unfit, or it cannot be reached.
pub async fn init(settings: RedisSettings) -> Result<(), InitError> {
    let core = Core::new(settings)?;
    let mut connection = core.link.connect().await?;
    core.scripts.load(&mut connection).await?;
    let found = fitness::examine(&mut connection).await?;
    if !found.unfit.is_empty() {
        return Err(InitError::Unfit(found.unfit.join("; ")));
    }
    Ok(begin(&core, &mut connection).await??)
}

/// Sets the epochs of an empty ledger without a hold. Replicas that begin at once do no harm: what they find of each other's is
/// as new as their own.
pub(super) async fn begin(core: &Core, connection: &mut MultiplexedConnection) -> RedisResult<Result<(), Held>> {
    if let Some(key) = find_stored(core, connection).await? {
        return Ok(Err(Held(key)));
    }
    let looked = try_join_all(PartitionId::all().map(|partition| {
        let (mut connection, keys) = (connection.clone(), [core.keys.epoch(partition)]);
        async move { RedisResult::Ok((core.look(&mut connection, &keys).await?, keys)) }
    }));
    let (missing, found): (Vec<_>, Vec<_>) = looked.await?.into_iter().partition(|(found, _)| found.epoch.is_empty());
    if let Some((found, _)) = found
        .iter()
        .find(|(found, _)| !is_new(core, &found.epoch, &found.replication_id))
    {
        return Ok(Err(Held(format!("the epoch '{}'", found.epoch))));
    }
    let made = missing.into_iter().map(|(found, keys)| {
        let mut connection = connection.clone();
        async move { core.renew(&mut connection, &keys, &found, 0).await }
    });
    try_join_all(made).await?;
    Ok(Ok(()))
}

/// Whether an epoch is one that [`begin`] set on the server as it runs now.
fn is_new(core: &Core, epoch: &str, replication_id: &str) -> bool {
    Epoch::parse(epoch).is_some_and(|epoch| {
        epoch.replication_id == replication_id
            && epoch.hold_until == crate::model::Timestamp::default()
            && epoch.disagreement(&core.settings.agreement).is_none()
    })
}

/// A key of ours that is neither an epoch nor the budget.
pub(super) async fn find_stored(core: &Core, connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    let known: Vec<String> = PartitionId::all()
        .map(|partition| core.keys.epoch(partition))
        .chain([core.keys.budget()])
        .collect();
    let mut cursor = 0_u64;
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(core.keys.pattern())
            .arg("COUNT")
            .arg(1_000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(connection).await?;
        if let Some(key) = keys.into_iter().find(|key| !known.contains(key)) {
            return Ok(Some(key));
        }
        if next == 0 {
            return Ok(None);
        }
        cursor = next;
    }
}
