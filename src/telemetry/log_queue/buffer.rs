//! The lines that wait for the thread that writes them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Capacity that a buffer keeps after a flood of lines, in bytes.
const KEPT: usize = 64 * 1024;

/// Lines in order, at most so many.
#[derive(Debug)]
pub(super) struct Buffer {
    most: usize,
    state: Mutex<State>,
    /// Notified if the thread waits: the first line came, or the last sender left.
    ready: Condvar,
    /// Notified when lines were written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    count: usize,
    /// The number of lines that were added and taken, ever.
    added: u64,
    taken: u64,
    written: u64,
    /// Whether the thread waits for the first line.
    idle: bool,
    closed: bool,
}

impl Buffer {
    /// An empty buffer for at most this many lines.
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), ready: Condvar::new(), written: Condvar::new() }
    }

    /// Adds a line. False if the buffer is full.
    pub(super) fn add(&self, line: &[u8]) -> bool {
        let mut state = self.state();
        if state.count >= self.most {
            return false;
        }
        state.lines.extend_from_slice(line);
        state.count += 1;
        state.added += 1;
        let wakes = std::mem::take(&mut state.idle);
        drop(state);
        if wakes {
            self.ready.notify_one();
        }
        true
    }

    /// Ends the thread once all lines are written.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.ready.notify_one();
    }

    /// Waits for the first line. False if none can come.
    pub(super) fn wait_for_lines(&self) -> bool {
        let mut state = self.state();
        while state.count == 0 && !state.closed {
            state.idle = true;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        state.count > 0
    }

    /// Replaces `lines` by those in the buffer.
    pub(super) fn take(&self, lines: &mut Vec<u8>) {
        lines.clear();
        lines.shrink_to(KEPT);
        let mut state = self.state();
        std::mem::swap(&mut state.lines, lines);
        state.count = 0;
        state.taken = state.added;
    }

    /// Marks the lines that were taken as written.
    pub(super) fn mark_written(&self) {
        let mut state = self.state();
        state.written = state.taken;
        drop(state);
        self.written.notify_all();
    }

    /// Waits until the lines so far are written, or until `limit` has passed.
    pub(super) fn wait_until_written(&self, limit: Duration) {
        let state = self.state();
        let until = state.added;
        let wait = self.written.wait_timeout_while(state, limit, |state| state.written < until);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A line is added as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
