//! `completions`: prints a shell's completion script.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Cli;
use super::error::Error;

const EXAMPLES: &str = "\
Examples:
  eni-gateway completions bash > /etc/bash_completion.d/eni-gateway
  source <(eni-gateway completions zsh)";

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    // By way of memory, for the generator panics on a closed pipe.
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "eni-gateway", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
