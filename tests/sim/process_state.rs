//! Whether a gateway's process runs. All its effects pass through here, so they stop while it is
//! paused, and after its death. Its tasks may continue without any effect.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Dead,
}

/// The state of one process. Clones share it.
#[derive(Clone)]
pub(crate) struct ProcessState(Arc<Mutex<Inner>>);

struct Inner {
    state: State,
    /// Since when.
    since: Instant,
    waiting: Vec<Waker>,
}

impl ProcessState {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            state: State::Running,
            since: Instant::now(),
            waiting: Vec::new(),
        })))
    }

    pub(crate) fn state(&self) -> State {
        self.0.lock().unwrap().state
    }

    /// How long it has been running; `None`: it is not.
    pub(crate) fn running_for(&self) -> Option<Duration> {
        let inner = self.0.lock().unwrap();
        (inner.state == State::Running).then(|| inner.since.elapsed())
    }

    /// Pauses, resumes or kills it. The dead stay dead.
    pub(crate) fn set(&self, state: State) {
        let mut inner = self.0.lock().unwrap();
        if inner.state == State::Dead {
            return;
        }
        (inner.state, inner.since) = (state, Instant::now());
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll_pass(&self, context: &Context<'_>) -> Poll<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.state == State::Running {
            return Poll::Ready(());
        }
        inner.waiting.push(context.waker().clone());
        Poll::Pending
    }

    /// Continues only while it runs.
    pub(crate) async fn pass(&self) {
        poll_fn(|context| self.poll_pass(context)).await;
    }
}
