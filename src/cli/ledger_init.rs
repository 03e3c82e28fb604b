//! `ledger init`: marks a ledger as new.

use super::error::Error;
use super::serve::Settings;
use super::style::print_result;
use crate::app::{self, LedgerInitError};

pub(super) const EXAMPLES: &str = "\
An empty ledger looks like one that lost its data, and starts with a recovery hold-down. This \
command declares, once, that the ledger is new. It refuses a ledger with data. A repeat on a \
ledger that is still empty is safe. With --unless-used it can run before each installation. Never \
run it when a ledger may have lost its data.

Examples:
  eni-gateway ledger init --ledger-url redis://127.0.0.1:6379/0
  eni-gateway ledger init --unless-used --config /etc/eni-gateway.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Succeed without a change if the ledger has data
    #[arg(long)]
    unless_used: bool,
    // Last, because its heading would cover further options.
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let loaded = args.settings.load().map_err(|faults| Error::Usage(faults.to_string()))?;
    let url = &loaded.config.ledger.url;
    match app::init_ledger(&loaded.config).await {
        Ok(()) => {
            print_result(&format!(
                "the ledger at {url} is new: replicas start without a recovery hold-down"
            ))?;
            Ok(())
        }
        Err(error) if args.unless_used && error.is_held() => {
            print_result(&format!("nothing to do at {url}: {error}"))?;
            Ok(())
        }
        Err(error) if error.is_held() => Err(Error::Failed(format!(
            "{url}: {error}\n  what to do: none, if it is in use; --unless-used counts that as success"
        ))),
        Err(error) if error.is_unreachable() => Err(Error::ledger_not_reached(url, error)),
        Err(error @ LedgerInitError::Memory) => Err(Error::Usage(error.to_string())),
        Err(error @ LedgerInitError::Init(_)) => Err(Error::Failed(format!("{url}: {error}"))),
        Err(error) => Err(Error::failed(&error)),
    }
}
