//! The command line. Each command has a file with its arguments and its code.
//!
//! Every failure ends with the exit code of its kind ([`Exit`]), and a message on stderr.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser, Subcommand};

mod advice;
mod attach;
mod attach_args;
mod attach_batch;
mod capacity;
mod check;
mod client;
mod completions;
mod config_dump;
mod coverage;
pub mod demo;
mod descriptors;
mod error;
mod exit;
mod explain;
mod follow;
mod follow_fleet;
mod get;
mod json;
mod ledger;
mod ledger_freeze;
mod ledger_init;
mod list;
mod output;
mod policy_check;
mod reconnect;
mod refusal;
mod resume;

mod serve;
mod simulate;
mod states;
mod style;
mod table;
mod watch;

use error::Error;
pub use exit::Exit;
use output::Format;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ENI_GATEWAY_COMMIT"), ")");

const AFTER_HELP: &str = "\
Exit codes:
  0   done
  1   failed or refused
  64  wrong usage or configuration
  69  the gateway, Redis or ENS cannot be reached
  75  temporary: try again
  77  not permitted, by the gateway or by ENS

There are no colours if NO_COLOR is set or the output is not a terminal.";

/// Attaches elastic network interfaces (ENIs) to Alibaba Cloud ENS instances, never past an
/// instance's limit.
#[derive(Debug, Parser)]
#[command(name = "eni-gateway", version = VERSION, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Args),
    /// Run simulator, gateway and many callers in one process
    Demo(demo::Args),
    /// Test a configuration: the ledger, the credentials, the clocks, signed reads of ENS
    Check(check::Args),
    /// About the settings
    #[command(subcommand)]
    Config(config_dump::Command),
    /// About the ledger
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// About the policy of callers
    #[command(subcommand)]
    Policy(policy_check::Command),
    /// Explain what the ledger knows of an instance
    Explain(explain::Args),
    /// Run a simulator of ENS, to try the gateway without an account
    Simulator(crate::simulator::Args),
    /// Attach ENIs to an instance
    Attach(attach_args::Args),
    /// Show attachments as they change
    Watch(watch::Args),
    /// Show one attachment
    Get(get::Args),
    /// List the attachments of an instance, or of all
    List(list::Args),
    /// Show how many slots of instances are free
    Capacity(capacity::Args),
    /// Write the API's descriptors, for programs that translate calls
    Descriptors(descriptors::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Parses the arguments, starting with the program's name.
///
/// # Errors
///
/// The exit code, after help, version or an error was printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // A closed pipe needs no output.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Done }
    })
}

impl Cli {
    /// Runs the command, and prints a failure on stderr.
    #[must_use]
    pub fn run(self) -> Exit {
        let as_json = self.command.wants_json();
        self.command.run().map_or_else(|error| error.report(as_json), |()| Exit::Done)
    }
}

impl Command {
    fn run(self) -> Result<(), Error> {
        match self {
            Self::Serve(args) => serve_with(serve::run(args)),
            Self::Demo(args) => serve_with(demo::run(args)),
            Self::Check(args) => serve_with(check::run(args)),
            Self::Config(command) => config_dump::run(command),
            Self::Ledger(command) => serve_with(ledger::run(command)),
            Self::Policy(command) => policy_check::run(command),
            Self::Explain(args) => serve_with(explain::run(args)),
            Self::Simulator(args) => serve_with(simulate::run(args)),
            Self::Attach(args) => client::block_on(args.client.clone(), attach::run(args)),
            Self::Watch(args) => client::block_on(args.client.clone(), watch::run(args)),
            Self::Get(args) => client::block_on(args.client.clone(), get::run(args)),
            Self::List(args) => client::block_on(args.client.clone(), list::run(args)),
            Self::Capacity(args) => client::block_on(args.client.clone(), capacity::run(args)),
            Self::Descriptors(args) => descriptors::run(args),
            Self::Completions(args) => completions::run(args, Cli::command()),
        }
    }

    fn wants_json(&self) -> bool {
        let client = match self {
            Self::Attach(args) => &args.client,
            Self::Watch(args) => &args.client,
            Self::Get(args) => &args.client,
            Self::List(args) => &args.client,
            Self::Capacity(args) => &args.client,
            Self::Check(args) => return args.output == Format::Json,
            Self::Explain(args) => return args.output == Format::Json,
            Self::Serve(_)
            | Self::Demo(_)
            | Self::Config(_)
            | Self::Ledger(_)
            | Self::Policy(_)
            | Self::Simulator(_)
            | Self::Descriptors(_)
            | Self::Completions(_) => return false,
        };
        client.output == Format::Json
    }
}

/// Number of polls after which a busy thread looks for input.
const EVENT_INTERVAL: u32 = 8;

/// Runs a server on all cores, with the process's TLS provider.
fn serve_with(command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    // It fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Else a busy runtime reads no socket during 61 polls.
    runtime.event_interval(EVENT_INTERVAL).enable_all().build()?.block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::NO_SETTINGS;

    /// `serve` refuses unknown variables of its prefix, also in a client's shell.
    #[test]
    fn variables_of_flags_are_no_unknown_settings() {
        fn variables(command: &clap::Command, found: &mut Vec<String>) {
            let of_flags = command.get_arguments().filter_map(clap::Arg::get_env);
            found.extend(of_flags.map(|name| name.to_string_lossy().into_owned()));
            command.get_subcommands().for_each(|command| variables(command, found));
        }
        let mut found = Vec::new();
        variables(&Cli::command(), &mut found);
        assert!(found.iter().any(|name| name == "ENI_GATEWAY_CLIENT_SERVER_NAME"), "{found:?}");
        for name in found {
            assert!(NO_SETTINGS.contains(&name.as_str()), "{name}");
        }
    }
}
