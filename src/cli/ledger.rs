//! The commands about the ledger.

use super::error::Error;
use super::{ledger_freeze, ledger_init};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Declare a new ledger, which lost no data. Refuses a ledger with data
    #[command(after_help = ledger_init::EXAMPLES)]
    Init(ledger_init::Args),
    /// Stop new attaches of all replicas. Attempts in flight continue, and reads are answered
    #[command(after_help = ledger_freeze::EXAMPLES)]
    Freeze(ledger_freeze::Freeze),
    /// Permit attaches again
    #[command(after_help = ledger_freeze::EXAMPLES)]
    Unfreeze(ledger_freeze::Unfreeze),
}

pub(super) async fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Init(args) => ledger_init::run(args).await,
        Command::Freeze(args) => ledger_freeze::freeze(args).await,
        Command::Unfreeze(args) => ledger_freeze::unfreeze(args).await,
    }
}
