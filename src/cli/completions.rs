//! `completions`: prints a shell's completion script.

use std::io::{self, Write as _};

use clap_complete::{Shell, generate};

use super::error::Error;

const EXAMPLES: &str = "\
Examples:
  eni-gateway completions bash > /etc/bash_completion.d/eni-gateway
  source <(eni-gateway completions zsh)";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: Args, mut cli: clap::Command) -> Result<(), Error> {
    // Buffered, because the generator panics on a closed pipe.
    let mut script = Vec::new();
    generate(args.shell, &mut cli, "eni-gateway", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
