//! The real binary: clients with a scripted gateway, and servers as operators run them.

mod bad_files;
mod batch;
mod calls;
mod completions;
mod connection;
mod demo;
mod explain;
mod failures;
mod fake;
mod fleet;
mod operate;
mod policy;
mod proxies;
mod recipes;
mod serve;
mod tls;
mod usage;
mod watching;

use std::process::{Output, Stdio};

use tokio::process::Command;

/// What a run of the binary came to.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Each line of stdout, as JSON.
    fn json(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The binary with these arguments, in an environment of its own.
fn eni_gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eni-gateway"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> Ran {
    eni_gateway(arguments).output().await.unwrap().into()
}

/// Runs it with a standard output without a reader. `Command::output` would put a pipe of its own
/// in the place of this one.
async fn run_unread(arguments: &[&str]) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let process = eni_gateway(arguments).stdout(writer).spawn().unwrap();
    process.wait_with_output().await.unwrap().into()
}
