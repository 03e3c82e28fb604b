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
mod waiters;

use std::time::Duration;

use crate::drain::{self, Phase};
use crate::model::{Failure, InstanceId, Reason, random};

use concurrency_limit::LimitExceeded;

pub use concurrency_limit::AdmissionPermit;
pub(crate) use concurrency_limit::{ConcurrencyLimit, Sharing};
pub(crate) use leak::Leak;
pub use peer::{Holder, Peer};
pub use quota::{QuotaPermit, Quotas, Use};

/// Number of streams of the health and reflection services at once.
const DIAGNOSTIC: usize = 256;

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
            attaches: brief("attach calls", limits.attaches, 4),
            reads: brief("reads", limits.reads, 2),
            streams: long("watch streams", limits.streams, 2, limits.streams_per_peer),
            diagnostic: long("health and reflection streams", DIAGNOSTIC, 1, DIAGNOSTIC / 5 * 4),
            drain,
        }
    }

    /// Admits an attach.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn attach(
        &self,
        peer: Peer,
        instance: &InstanceId,
    ) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.attaches, peer, Some(instance)).await
    }

    /// Admits several attaches to one instance, all or none.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn attaches(
        &self,
        peer: Peer,
        instance: &InstanceId,
        number: usize,
    ) -> Result<AdmissionPermit, Failure> {
        self.ensure_open()?;
        let admitted = self.attaches.acquire_several(number, peer, instance).await;
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

    /// Admits a read of several instances.
    ///
    /// # Errors
    /// `DRAINING` or `OVERLOADED`.
    pub async fn batch(&self, peer: Peer) -> Result<AdmissionPermit, Failure> {
        self.enter(&self.reads, peer, None).await
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
        self.diagnostic.acquire(peer, None).await.map_err(Failure::from)
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
        limit.acquire(peer, instance).await.map_err(Failure::from)
    }

    fn ensure_open(&self) -> Result<(), Failure> {
        if self.drain.has_reached(Phase::Draining) {
            return Err(Failure::draining("; call again: another replica answers"));
        }
        Ok(())
    }
}

