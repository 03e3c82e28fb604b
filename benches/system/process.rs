//! Child processes, and what the kernel counts of them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::Result;

/// Time limit for a child to start. Far more than a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// `/proc` counts CPU time in hundredths of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A child process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: NamedTempFile,
}

impl Process {
    /// Starts a program. What it logs goes to a file.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let log = NamedTempFile::new()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.reopen()?);
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        Ok(Self { child, log })
    }

    /// The last lines that it logged.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The CPU time that all its threads used so far, in user and kernel mode.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses, and may hold spaces.
        let (_, fields) = stat.rsplit_once(')').ok_or("unreadable /proc/<pid>/stat")?;
        let mut ticks = 0;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
        Ok(TICK * ticks)
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.ok_or("unreadable /proc/<pid>/status")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that is free now, below the ports that the kernel gives to connections.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..30_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until `probe` returns a value; the last error if it does not in time.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(format!("{what}: not within {limit:?}: {error}").into());
            }
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}
