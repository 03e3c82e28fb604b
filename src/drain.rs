//! The phases of an orderly shutdown, in one channel that every part of a replica watches.

use std::time::Duration;

use crate::sync::watch;

/// How far the shutdown has come. Phases only move forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No shutdown: calls are accepted.
    #[default]
    Serving,
    /// Readiness and health are off. Calls are still accepted, until their senders have noticed.
    NotReady,
    /// New calls and open streams end with `DRAINING`. Calls in flight finish.
    Draining,
    /// Callers that still wait receive their final reply. Other replicas settle their attempts.
    Closing,
    /// Background tasks end.
    Stopped,
}

/// Moves a replica from phase to phase.
#[derive(Debug, Default)]
pub struct Signal(watch::Sender<Phase>);

impl Signal {
    /// Enters a phase, and passes those between. Has no effect in this phase or a later one.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let moves = phase > *current;
            *current = phase.max(*current);
            moves
        });
    }

    /// Watches the phases.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }
}

/// Watches the phases. The default one stays in [`Phase::Serving`].
#[derive(Debug, Clone)]
pub struct Watch(watch::Receiver<Phase>);

impl Default for Watch {
    fn default() -> Self {
        Signal::default().watch()
    }
}

impl Watch {
    /// Whether the replica is in this phase or a later one.
    #[must_use]
    pub fn has_reached(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase
    }

    /// Waits for this long, and no longer than until [`Phase::Stopped`].
    pub async fn pause(&self, duration: Duration) {
        // The caller's loop checks the phase.
        let _ = tokio::time::timeout(duration, self.reached(Phase::Stopped)).await;
    }

    /// Resolves in this phase or a later one. If the [`Signal`] is dropped before, it never does.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let phases = self.0.clone();
        async move {
            if phases.wait_for(|current| *current >= phase).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward_and_pass_those_between() {
        let signal = Signal::default();
        let drain = signal.watch();
        assert!(drain.reached(Phase::NotReady).now_or_never().is_none());
        signal.enter(Phase::Closing);
        signal.enter(Phase::NotReady);
        drain.reached(Phase::Draining).await;
        assert!(drain.has_reached(Phase::Closing) && !drain.has_reached(Phase::Stopped));
        drop(signal);
        assert!(drain.reached(Phase::Stopped).now_or_never().is_none());
    }
}
