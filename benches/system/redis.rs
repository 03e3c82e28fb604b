//! A Redis server for one side of a comparison, so that its counters belong to that side alone.

use std::net::SocketAddr;
use std::process::Command;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::Result;
use crate::process::{PATIENCE, Process, free_address, until};

/// A running server without persistence.
pub(crate) struct Redis {
    address: SocketAddr,
    connection: MultiplexedConnection,
    _process: Process,
    _directory: TempDir,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        let (address, directory) = (free_address(), TempDir::new()?);
        let process = Process::start(
            Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(directory.path()),
        )?;
        let client = redis::Client::open(format!("redis://{address}/"))?;
        let connection = until("redis-server", PATIENCE, async || {
            Ok(client.get_multiplexed_async_connection().await?)
        })
        .await?;
        Ok(Self { address, connection, _process: process, _directory: directory })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// The number of scripts run so far.
    pub(crate) async fn scripts(&self) -> Result<u64> {
        let info = self.info("commandstats").await?;
        let evals = info.lines().filter_map(|line| line.strip_prefix("cmdstat_eval"));
        let counts = evals
            .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// The bytes that its data takes.
    pub(crate) async fn data_size(&self) -> Result<u64> {
        let info = self.info("memory").await?;
        let size = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
        Ok(size.ok_or("Redis does not report used_memory_dataset")?.trim().parse()?)
    }

    async fn info(&self, section: &str) -> Result<String> {
        let mut connection = self.connection.clone();
        Ok(redis::cmd("INFO").arg(section).query_async(&mut connection).await?)
    }
}
