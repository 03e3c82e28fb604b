//! The stop of new attaches.

use crate::config::Config;
use crate::ledger::redis::set_freeze;

use super::explain::LedgerAccessError;
use super::settings::redis_settings;

/// Stops new attaches of all replicas for this reason. With `None`, permits them again.
///
/// # Errors
/// The ledger is in a process's memory, unreachable, or refuses. A part of it may be changed then.
pub async fn freeze_ledger(config: &Config, reason: Option<&str>) -> Result<(), LedgerAccessError> {
    let settings = redis_settings(config)?.ok_or(LedgerAccessError::Memory)?;
    Ok(set_freeze(settings, reason).await?)
}
