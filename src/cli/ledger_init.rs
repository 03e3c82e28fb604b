//! `ledger init`: says that a ledger is new.

use std::io::Write as _;

use super::error::Error;
use super::serve::Settings;
use crate::app::{self, LedgerInitError};

const EXAMPLES: &str = "\
An empty ledger looks like one that lost its data: replicas then grant nothing until everything that they could have \
forgotten has shown. This says, once, that there is nothing to forget. A ledger that holds anything is refused; to say it again of one that is \
still empty does no harm. With --unless-used it may run before each installation; never run it when a ledger may have lost its data.

Examples:
  eni-gateway ledger init --ledger-url redis://127.0.0.1:6379/0
  eni-gateway ledger init --unless-used --config /etc/eni-gateway.toml";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say that the ledger is new: nothing was lost. Refuses one that holds anything
    #[command(after_help = EXAMPLES)]
    Init(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave a ledger that holds anything as it is, and call that a success
    #[arg(long)]
    unless_used: bool,
    // Last: its heading would cover what follows.
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(Command::Init(args): Command) -> Result<(), Error> {
    let loaded = args
        .settings
        .load()
        .map_err(|faults| Error::Usage(faults.to_string()))?;
    let url = &loaded.config.ledger.url;
    match app::init_ledger(&loaded.config).await {
        Ok(()) => {
            writeln!(anstream::stdout(), "the ledger at {url} is new: replicas grant at once")?;
            Ok(())
        }
        Err(error) if args.unless_used && error.is_held() => {
            writeln!(anstream::stdout(), "nothing to do at {url}: {error}")?;
            Ok(())
        }
        Err(error) if error.is_held() => Err(Error::Failed(format!(
            "{url}: {error}\n  what to do: nothing, if it is in use: replicas go on with it, and --unless-used calls that a success"
        ))),
        Err(error) if error.is_unreachable() => Err(Error::NotReached(format!(
            "{url}: {error}\n  what to do: check ledger.url, and whether redis runs there and lets this machine in"
        ))),
        Err(error @ LedgerInitError::Memory) => Err(Error::Usage(error.to_string())),
        Err(error @ LedgerInitError::Init(_)) => Err(Error::Failed(format!("{url}: {error}"))),
        Err(error) => Err(Error::failed(&error)),
    }
}
