//! A limit on calls of one kind, shared fairly between peers and connections, and bounded for each
//! instance.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::counts::Counts;
use super::peer::{Holder, Peer};
use super::waiters::{Waiter, Waiters};
use crate::model::InstanceId;

/// What a limit leaves to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One peer may have all places while no other waits. A call waits for a place, also for one of
    /// its instance's. A place that becomes free goes to the peer, then to the connection, that has
    /// the fewest. For places that are held briefly.
    WorkConserving {
        /// Maximum number of calls that wait for a place.
        waiting: usize,
    },
    /// One peer may have this many, and a call never waits. For places that are held long.
    PerPeer(usize),
}

/// The limit.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    kind: &'static str,
    sharing: Sharing,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cap: usize,
    per_instance: usize,
    places: Counts<()>,
    by_instance: Counts<InstanceId>,
    by_peer: Counts<Holder>,
    by_connection: Counts<u64>,
    waiters: Waiters<AdmissionPermit>,
}

/// Why a call is not admitted, as a sentence for the caller.
#[derive(Debug)]
pub(crate) struct LimitExceeded(pub(super) String);

/// The places of one call, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped admits the next call"]
pub struct AdmissionPermit {
    state: Arc<Mutex<State>>,
    peer: Peer,
    instance: Option<InstanceId>,
    number: usize,
}

impl ConcurrencyLimit {
    /// A limit of `cap` calls of this kind, `per_instance` of them for one instance.
    pub(crate) fn new(
        kind: &'static str,
        cap: usize,
        per_instance: usize,
        sharing: Sharing,
    ) -> Self {
        Self {
            kind,
            sharing,
            state: Arc::new(Mutex::new(State { cap, per_instance, ..State::default() })),
        }
    }

    /// This many places for a call of this peer, about this instance if the kind counts instances.
    /// All at once: calls that each held a part would wait for each other. A number beyond the
    /// instance's share is the whole share. Waits for `patience`. May be refused earlier, to make
    /// way for a peer or connection with fewer waiting calls.
    pub(crate) async fn acquire(
        &self,
        number: usize,
        patience: Duration,
        peer: Peer,
        instance: Option<&InstanceId>,
    ) -> Result<AdmissionPermit, LimitExceeded> {
        let (full, granted) = {
            let mut state = lock(&self.state);
            let number = number.min(state.per_instance).max(1);
            let Some(full) = self.fullness(&state, number, &peer, instance) else {
                return Ok(state.admit(&self.state, number, peer, instance.cloned()));
            };
            let Sharing::WorkConserving { waiting } = self.sharing else {
                return Err(full);
            };
            let (grant, granted) = oneshot::channel();
            let waiter = Waiter { peer, instance: instance.cloned(), number, grant };
            if !state.waiters.add(waiter, waiting) {
                return Err(full);
            }
            (full, granted)
        };
        timeout(patience, granted).await.ok().and_then(Result::ok).ok_or(full)
    }

    /// Why there is no place now, if there is none.
    fn fullness(
        &self,
        state: &State,
        number: usize,
        peer: &Peer,
        instance: Option<&InstanceId>,
    ) -> Option<LimitExceeded> {
        let (maximum, of) = match self.sharing {
            _ if state.has_its_share(instance, number) => (state.per_instance, " for one instance"),
            Sharing::PerPeer(share) if state.by_peer.of(&peer.holder) >= share => {
                (share, " for one client")
            }
            _ if state.places.of(&()) + number > state.cap => (state.cap, ""),
            _ => return None,
        };
        let kind = self.kind;
        Some(LimitExceeded(format!(
            "this replica has its maximum of {maximum} {kind} in flight{of}"
        )))
    }

    pub(super) fn in_flight(&self) -> usize {
        lock(&self.state).places.of(&())
    }
}

impl State {
    fn has_its_share(&self, instance: Option<&InstanceId>, number: usize) -> bool {
        instance.is_some_and(|instance| self.by_instance.of(instance) + number > self.per_instance)
    }

    fn admit(
        &mut self,
        shared: &Arc<Mutex<Self>>,
        number: usize,
        peer: Peer,
        instance: Option<InstanceId>,
    ) -> AdmissionPermit {
        self.places.add((), number);
        self.by_peer.add(peer.holder, number);
        self.by_connection.add(peer.connection, number);
        if let Some(instance) = &instance {
            self.by_instance.add(instance.clone(), number);
        }
        AdmissionPermit { state: shared.clone(), peer, instance, number }
    }

    fn release(&mut self, permit: &AdmissionPermit) {
        self.places.remove(&(), permit.number);
        self.by_peer.remove(&permit.peer.holder, permit.number);
        self.by_connection.remove(&permit.peer.connection, permit.number);
        if let Some(instance) = &permit.instance {
            self.by_instance.remove(instance, permit.number);
        }
    }

    /// The next waiter to be admitted. One for which too few places are free, or too few of its
    /// instance's, waits on.
    fn next_waiter(&mut self) -> Option<Waiter<AdmissionPermit>> {
        let Self { cap, per_instance, places, by_instance, by_peer, by_connection, waiters } = self;
        let free = cap.saturating_sub(places.of(&()));
        if free == 0 {
            return None;
        }
        waiters.next(
            |peer| (by_peer.of(&peer.holder), by_connection.of(&peer.connection)),
            |waiter| {
                let of = waiter.instance.as_ref().map_or(0, |of| by_instance.of(of));
                waiter.number <= free
                    && (waiter.instance.is_none() || of + waiter.number <= *per_instance)
            },
        )
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut refused = Vec::new();
        {
            let mut state = lock(&self.state);
            state.release(self);
            while let Some(Waiter { peer, instance, number, grant }) = state.next_waiter() {
                let permit = state.admit(&self.state, number, peer, instance);
                refused.extend(grant.send(permit).err());
            }
        }
        // Waiters that left in this moment: their permits are dropped outside the lock and go to
        // the next.
        drop(refused);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counting cannot panic half-way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(connection: u64) -> Peer {
        Peer { connection, ..Peer::LOCAL }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_of_a_full_instance_is_waited_for_in_turn() {
        let limit = ConcurrencyLimit::new("reads", 4, 2, Sharing::WorkConserving { waiting: 4 });
        let (full, other): (InstanceId, InstanceId) =
            ("i-1".parse().unwrap(), "i-2".parse().unwrap());
        let second = Duration::from_secs(1);
        let read =
            |connection, instance| limit.acquire(1, second, peer(connection), Some(instance));
        let (first, second) = tokio::join!(read(1, &full), read(1, &full));
        let (first, _second) = (first.unwrap(), second.unwrap());
        let refused = read(1, &full).await.unwrap_err();
        assert_eq!(refused.0, "this replica has its maximum of 2 reads in flight for one instance");
        let _elsewhere = read(1, &other).await.unwrap();
        let (same, newcomer, ()) = tokio::join!(read(1, &full), read(2, &full), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(same.is_err(), "the connection with a place comes after the one without");
        let _newcomer = newcomer.unwrap();
    }
}
