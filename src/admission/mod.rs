//! May it enter? Caps over the whole process, a share of each for any one instance, and the gate that a drain closes.
//!
//! A cap per connection would not hold: callers open many connections, and a stream outlives its handler. So the permits are
//! RAII and global; a watch keeps its own inside the stream that it returns. Callers are not told apart, instances are: a crowd at
//! one of them fills its share, and the rest stays free for the others.

mod concurrency_limit;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::model::{Failure, InstanceId, Reason, random};

use concurrency_limit::{ConcurrencyLimit, LimitExceeded};

pub use concurrency_limit::AdmissionPermit;

/// How many may be inside at once, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attach calls in flight; most of them wait for their instance's turn. A quarter of them for one instance. Default: 1024.
    pub attaches: usize,
    /// Get and List calls, half of them for one instance, and watches that are being opened. Default: 1024.
    pub reads: usize,
    /// Open watch streams; half of them for one instance. Default: 10 000.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attaches: 1024,
            reads: 1024,
            streams: 10_000,
        }
    }
}

/// Lets calls in, one [`AdmissionPermit`] each.
#[derive(Debug)]
pub struct Admission {
    attaches: ConcurrencyLimit,
    reads: ConcurrencyLimit,
    streams: ConcurrencyLimit,
    draining: CancellationToken,
}

impl Admission {
    /// An open gate with these caps.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            attaches: ConcurrencyLimit::new("attach calls", limits.attaches, 4),
            reads: ConcurrencyLimit::new("reads", limits.reads, 2),
            streams: ConcurrencyLimit::new("watch streams", limits.streams, 2),
            draining: CancellationToken::new(),
        }
    }

    /// Admits an attach.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn attach(&self, instance: &InstanceId) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.attaches, Some(instance))
    }

    /// Admits a Get or a List.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn read(&self, instance: &InstanceId) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.reads, Some(instance))
    }

    /// Admits the opening of a watch, among the reads. A crowd of watchers comes to one instance at once: their streams have a
    /// share, and one read serves them all.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn opening(&self) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.reads, None)
    }

    /// Admits a watch stream; the permit belongs into the stream.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub fn stream(&self, instance: &InstanceId) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.streams, Some(instance))
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
        self.streams.in_flight()
    }

    /// What a call gets that meets the closed gate.
    #[must_use]
    pub fn draining_failure() -> Failure {
        Failure::draining("; call again, and another one answers")
    }

    fn enter(&self, door: &ConcurrencyLimit, instance: Option<&InstanceId>) -> Result<AdmissionPermit, Failure> {
        if self.draining.is_cancelled() {
            return Err(Self::draining_failure());
        }
        door.acquire(instance).map_err(|LimitExceeded(why)| {
            let delay = Duration::from_millis(random::between(200..=1000));
            Failure::new(Reason::Overloaded, why).retry_after(delay)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> InstanceId {
        "i-1".parse().unwrap()
    }

    fn other() -> InstanceId {
        "i-2".parse().unwrap()
    }

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
        let first = admission.attach(&one()).expect("the first place");
        let refused = admission.attach(&one()).expect_err("there is one place");
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(refused.retry_after.is_some());
        drop(first);
        assert!(admission.attach(&one()).is_ok());
    }

    #[test]
    fn each_kind_has_its_own_cap() {
        let admission = tight();
        let _attach = admission.attach(&one()).expect("an attach");
        let _read = admission.read(&one()).expect("a read beside it");
        let _stream = admission.stream(&one()).expect("a stream beside them");
        assert_eq!(admission.open_streams(), 1);
    }

    #[tokio::test]
    async fn a_drain_turns_newcomers_away_and_lets_the_others_finish() {
        let admission = tight();
        let inside = admission.stream(&one()).expect("admitted before the drain");
        admission.drain();
        admission.drained().await;
        for refused in [
            admission.attach(&one()),
            admission.read(&one()),
            admission.stream(&one()),
        ] {
            assert_eq!(refused.expect_err("the gate is closed").reason, Reason::Draining);
        }
        assert_eq!(admission.open_streams(), 1);
        drop(inside);
        assert_eq!(admission.open_streams(), 0);
    }

    #[test]
    fn a_crowd_at_one_instance_leaves_room_for_the_others() {
        let admission = Admission::new(Limits {
            attaches: 8,
            reads: 8,
            streams: 8,
        });
        let crowd: Vec<AdmissionPermit> = (0..2).map(|_| admission.attach(&one()).unwrap()).collect();
        let refused = admission.attach(&one()).expect_err("its share is a quarter");
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(refused.message.contains("one instance"), "{}", refused.message);
        let _quiet = admission.attach(&other()).expect("the others have room");
        drop(crowd);
        let _again = admission.attach(&one()).expect("its share is free again");

        let _readers: Vec<AdmissionPermit> = (0..4).map(|_| admission.read(&one()).unwrap()).collect();
        assert!(admission.read(&one()).is_err(), "its share is half");
        let _opening: Vec<AdmissionPermit> = (0..4).map(|_| admission.opening().unwrap()).collect();
        assert!(admission.read(&other()).is_err(), "full");
    }
}
