//! Whether a gateway's process runs. What it does to the world passes here, and so stands still while it is paused, and for
//! ever once it is dead: its tasks may go on inside, and nobody ever sees anything of it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Dead,
}

/// The life of one process. Clones are the same life.
#[derive(Clone)]
pub(crate) struct Life(Arc<Mutex<Inner>>);

struct Inner {
    state: State,
    waiting: Vec<Waker>,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            state: State::Running,
            waiting: Vec::new(),
        })))
    }

    pub(crate) fn state(&self) -> State {
        self.0.lock().unwrap().state
    }

    /// Pauses, resumes or kills it. The dead stay dead.
    pub(crate) fn set(&self, state: State) {
        let mut inner = self.0.lock().unwrap();
        if inner.state == State::Dead {
            return;
        }
        inner.state = state;
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

    /// Goes on only while it runs.
    pub(crate) async fn pass(&self) {
        poll_fn(|context| self.poll_pass(context)).await;
    }
}
