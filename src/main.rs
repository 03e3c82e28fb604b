//! The program: arguments to command to exit code.

use std::process::ExitCode;

use eni_gateway::cli;

/// Returns unused memory to the system by threads of its own, also while no call comes.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => command.run().into(),
        Err(exit) => exit.into(),
    }
}
