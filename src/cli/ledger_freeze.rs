//! `ledger freeze` and `ledger unfreeze`: stop new attaches, and permit them again.

use super::error::Error;
use super::serve::Settings;
use super::style::print_result;
use crate::app::freeze::freeze_ledger;

pub(super) const EXAMPLES: &str = "\
In a frozen ledger no replica begins an attach. Callers receive FROZEN with the reason. Attempts \
in flight continue to their end, also by a resend. The freeze outlasts replicas and rollouts, until \
`ledger unfreeze`. Both can be repeated. `eni-gateway check` and /readyz show a freeze.

Examples:
  eni-gateway ledger freeze --reason 'network change 4711' \\
    --config /etc/eni-gateway.toml
  eni-gateway ledger unfreeze --config /etc/eni-gateway.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Freeze {
    /// What callers and operators read: up to 256 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    // Last, because its heading would cover further options.
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn freeze(args: Freeze) -> Result<(), Error> {
    let url = set(args.settings, Some(&args.reason)).await?;
    print_result(&format!(
        "the ledger at {url} is frozen: no replica begins an attach, and those in flight continue"
    ))?;
    Ok(())
}

pub(super) async fn unfreeze(args: Unfreeze) -> Result<(), Error> {
    let url = set(args.settings, None).await?;
    print_result(&format!("the ledger at {url} is not frozen: replicas begin attaches"))?;
    Ok(())
}

/// Sets the freeze. Returns the ledger's URL.
async fn set(settings: Settings, reason: Option<&str>) -> Result<String, Error> {
    let loaded = settings.load().map_err(|faults| Error::Usage(faults.to_string()))?;
    let url = &loaded.config.ledger.url;
    freeze_ledger(&loaded.config, reason).await.map_err(|error| Error::of_ledger(url, error))?;
    Ok(url.to_string())
}
