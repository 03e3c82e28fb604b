//! The shutdown of a replica: ordered steps within one deadline.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::Error;
use crate::drain::{Phase, Signal};
use crate::grpc::Health;

/// Time before the deadline at which remaining callers are answered, so that the answer reaches
/// them.
const FINAL_REPLY_MARGIN: Duration = Duration::from_millis(500);
/// Maximum time for background tasks to end.
const BACKGROUND: Duration = Duration::from_secs(2);

/// The part of `grpc.drain_timeout` for exporting the last traces: a tenth, at most 3 s.
#[must_use]
pub fn kept_for_traces(drain_timeout: Duration) -> Duration {
    (drain_timeout / 10).min(Duration::from_secs(3))
}

/// Time limits of a shutdown.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimeouts {
    /// Duration of [`Phase::NotReady`].
    pub delay: Duration,
    /// Total time, without the export of the last traces.
    pub timeout: Duration,
}

/// The tasks that a shutdown ends, besides the server.
pub(super) struct Drain {
    pub(super) times: DrainTimeouts,
    pub(super) signal: Signal,
    pub(super) health: Health,
    pub(super) attempts: TaskTracker,
    pub(super) background: TaskTracker,
}

impl Drain {
    /// Ends everything, and waits for the gRPC server. Other replicas settle attempts that are
    /// unfinished at the deadline; nothing is released or withdrawn.
    ///
    /// # Errors
    /// The server failed while it ended.
    pub(super) async fn run(self, serving: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
        let deadline = Instant::now() + self.times.timeout;
        self.signal.enter(Phase::NotReady);
        self.health.set(false).await;
        sleep(self.times.delay).await;
        self.signal.enter(Phase::Draining);
        self.attempts.close();
        let last_reply = deadline - FINAL_REPLY_MARGIN.min(self.times.timeout / 2);
        if timeout_at(last_reply, self.attempts.wait()).await.is_err() {
            tracing::warn!(
                attempts = self.attempts.len(),
                "drain timeout: other replicas settle the attempts that are left"
            );
            self.signal.enter(Phase::Closing);
        }
        // The server's own drain timeout bounds this.
        let served = serving.await;
        self.end_background(deadline).await;
        tracing::info!("stopped");
        // A panic is logged where it occurs.
        served.unwrap_or(Ok(()))
    }

    /// Ends everything at once, because a listener failed and no caller can be answered.
    pub(super) async fn abandon(self, broken: Result<(), Error>) -> Result<(), Error> {
        self.end_background(Instant::now() + BACKGROUND).await;
        broken
    }

    async fn end_background(self, deadline: Instant) {
        self.signal.enter(Phase::Stopped);
        self.background.close();
        let patience = deadline.min(Instant::now() + BACKGROUND);
        // Remaining tasks end with the process.
        let _ = timeout_at(patience, self.background.wait()).await;
    }
}