impl From<LimitExceeded> for Failure {
    fn from(LimitExceeded(why): LimitExceeded) -> Self {
        let delay = Duration::from_millis(random::between(200..=1000));
        Self::new(Reason::Overloaded, why).retry_after(delay)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::try_join_all;

    use super::*;
    use crate::model::Caller;

    fn open(limits: Limits) -> Admission {
        Admission::new(limits, drain::Watch::default())
    }

    fn one() -> InstanceId {
        "i-1".parse().unwrap()
    }

    fn other() -> InstanceId {
        "i-2".parse().unwrap()
    }

    const TIGHT: Limits = Limits { attaches: 1, reads: 1, streams: 2, streams_per_peer: 2 };

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_its_permit_is_dropped() {
        let admission = open(TIGHT);
        let first = admission.attach(Peer::LOCAL, &one()).await.expect("the first place");
        let refused = admission.attach(Peer::LOCAL, &one()).await.expect_err("there is one place");
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(refused.retry_after.is_some());
        drop(first);
        assert!(admission.attach(Peer::LOCAL, &one()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn several_attaches_get_all_their_places_or_none() {
        // Four of the places are for one instance.
        let admission = open(Limits { attaches: 16, ..TIGHT });
        let single = admission.attach(Peer::LOCAL, &one()).await.expect("one of four");
        let batch = async || admission.attaches(Peer::LOCAL, &one(), 3).await;
        let first = batch().await.expect("three of four");
        let (second, third, single) = tokio::join!(batch(), batch(), async {
            drop(first);
            tokio::task::yield_now().await;
            single
        });
        assert_eq!([&second, &third].map(Result::is_ok), [true, false], "no part is kept");
        drop((second, single));
        let whole = admission.attaches(Peer::LOCAL, &one(), 20).await.expect("the whole share");
        assert!(admission.attach(Peer::LOCAL, &one()).await.is_err());
        drop(whole);
        assert!(admission.attach(Peer::LOCAL, &one()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_has_its_own_cap() {
        let admission = open(TIGHT);
        let _attach = admission.attach(Peer::LOCAL, &one()).await.expect("an attach");
        let _read = admission.read(Peer::LOCAL, &one()).await.expect("a read beside it");
        let _stream = admission.stream(Peer::LOCAL, &one()).await.expect("a stream beside them");
        assert_eq!(admission.open_streams(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_turns_newcomers_away_and_lets_the_others_finish() {
        let signal = drain::Signal::default();
        let admission = Admission::new(TIGHT, signal.watch());
        let inside =
            admission.stream(Peer::LOCAL, &one()).await.expect("admitted before the drain");
        signal.enter(Phase::Draining);
        for refused in [
            admission.attach(Peer::LOCAL, &one()).await,
            admission.read(Peer::LOCAL, &one()).await,
            admission.stream(Peer::LOCAL, &one()).await,
        ] {
            assert_eq!(refused.expect_err("the gate is closed").reason, Reason::Draining);
        }
        assert_eq!(admission.open_streams(), 1);
        drop(inside);
        assert_eq!(admission.open_streams(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_at_one_instance_leaves_room_for_the_others() {
        let admission = open(Limits { attaches: 8, reads: 8, streams: 8, streams_per_peer: 8 });
        let one_instance = one();
        let crowd = try_join_all((0..2).map(|_| admission.attach(Peer::LOCAL, &one_instance)))
            .await
            .unwrap();
        let refused =
            admission.attach(Peer::LOCAL, &one()).await.expect_err("its share is a quarter");
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(refused.message.contains("one instance"), "{}", refused.message);
        let _quiet = admission.attach(Peer::LOCAL, &other()).await.expect("the others have room");
        drop(crowd);
        let _again = admission.attach(Peer::LOCAL, &one()).await.expect("its share is free again");

        let _readers =
            try_join_all((0..4).map(|_| admission.read(Peer::LOCAL, &one_instance))).await.unwrap();
        assert!(admission.read(Peer::LOCAL, &one()).await.is_err(), "its share is half");
        let _opening = try_join_all((0..4).map(|_| admission.opening(Peer::LOCAL))).await.unwrap();
        assert!(admission.read(Peer::LOCAL, &other()).await.is_err(), "full");
    }

    fn peer(host: u8, connection: u64) -> Peer {
        Peer { holder: Holder::Address([10, 0, 0, host].into()), connection }
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_place_goes_to_the_peer_and_then_the_connection_with_the_fewest() {
        let admission = open(Limits { reads: 4, ..Limits::default() });
        let mut busy = try_join_all((0..4).map(|_| admission.opening(peer(1, 1)))).await.unwrap();
        let order = std::sync::Mutex::new(Vec::new());
        let wait = async |peer: Peer| {
            let _place = admission.opening(peer).await.expect("a place becomes free");
            order.lock().unwrap().push(peer.connection);
        };
        let free = async {
            tokio::task::yield_now().await;
            busy.pop();
        };
        tokio::join!(wait(peer(1, 1)), wait(peer(1, 2)), wait(peer(2, 3)), free);
        assert_eq!(order.into_inner().unwrap(), [3, 2, 1]);
        let refused = admission.opening(peer(2, 3)).await.map(drop);
        assert!(refused.is_ok(), "the places are free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_a_place_for_a_second() {
        let admission = open(TIGHT);
        let _place = admission.opening(peer(1, 1)).await.expect("the place");
        let refused = admission.opening(peer(2, 2)).await.expect_err("full");
        assert_eq!(refused.reason, Reason::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_leaves_a_fifth_of_the_streams_to_others() {
        let admission = open(Limits { streams: 10, streams_per_peer: 8, ..Limits::default() });
        let instances: Vec<InstanceId> =
            (0..9).map(|n| format!("i-{n}").parse().unwrap()).collect();
        let _open = try_join_all(instances[..8].iter().map(|i| admission.stream(peer(1, 1), i)))
            .await
            .unwrap();
        let refused = admission.stream(peer(1, 2), &instances[8]).await.expect_err("its share");
        assert!(refused.message.contains("one client"), "{}", refused.message);
        assert!(admission.stream(peer(2, 3), &instances[8]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_crowd_makes_room_for_another_connection() {
        let admission = open(Limits { reads: 2, ..Limits::default() });
        let _busy = try_join_all((0..2).map(|_| admission.opening(peer(1, 1)))).await.unwrap();
        let crowd = futures_util::future::join_all((0..2).map(|_| admission.opening(peer(1, 1))));
        let newcomer = async {
            tokio::task::yield_now().await;
            let began = tokio::time::Instant::now();
            let refused = admission.opening(peer(1, 2)).await.map(drop);
            (refused.is_err(), began.elapsed())
        };
        let (_, (refused, waited)) = tokio::join!(crowd, newcomer);
        assert!(
            refused && waited >= Duration::from_secs(1),
            "it waited for its second: {waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn connections_with_waiting_calls_take_turns() {
        let admission = open(Limits { reads: 4, ..Limits::default() });
        let mut busy = try_join_all((0..4).map(|_| admission.opening(peer(1, 9)))).await.unwrap();
        let limit = &admission.reads;
        let order = std::sync::Mutex::new(Vec::new());
        let wait = async |connection| {
            let patience = Duration::from_secs(60);
            let _place = limit.acquire_within(patience, peer(1, connection), None).await.unwrap();
            order.lock().unwrap().push(connection);
        };
        let free = async {
            tokio::task::yield_now().await;
            busy.pop();
        };
        tokio::join!(wait(1), wait(1), wait(2), wait(3), free);
        assert_eq!(order.into_inner().unwrap(), [1, 2, 3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_identified_caller_has_one_share_from_every_address() {
        let admission = open(Limits { streams: 4, streams_per_peer: 2, ..Limits::default() });
        let (one, other) = (Caller("dns:a".into()), Caller("dns:b".into()));
        let stream = async |host, caller: &Caller, instance: &str| {
            let peer = peer(host, u64::from(host)).identified_as(caller);
            admission.stream(peer, &instance.parse().unwrap()).await
        };
        let _open = (stream(1, &one, "i-1").await.unwrap(), stream(2, &one, "i-2").await.unwrap());
        assert!(stream(3, &one, "i-3").await.is_err(), "its share");
        assert!(stream(1, &other, "i-3").await.is_ok(), "the other's share");
    }
}
