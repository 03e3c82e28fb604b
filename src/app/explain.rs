//! What the ledger of a configuration knows of an instance.

use crate::config::Config;
use crate::ledger::explain::explain;
use crate::ledger::redis::{InspectError, peek};
use crate::model::{InstanceId, InterfaceId};

pub use crate::ledger::explain::Statement;

use super::Error;
use super::settings::{bounds, redis_settings};

/// Reads the ledger, and explains an instance, or one ENI on it. Changes nothing.
///
/// # Errors
/// The ledger is in a process's memory, unreachable, or holds what this version cannot read.
pub async fn explain_instance(
    config: &Config,
    instance: &InstanceId,
    eni: Option<&InterfaceId>,
) -> Result<Vec<Statement>, LedgerAccessError> {
    let settings = redis_settings(config)?.ok_or(LedgerAccessError::Memory)?;
    let known = peek(settings, instance).await?;
    Ok(explain(&known, instance, eni, &bounds(config)))
}

/// Why a command cannot use the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerAccessError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] Error),
    /// A ledger in memory belongs to its process.
    #[error("a memory:// ledger can be used by its own process only; set ledger.url to a redis")]
    Memory,
    /// The ledger was not reached, or refused.
    #[error(transparent)]
    Read(#[from] InspectError),
}

impl LedgerAccessError {
    /// Whether the ledger's servers are unreachable.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Read(InspectError::Unreachable(_)))
    }
}
