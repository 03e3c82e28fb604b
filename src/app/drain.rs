//! The end of a replica: one ordered list, inside one deadline.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::gateway::Background;
use crate::attach::Attacher;
use crate::ens::Ens;
use crate::grpc::Health;
use crate::ledger::LedgerStore;

/// How long before the deadline those who still wait are told: enough for an answer to reach them.
const FINAL_REPLY_MARGIN: Duration = Duration::from_millis(500);
/// How long what runs in the background may take to end, the deadline permitting.
const BACKGROUND: Duration = Duration::from_secs(2);

/// What is kept of `grpc.drain_timeout` for the very last: that traces leave. A tenth, 3 s at most.
#[must_use]
pub fn kept_for_traces(drain_timeout: Duration) -> Duration {
    (drain_timeout / 10).min(Duration::from_secs(3))
}

/// How long each part of the end may take.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimeouts {
    /// Until those who send calls have heard that this replica is not ready.
    pub delay: Duration,
    /// All of it, up to the last traces.
    pub timeout: Duration,
}

/// What ends.
pub(super) struct Drain<L, E> {
    pub(super) times: DrainTimeouts,
    /// Cancelled first: this replica is not ready any more.
    pub(super) leaving: CancellationToken,
    /// Cancelled next: newcomers are refused, watches end, connections are told to go elsewhere.
    pub(super) stopping: CancellationToken,
    pub(super) health: Health,
    pub(super) attacher: std::sync::Arc<Attacher<L, E>>,
    pub(super) attempts: TaskTracker,
    pub(super) background: Background,
}

impl<L: LedgerStore, E: Ens> Drain<L, E> {
    /// Ends everything, the gRPC server's task among it. What is unfinished at the deadline is left to other replicas; nothing
    /// is released or taken back.
    ///
    /// # Errors
    /// The server failed on its way out.
    pub(super) async fn run(self, mut serving: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
        let deadline = Instant::now() + self.times.timeout;
        self.leaving.cancel();
        self.health.set(false).await;
        // Calls still come until everybody has heard, and are answered.
        sleep(self.times.delay).await;
        self.stopping.cancel();
        self.attempts.close();
        let finished = timeout_at(
            deadline - FINAL_REPLY_MARGIN.min(self.times.timeout / 2),
            self.attempts.wait(),
        )
        .await;
        if finished.is_err() {
            let attempts = self.attempts.len();
            tracing::warn!(attempts, "attempts are left to other replicas");
            self.attacher.abort_waiters();
        }
        let served = timeout_at(deadline, &mut serving).await;
        if served.is_err() {
            tracing::warn!("connections were still open at the end of the drain timeout");
            serving.abort();
        }
        self.background.end(deadline).await;
        tracing::info!("stopped");
        match served {
            Ok(Ok(served)) => served,
            // A panic is logged where it struck, and a task cut off is no failure.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Ends at once, because a listener broke: nobody can be answered any more.
    pub(super) async fn abandon(self, broken: Result<(), Error>) -> Result<(), Error> {
        self.leaving.cancel();
        self.stopping.cancel();
        self.background.end(Instant::now() + BACKGROUND).await;
        broken
    }
}

impl Background {
    /// Ends what runs for as long as the process does. Nobody waits for what is left of it.
    pub(super) async fn end(self, deadline: Instant) {
        self.stop.cancel();
        self.tasks.close();
        let patience = deadline.min(Instant::now() + BACKGROUND);
        // What does not end by itself ends with the process.
        let _ = timeout_at(patience, self.tasks.wait()).await;
    }
}
