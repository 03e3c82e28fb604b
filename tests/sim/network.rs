//! A message and its answer between a gateway and a remote server. Either may be slow or lost, and
//! both outlive their sender.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::model::random;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::process_state::ProcessState;
use crate::run::Simulation;

/// How bad a network is: chances in `0.0..1.0`, all of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) lost: f64,
    pub(crate) slow: f64,
    /// How long a slow message takes at most.
    pub(crate) slowest: Duration,
}

impl Quality {
    pub(crate) const GOOD: Self = Self { lost: 0.0, slow: 0.0, slowest: Duration::ZERO };

    /// How long one message takes; `None`: it is lost.
    pub(crate) fn message(self) -> Option<Duration> {
        if self.lost > 0.0 && random::fraction() < self.lost {
            return None;
        }
        let micros = if self.slow > 0.0 && random::fraction() < self.slow {
            random::between(0..=self.slowest.as_micros() as u64)
        } else {
            random::between(200..2_000)
        };
        Some(Duration::from_micros(micros))
    }
}

/// Why there is no answer.
pub(crate) struct NoAnswer;

/// Has `work` done at the other end; waits for its answer for `patience` at most.
pub(crate) async fn exchange<T: Send + 'static>(
    simulation: &Arc<Simulation>,
    process: &ProcessState,
    quality: Quality,
    patience: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, NoAnswer> {
    process.pass().await;
    let deadline = Instant::now() + patience;
    let (sender, receiver) = oneshot::channel();
    let (there, back) = (quality.message(), quality.message());
    simulation.tasks.spawn(async move {
        let Some(there) = there else { return };
        sleep(there).await;
        let answer = work.await;
        let Some(back) = back else { return };
        sleep(back).await;
        // The caller may have given up.
        let _ = sender.send(answer);
    });
    let answer = match timeout_at(deadline, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_lost)) => {
            // A lost message is silence: it looks the same as slowness.
            sleep_until(deadline).await;
            Err(NoAnswer)
        }
        Err(_late) => Err(NoAnswer),
    };
    process.pass().await;
    answer
}
