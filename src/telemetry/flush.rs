//! Sends out what is left of the traces, last thing before the process ends.
//!
//! The trap: on a worker of the runtime the SDK's shutdown blocks the very tasks that its export needs, waits five seconds and loses
//! the spans. It belongs on a blocking thread, and under a limit.

use std::time::Duration;

use super::init::Telemetry;

impl Telemetry {
    /// Exports every ended span and shuts the exporter down, in `limit` at most. Says so in the log where that fails.
    pub async fn flush(self, limit: Duration) {
        let shutdown = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(limit));
        match tokio::time::timeout(limit, shutdown).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not exported"),
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not exported"),
            Err(_) => tracing::warn!(?limit, "the last traces were not exported in time"),
        }
    }
}
