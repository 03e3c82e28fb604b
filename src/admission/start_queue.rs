//! The order in which calls begin when many come at once.
//!
//! A call mostly needs the processor and one answer of Redis, and both serve their queues in order
//! of arrival: a burst of one client would delay all others behind it. So only a few calls begin at
//! once, and the peers, then their connections, begin in turn. A call that has begun leaves its
//! place when it is answered, or when it is only waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::peer::{Holder, Peer};
use super::round_robin::RoundRobin;

/// Places for each processor: enough to keep it and Redis busy.
const PER_PROCESSOR: usize = 16;
/// Time after which a call that has begun no longer counts. It waits for something slow.
const BEGINS: Duration = Duration::from_millis(5);
/// Maximum number of calls that wait.
const WAITING: usize = 2048;

/// The queue.
#[derive(Debug)]
pub(crate) struct StartQueue(Arc<Mutex<State>>);

type Calls = VecDeque<oneshot::Sender<Place>>;

#[derive(Debug)]
struct State {
    free: usize,
    waiting: usize,
    peers: RoundRobin<Holder, RoundRobin<u64, Calls>>,
}

/// Too many calls wait, or this one has waited too long.
#[derive(Debug)]
pub(crate) struct Crowded;

/// A place among the calls that begin, until it is dropped.
#[derive(Debug)]
struct Place(Arc<Mutex<State>>);

impl Default for StartQueue {
    fn default() -> Self {
        Self::new(PER_PROCESSOR * std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl StartQueue {
    fn new(places: usize) -> Self {
        let state = State { free: places, waiting: 0, peers: RoundRobin::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Runs a call of this peer when it is its turn, for which it waits for `patience`.
    pub(crate) async fn run<T>(
        &self,
        patience: Duration,
        peer: Peer,
        call: impl Future<Output = T>,
    ) -> Result<T, Crowded> {
        let place = self.place(patience, peer).await?;
        let mut call = std::pin::pin!(call);
        let answered = timeout(BEGINS, &mut call).await;
        drop(place);
        match answered {
            Ok(answer) => Ok(answer),
            Err(_slow) => Ok(call.await),
        }
    }

    async fn place(&self, patience: Duration, peer: Peer) -> Result<Place, Crowded> {
        let granted = {
            let mut state = lock(&self.0);
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                return Ok(Place(self.0.clone()));
            }
            let (grant, granted) = oneshot::channel();
            state.add(peer, grant);
            granted
        };
        timeout(patience, granted).await.ok().and_then(Result::ok).ok_or(Crowded)
    }
}

impl State {
    /// If there are too many, the newest call of the longest queue is refused by the end of its
    /// channel.
    fn add(&mut self, peer: Peer, call: oneshot::Sender<Place>) {
        self.waiting += 1;
        self.peers.of(peer.holder).of(peer.connection).push_back(call);
        if self.waiting > WAITING {
            let connections = self.peers.queues().flat_map(RoundRobin::queues);
            let longest = connections.max_by_key(|calls| calls.len());
            self.waiting -= usize::from(longest.is_some_and(|calls| calls.pop_back().is_some()));
        }
    }

    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let call = |calls: &mut Calls| (calls.pop_front(), calls.is_empty());
        let next = self.peers.next(|connections| (connections.next(call), connections.is_empty()));
        self.waiting -= usize::from(next.is_some());
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        loop {
            let mut state = lock(&self.0);
            let Some(call) = state.next() else {
                state.free += 1;
                return;
            };
            drop(state);
            if !call.is_closed() {
                // A call that leaves in this moment drops the place, which goes to the next one.
                drop(call.send(Self(self.0.clone())));
                return;
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counting cannot panic half-way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::future::{join, join_all};
    use tokio::time::{Instant, sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    /// Time that a call takes.
    const TAKES: Duration = Duration::from_millis(2);

    fn peer(host: u8, connection: u64) -> Peer {
        Peer { holder: Holder::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))), connection }
    }

    /// When these calls of a peer, which come at once, are answered.
    async fn calls(queue: &StartQueue, number: usize, peer: Peer) -> Vec<Option<Duration>> {
        let began = Instant::now();
        let call = || async {
            let answered = queue.run(PATIENCE, peer, async { sleep(TAKES).await }).await.ok();
            answered.map(|()| began.elapsed())
        };
        join_all((0..number).map(|_| call())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_delays_only_its_own_connection() {
        let queue = StartQueue::new(4);
        let burst = calls(&queue, 100, peer(1, 1));
        let others = join(calls(&queue, 1, peer(1, 2)), calls(&queue, 1, peer(2, 3)));
        let (burst, (connection, host)) = join(burst, others).await;
        assert_eq!([connection[0], host[0]], [Some(TAKES * 2); 2], "the first place is theirs");
        assert_eq!(burst[99], Some(TAKES * 26), "nothing is left idle");
    }

    #[tokio::test(start_paused = true)]
    async fn many_connections_do_not_multiply_the_turns_of_a_peer() {
        let queue = StartQueue::new(1);
        let one = join_all((0..50).map(|connection| calls(&queue, 2, peer(1, connection))));
        let (_, other) = join(one, calls(&queue, 3, peer(2, 1000))).await;
        assert!(other[2] <= Some(TAKES * 8), "{other:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_only_waits_keeps_no_place() {
        let queue = StartQueue::new(1);
        let slow = queue.run(PATIENCE, peer(1, 1), sleep(PATIENCE * 10));
        let (slow, quick) = join(slow, calls(&queue, 1, peer(1, 1))).await;
        assert!(slow.is_ok());
        assert_eq!(quick[0], Some(BEGINS + TAKES));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_leaves_takes_no_place_with_it() {
        let queue = StartQueue::new(1);
        let left = timeout(TAKES / 2, calls(&queue, 10, peer(1, 1)));
        let (left, other) = join(left, calls(&queue, 1, peer(2, 2))).await;
        assert!(left.is_err());
        assert_eq!(other[0], Some(TAKES / 2 + TAKES));
        let state = lock(&queue.0);
        assert_eq!((state.free, state.waiting), (1, 0));
        assert!(state.peers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_queue_is_refused_first() {
        let queue = StartQueue::new(1);
        let crowd = calls(&queue, WAITING + 10, peer(1, 1));
        let (crowd, other) = join(crowd, calls(&queue, 1, peer(2, 2))).await;
        assert!(other[0] <= Some(TAKES * 3), "{other:?}");
        assert!(crowd.iter().any(Option::is_none));
        let patient = PATIENCE.as_millis() / TAKES.as_millis();
        let served = crowd.iter().flatten().count() as u128;
        assert!((patient - 5..=patient + 5).contains(&served), "{served}");
    }
}
