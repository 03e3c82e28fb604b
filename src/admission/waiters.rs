//! The calls that wait for a place, and which is next.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::counts::Counts;
use super::peer::{Holder, Peer};
use crate::model::InstanceId;

/// A call that waits for a `P`.
#[derive(Debug)]
pub(super) struct Waiter<P> {
    pub(super) peer: Peer,
    pub(super) instance: Option<InstanceId>,
    /// How many places it needs at once.
    pub(super) number: usize,
    /// Takes the place. Fails if the call is gone or has waited too long.
    pub(super) grant: oneshot::Sender<P>,
}

/// The waiters of each connection, with the number of their arrival. A connection without waiters
/// is left out.
type Connections<P> = BTreeMap<(Holder, u64), VecDeque<(u64, Waiter<P>)>>;

/// The waiters.
#[derive(Debug)]
pub(super) struct Waiters<P> {
    connections: Connections<P>,
    by_peer: Counts<Holder>,
    /// When peers and connections last received a place: the number of that grant.
    peer_grants: BTreeMap<Holder, u64>,
    connection_grants: BTreeMap<(Holder, u64), u64>,
    /// Numbers of arrivals and grants.
    arrivals: u64,
    grants: u64,
}

impl<P> Default for Waiters<P> {
    fn default() -> Self {
        Self {
            connections: BTreeMap::new(),
            by_peer: Counts::default(),
            peer_grants: BTreeMap::new(),
            connection_grants: BTreeMap::new(),
            arrivals: 0,
            grants: 0,
        }
    }
}

impl<P> Waiters<P> {
    /// Adds a waiter. If there are `most`, the newest of the connection with the most waiters gives
    /// way to one with fewer. Returns whether the waiter was added.
    pub(super) fn add(&mut self, waiter: Waiter<P>, most: usize) -> bool {
        if self.len() >= most {
            self.remove_gone();
        }
        if self.len() >= most && !self.make_room(&waiter.peer) {
            return false;
        }
        self.arrivals += 1;
        self.by_peer.add(waiter.peer.holder, 1);
        let connection = (waiter.peer.holder, waiter.peer.connection);
        self.connections.entry(connection).or_default().push_back((self.arrivals, waiter));
        true
    }

    fn len(&self) -> usize {
        self.connections.values().map(VecDeque::len).sum()
    }

    fn make_room(&mut self, newcomer: &Peer) -> bool {
        let waiting = |connection: &(Holder, u64)| {
            let own = self.connections.get(connection).map_or(0, VecDeque::len);
            (self.by_peer.of(&connection.0), own)
        };
        let Some(most) = self.connections.keys().copied().max_by_key(waiting) else {
            return false;
        };
        if waiting(&most) <= waiting(&(newcomer.holder, newcomer.connection)) {
            return false;
        }
        // The waiter is refused by the end of its channel.
        self.take(most, |queue| queue.pop_back()).is_some()
    }

    /// Takes the waiter whose peer, and then whose connection, has the fewest places; of several
    /// the one whose peer and connection received none for the longest time, and then the first. A
    /// waiter that is not `grantable` waits on.
    pub(super) fn next(
        &mut self,
        places: impl Fn(&Peer) -> (usize, usize),
        grantable: impl Fn(&Waiter<P>) -> bool,
    ) -> Option<Waiter<P>> {
        self.remove_gone();
        let first = self.connections.iter().filter_map(|(connection, queue)| {
            let index = queue.iter().position(|(_, waiter)| grantable(waiter))?;
            let (arrival, waiter) = queue.get(index)?;
            let last_grants =
                (self.peer_grants.get(&connection.0), self.connection_grants.get(connection));
            Some(((places(&waiter.peer), last_grants, *arrival), (*connection, index)))
        });
        let (_, (connection, index)) = first.min_by_key(|(order, _)| *order)?;
        let next = self.take(connection, |queue| queue.remove(index))?;
        self.grants += 1;
        self.peer_grants.insert(connection.0, self.grants);
        self.connection_grants.insert(connection, self.grants);
        // Those without waiters compete with none.
        self.peer_grants.retain(|peer, _| self.by_peer.of(peer) > 0);
        self.connection_grants.retain(|connection, _| self.connections.contains_key(connection));
        Some(next)
    }

    fn take(
        &mut self,
        connection: (Holder, u64),
        take: impl FnOnce(&mut VecDeque<(u64, Waiter<P>)>) -> Option<(u64, Waiter<P>)>,
    ) -> Option<Waiter<P>> {
        let queue = self.connections.get_mut(&connection)?;
        let (_, waiter) = take(queue)?;
        if queue.is_empty() {
            self.connections.remove(&connection);
        }
        self.by_peer.remove(&connection.0, 1);
        Some(waiter)
    }

    fn remove_gone(&mut self) {
        let by_peer = &mut self.by_peer;
        self.connections.retain(|(holder, _), queue| {
            queue.retain(|(_, waiter)| {
                let is_gone = waiter.grant.is_closed();
                if is_gone {
                    by_peer.remove(holder, 1);
                }
                !is_gone
            });
            !queue.is_empty()
        });
    }
}
