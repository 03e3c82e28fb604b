//! Creates a new ledger. An empty ledger looks exactly like one that lost everything, and would
//! begin a hold-down.

use std::sync::Arc;

use redis::RedisError;

use super::errors::{describe, is_answer};
use super::node::LedgerNotEmpty;
use super::settings::{InvalidSettings, RedisSettings};
use super::shared::Shared;
use super::topology;

/// Why a ledger was not created.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// No connection could ever be made with these settings.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// No server answers.
    #[error("the ledger is unavailable: {0}")]
    Unreachable(String),
    /// The server answers, but this user lacks a right that a ledger needs.
    #[error("the ledger's server refuses: {0}")]
    Refused(String),
    /// The server must not be used.
    #[error("the server is misconfigured: {0}")]
    Unfit(String),
    /// The ledger is not empty. It was not changed.
    #[error(transparent)]
    Held(#[from] LedgerNotEmpty),
}

impl From<RedisError> for InitError {
    fn from(error: RedisError) -> Self {
        if is_answer(&error) {
            Self::Refused(describe(&error))
        } else {
            Self::Unreachable(describe(&error))
        }
    }
}

/// Creates a new ledger, in which nothing needs to recover. A repeated call does no harm while
/// nothing is stored.
///
/// # Errors
/// Something is stored there, the server is misconfigured, or it cannot be reached.
pub async fn init(settings: RedisSettings) -> Result<(), InitError> {
    let shared = Arc::new(Shared::new(settings)?);
    let nodes = topology::connect_all(&shared).await?;
    // All or nothing, as far as possible. A cluster with data on any node is not changed.
    for (node, connection) in &nodes {
        let found = node.preflight.inspect(connection).await?;
        if !found.errors.is_empty() {
            return Err(InitError::Unfit(found.errors.join("; ")));
        }
        node.epochs.ensure_new(connection).await??;
    }
    for (node, connection) in &nodes {
        node.epochs.open_new(connection).await??;
    }
    Ok(())
}
