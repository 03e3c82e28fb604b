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

/// Maximum time for which a call usually waits for a place.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a limit leaves to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One peer may have all places while no other waits. A place that becomes free goes to the
    /// peer, then to the connection, that has the fewest. For places that are held briefly.
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
    cap: usize,
    sharing: Sharing,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
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

/// One place, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped admits the next call"]
pub struct AdmissionPermit {
    state: Arc<Mutex<State>>,
    peer: Peer,
    instance: Option<InstanceId>,
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
            cap,
            sharing,
            state: Arc::new(Mutex::new(State { per_instance, ..State::default() })),
        }
    }

    /// A place for a call of this peer, about this instance if the kind counts instances. Waits for
    /// it for a second.
    pub(super) async fn acquire(
        &self,
        peer: Peer,
        instance: Option<&InstanceId>,
    ) -> Result<AdmissionPermit, LimitExceeded> {
        self.acquire_within(PATIENCE, peer, instance).await
    }

    /// As `acquire`, but waits for `patience`. May be refused earlier, to make room for a peer or
    /// connection with fewer waiting calls.
    pub(crate) async fn acquire_within(
        &self,
        patience: Duration,
        peer: Peer,
        instance: Option<&InstanceId>,
    ) -> Result<AdmissionPermit, LimitExceeded> {
        let Self { kind, cap, .. } = self;
        let full =
            || LimitExceeded(format!("this replica has its maximum of {cap} {kind} in flight"));
        let granted = {
            let mut state = lock(&self.state);
            self.check_shares(&state, &peer, instance)?;
            if state.places.of(&()) < *cap {
                return Ok(state.admit(&self.state, peer, instance.cloned()));
            }
            let Sharing::WorkConserving { waiting } = self.sharing else {
                return Err(full());
            };
            let (grant, granted) = oneshot::channel();
            if !state.waiters.add(Waiter { peer, instance: instance.cloned(), grant }, waiting) {
                return Err(full());
            }
            granted
        };
        timeout(patience, granted).await.ok().and_then(Result::ok).ok_or_else(full)
    }

    fn check_shares(
        &self,
        state: &State,
        peer: &Peer,
        instance: Option<&InstanceId>,
    ) -> Result<(), LimitExceeded> {
        let (kind, per_instance) = (self.kind, state.per_instance);
        if state.has_its_share(instance) {
            return Err(LimitExceeded(format!(
                "this replica has its maximum of {per_instance} {kind} in flight for one instance"
            )));
        }
        match self.sharing {
            Sharing::PerPeer(share) if state.by_peer.of(&peer.holder) >= share => {
                Err(LimitExceeded(format!(
                    "this replica has its maximum of {share} {kind} in flight for one client"
                )))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        lock(&self.state).places.of(&())
    }
}

impl State {
    fn has_its_share(&self, instance: Option<&InstanceId>) -> bool {
        instance.is_some_and(|instance| self.by_instance.of(instance) >= self.per_instance)
    }

    fn admit(
        &mut self,
        shared: &Arc<Mutex<Self>>,
        peer: Peer,
        instance: Option<InstanceId>,
    ) -> AdmissionPermit {
        self.places.add(());
        self.by_peer.add(peer.holder);
        self.by_connection.add(peer.connection);
        if let Some(instance) = &instance {
            self.by_instance.add(instance.clone());
        }
        AdmissionPermit { state: shared.clone(), peer, instance }
    }

    fn release(&mut self, permit: &AdmissionPermit) {
        self.places.remove(&());
        self.by_peer.remove(&permit.peer.holder);
        self.by_connection.remove(&permit.peer.connection);
        if let Some(instance) = &permit.instance {
            self.by_instance.remove(instance);
        }
    }

    /// The next waiter to be admitted. A waiter whose instance has its share by now waits on.
    fn next_waiter(&mut self) -> Option<Waiter<AdmissionPermit>> {
        let Self { per_instance, by_instance, by_peer, by_connection, waiters, .. } = self;
        waiters.next(
            |peer| (by_peer.of(&peer.holder), by_connection.of(&peer.connection)),
            |waiter| waiter.instance.as_ref().is_none_or(|of| by_instance.of(of) < *per_instance),
        )
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let refused = {
            let mut state = lock(&self.state);
            state.release(self);
            state.next_waiter().and_then(|waiter| {
                let permit = state.admit(&self.state, waiter.peer, waiter.instance);
                waiter.grant.send(permit).err()
            })
        };
        // A waiter that left in this moment: its permit is dropped outside the lock and goes to the
        // next.
        drop(refused);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counting cannot panic half-way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
