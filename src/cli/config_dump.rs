//! `config dump`: prints the effective configuration and its sources.

use std::io::Write as _;

use super::error::Error;
use super::serve::Settings;
use crate::config::dump;

const EXAMPLES: &str = "\
Examples:
  eni-gateway config dump --config /etc/eni-gateway.toml
  eni-gateway config dump --ledger-url memory:// > eni-gateway.toml   # all defaults, to begin with

The output is a settings file. Passwords in it are masked.";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print all effective settings with their sources; secrets are masked
    #[command(after_help = EXAMPLES)]
    Dump(Settings),
}

pub(super) fn run(Command::Dump(settings): Command) -> Result<(), Error> {
    let loaded = settings.load().map_err(|faults| Error::Usage(faults.to_string()))?;
    std::io::stdout().write_all(dump::dump(&loaded).as_bytes())?;
    Ok(())
}
