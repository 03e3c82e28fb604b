//! Limits on the calls in flight, and the gate that a drain closes.
//!
//! A limit per connection would not hold: callers open many connections, and a stream outlives its
//! handler. So the permits are RAII and count over the whole process. A watch keeps its own permit
//! inside the stream that it returns. A crowd at one instance fills that instance's share, and a
//! busy peer does not keep places from others.

mod concurrency_limit;
mod counts;
mod leak;
mod peer;
mod quota;
mod round_robin;
mod start_queue;
mod waiters;

use std::time::Duration;

use tokio::time::Instant;

use crate::drain::{self, Phase};
use crate::model::{Failure, InstanceId, Reason, random};

use concurrency_limit::LimitExceeded;
use start_queue::{Crowded, StartQueue};

pub use concurrency_limit::AdmissionPermit;
pub(crate) use concurrency_limit::{ConcurrencyLimit, Sharing};
pub(crate) use leak::Leak;
pub use peer::{Holder, Peer};
pub use quota::{QuotaPermit, Quotas, Use};

/// Number of streams of the health and reflection services at once.
const DIAGNOSTIC: usize = 256;

/// Maximum time for which a call waits for a place.
const PATIENCE: Duration = Duration::from_secs(1);

/// Maximum concurrent calls, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attach calls in flight, a quarter of them for one instance. Default: 1024.
    pub attaches: usize,
    /// Reads in flight, half of them for one instance, and watches that are being opened. Default:
    /// 1024.
    pub reads: usize,
    /// Open watch streams, half of them for one instance. Default: 10 000.
    pub streams: usize,
    /// Open watch streams of one peer. Default: 8000.
    pub streams_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attaches: 1024, reads: 1024, streams: 10_000, streams_per_peer: 8000 }
    }
}

/// Admits calls, each with an [`AdmissionPermit`].
#[derive(Debug)]
pub struct Admission {
    starts: StartQueue,
    attaches: ConcurrencyLimit,
    reads: ConcurrencyLimit,
    streams: ConcurrencyLimit,
    diagnostic: ConcurrencyLimit,
    drain: drain::Watch,
}

impl Admission {
    /// A gate with these limits, open until [`Phase::Draining`]. Calls that were admitted before
    /// finish.
    #[must_use]
    pub fn new(limits: Limits, drain: drain::Watch) -> Self {
        let brief = |kind, cap: usize, part| {
            let sharing = Sharing::WorkConserving { waiting: cap };
            ConcurrencyLimit::new(kind, cap, cap.div_ceil(part), sharing)
        };
        let long = |kind, cap: usize, part, per_peer| {
            ConcurrencyLimit::new(kind, cap, cap.div_ceil(part), Sharing::PerPeer(per_peer))
        };
        Self {
            starts: StartQueue::default(),
            attaches: brief("attach calls", limits.attaches, 4),
            reads: brief("reads", limits.reads, 2),
            streams: long("watch streams", limits.streams, 2, limits.streams_per_peer),
            diagnostic: long("health and reflection streams", DIAGNOSTIC, 1, DIAGNOSTIC / 5 * 4),
            drain,
        }
    }

    /// Runs a call of this peer when it is its turn among the calls that have come.
    ///
    /// # Errors
    /// `OVERLOADED` if that takes longer than a second.
    pub(crate) async fn in_turn<T>(
        &self,
        peer: Peer,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.starts.run(PATIENCE, peer, call).await?
    }

    /// Admits this many attaches to one instance, all or none. Waits no longer than until the
    /// deadline.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn attaches(
        &self,
        number: usize,
        peer: Peer,
        instance: &InstanceId,
        deadline: Instant,
    ) -> Result<AdmissionPermit, Failure> {
        self.ensure_open()?;
        let patience = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
        let admitted = self.attaches.acquire(number, patience, peer, Some(instance)).await;
        admitted.map_err(Failure::from)
    }

    /// Admits a read of one instance.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn read(
        &self,
        peer: Peer,
        instance: &InstanceId,
    ) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.reads, peer, Some(instance)).await
    }

    /// Admits the opening of a watch, among the reads. Many watchers of one instance come at once:
    /// their streams have a share, and one read serves them all.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn opening(&self, peer: Peer) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.reads, peer, None).await
    }

    /// Admits a read of several instances that reads this many records at once.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn batch(&self, peer: Peer, records: usize) -> Result<AdmissionPermit, Failure> {
        self.ensure_open()?;
        self.reads.acquire(records, PATIENCE, peer, None).await.map_err(Failure::from)
    }

    /// Admits a watch stream, which must hold the permit.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn stream(
        &self,
        peer: Peer,
        instance: &InstanceId,
    ) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.streams, peer, Some(instance)).await
    }

    /// Admits a watch stream of all instances, which must hold the permit.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn fleet_stream(&self, peer: Peer) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.streams, peer, None).await
    }

    /// Admits a stream of the health or reflection service, until its end. A drain does not refuse
    /// it.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub async fn diagnostic(&self, peer: Peer) -> Result<AdmissionPermit, Failure> {
        self.diagnostic.acquire(1, PATIENCE, peer, None).await.map_err(Failure::from)
    }

    /// Number of open watch streams.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.in_flight()
    }

    async fn enter(
        &self,
        limit: &ConcurrencyLimit,
        peer: Peer,
        instance: Option<&InstanceId>,
    ) -> Result<AdmissionPermit, Failure> {
        self.ensure_open()?;
        limit.acquire(1, PATIENCE, peer, instance).await.map_err(Failure::from)
    }

    fn ensure_open(&self) -> Result<(), Failure> {
        if self.drain.has_reached(Phase::Draining) {
            return Err(Failure::draining("; call again: another replica answers"));
        }
        Ok(())
    }
}

impl From<Crowded> for Failure {
    fn from(_: Crowded) -> Self {
        LimitExceeded("this replica has more calls than it can begin in a second".to_owned()).into()
    }
}

impl From<LimitExceeded> for Failure {
    fn from(LimitExceeded(why): LimitExceeded) -> Self {
        let delay = Duration::from_millis(random::between(200..=1000));
        Self::new(Reason::Overloaded, why).retry_after(delay)
    }
}

#[cfg(test)]
mod tests;
