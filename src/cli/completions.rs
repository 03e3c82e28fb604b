//! `completions`: prints a shell's completion script.

use std::io::{self, Write as _};

use clap_complete::{Shell, generate};

use super::error::Error;

const EXAMPLES: &str = "\
Examples:
  eni-gateway completions bash > /etc/bash_completion.d/eni-gateway
  eni-gateway completions zsh > \"${fpath[1]}/_eni-gateway\"
  eni-gateway completions fish > ~/.config/fish/completions/eni-gateway.fish
  source <(eni-gateway completions bash)  # this shell; in zsh after compinit";

/// The program's name in the script's states, and the form that clap_complete writes in its arms.
/// The two differ for a name with a dash (clap-rs/clap#6421), so no arm would match.
const BASH_STATE: (&str, &str) = ("eni__gateway", "eni__subcmd__gateway");

/// The beginning of a repeated argument in a script for zsh, and the one behind which options are
/// completed, too. clap_complete writes the first.
const ZSH_REPEATED: (&str, &str) = ("\n'*::", "\n'*:");

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
    let correction = match args.shell {
        Shell::Bash => Some((BASH_STATE.1, BASH_STATE.0)),
        Shell::Zsh => Some(ZSH_REPEATED),
        _ => None,
    };
    if let Some((written, correct)) = correction {
        script = String::from_utf8_lossy(&script).replace(written, correct).into_bytes();
    }
    Ok(io::stdout().write_all(&script)?)
}
