//! The program: arguments to command to exit code.

use std::process::ExitCode;

use eni_gateway::cli;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => command.run().into(),
        Err(exit) => exit.into(),
    }
}
