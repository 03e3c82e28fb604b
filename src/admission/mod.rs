//! May it enter? Caps over the whole process and the gate that a drain closes.
//!
//! A cap per connection would not hold: callers open many connections, and a stream outlives its handler. So the permits are
//! RAII and global; a watch keeps its own inside the stream that it returns.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::model::{Failure, Reason, random};

/// How many may be inside at once, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attach calls in flight. Default: 4096; most of them wait for their instance's turn.
    pub attaches: usize,
    /// Get and List calls, and watches that are being opened. Default: 1024.
    pub reads: usize,
    /// Open watch streams. Default: 10 000.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attaches: 4096,
            reads: 1024,
            streams: 10_000,
        }
    }
}

/// Lets calls in, one [`Permit`] each.
#[derive(Debug)]
pub struct Admission {
    attaches: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    limits: Limits,
    draining: CancellationToken,
}

/// The right to be inside, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped admits the next call"]
pub struct Permit {
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// An open gate with these caps.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // tokio's semaphores panic above their own limit, which no machine reaches.
        let places = |cap: usize| Arc::new(Semaphore::new(cap.min(Semaphore::MAX_PERMITS)));
        Self {
            attaches: places(limits.attaches),
            reads: places(limits.reads),
            streams: places(limits.streams),
            limits,
            draining: CancellationToken::new(),
        }
    }

    /// Admits an attach.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn attach(&self) -> Result<Permit, Failure> {
        self.enter(&self.attaches, "attach calls", self.limits.attaches)
    }

    /// Admits a Get or a List, or the opening of a watch.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn read(&self) -> Result<Permit, Failure> {
        self.enter(&self.reads, "reads", self.limits.reads)
    }

    /// Admits a watch stream; the permit belongs into the stream.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn stream(&self) -> Result<Permit, Failure> {
        self.enter(&self.streams, "watch streams", self.limits.streams)
    }

    /// Closes the gate for good: who comes is turned away with `DRAINING`, who is inside finishes.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Resolves when the gate is closed.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        self.draining.clone().cancelled_owned()
    }

    /// How many watch streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.limits.streams.saturating_sub(self.streams.available_permits())
    }

    /// What a call gets that meets the closed gate. The delay is jittered, so that the streams of one replica do not come back to
    /// the others all at once.
    #[must_use]
    pub fn turned_away() -> Failure {
        let delay = Duration::from_millis(random::between(50..=1000));
        Failure::new(
            Reason::Draining,
            "this replica is going away; call again, and another one answers",
        )
        .retry_after(delay)
    }

    fn enter(&self, places: &Arc<Semaphore>, what: &str, cap: usize) -> Result<Permit, Failure> {
        if self.draining.is_cancelled() {
            return Err(Self::turned_away());
        }
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Ok(Permit { _place: place }),
            Err(_) => Err(Failure::new(
                Reason::Overloaded,
                format!("this replica has {cap} {what} in flight, its most"),
            )
            .retry_after(Duration::from_millis(random::between(200..=1000)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tight() -> Admission {
        Admission::new(Limits {
            attaches: 1,
            reads: 1,
            streams: 2,
        })
    }

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let admission = tight();
        let first = admission.attach().expect("the first place");
        let refused = admission.attach().expect_err("there is one place");
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(refused.retry_after.is_some());
        drop(first);
        assert!(admission.attach().is_ok());
    }

    #[test]
    fn each_kind_has_its_own_cap() {
        let admission = tight();
        let _attach = admission.attach().expect("an attach");
        let _read = admission.read().expect("a read beside it");
        let _stream = admission.stream().expect("a stream beside them");
        assert_eq!(admission.open_streams(), 1);
    }

    #[tokio::test]
    async fn a_drain_turns_newcomers_away_and_lets_the_others_finish() {
        let admission = tight();
        let inside = admission.stream().expect("admitted before the drain");
        admission.drain();
        admission.drained().await;
        for refused in [admission.attach(), admission.read(), admission.stream()] {
            assert_eq!(refused.expect_err("the gate is closed").reason, Reason::Draining);
        }
        assert_eq!(admission.open_streams(), 1);
        drop(inside);
        assert_eq!(admission.open_streams(), 0);
    }
}
