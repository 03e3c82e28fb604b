//! Backoff between tries to connect: short at first, bounded, with jitter.

use std::time::Duration;

use crate::model::random;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits half to all of the next pause, and doubles it.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.next.mul_f64(random::between(0.5..=1.0))).await;
        self.next = (self.next * 2).min(LONGEST);
    }
}
