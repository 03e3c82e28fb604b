//! Exports the remaining traces, and writes the remaining log lines, at the end of the process.
//!
//! Trap: on a runtime worker the SDK's shutdown blocks the tasks that its export needs, waits five
//! seconds and loses the spans. So it runs on a blocking thread, with a timeout.

use std::time::Duration;

use tokio::time::Instant;

use super::init::Telemetry;

impl Telemetry {
    /// Exports every ended span and shuts the exporter down, then writes the log lines that are
    /// queued; all within `limit`. Logs a failure.
    pub async fn flush(self, limit: Duration) {
        let until = Instant::now() + limit;
        let limit = limit * 3 / 4;
        let shutdown =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(limit));
        match tokio::time::timeout(limit, shutdown).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not exported"),
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not exported"),
            Err(_) => tracing::warn!(?limit, "the last traces were not exported in time"),
        }
        if let Some(logs) = self.logs {
            logs.flush(until.saturating_duration_since(Instant::now())).await;
        }
    }
}
