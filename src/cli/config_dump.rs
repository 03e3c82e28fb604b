//! `config dump`: prints the effective configuration and its sources.

use std::io::Write as _;

use super::error::Error;
use super::serve::Settings;
use crate::config::{self, dump};

const EXAMPLES: &str = "\
Examples:
  eni-gateway config dump --config /etc/eni-gateway.toml
  eni-gateway config dump > eni-gateway.toml   # all defaults, to begin with

The output is a settings file. Passwords in it are masked. A setting that is missing or wrong is a \
comment with its fault.";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print all effective settings with their sources; secrets are masked
    #[command(after_help = EXAMPLES)]
    Dump(Settings),
}

pub(super) fn run(Command::Dump(settings): Command) -> Result<(), Error> {
    let (loaded, faults) = config::read(settings.sources());
    std::io::stdout().write_all(dump::dump(&loaded, &faults).as_bytes())?;
    if faults.only_unset() { Ok(()) } else { Err(Error::Usage(faults.to_string())) }
}
