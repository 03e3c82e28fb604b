//! The calls that wait for a place, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use super::counts::Counts;
use super::peer::{Holder, Peer};
use crate::model::InstanceId;

/// A call that waits for a `P`.
#[derive(Debug)]
pub(super) struct Waiter<P> {
    pub(super) peer: Peer,
    pub(super) instance: Option<InstanceId>,
    /// Takes the place. Fails if the call is gone or has waited too long.
    pub(super) grant: oneshot::Sender<P>,
}

/// The waiters, in the order of arrival.
#[derive(Debug)]
pub(super) struct Waiters<P> {
    waiting: Vec<Waiter<P>>,
    by_peer: Counts<Holder>,
    by_connection: Counts<(Holder, u64)>,
    /// When peers and connections last received a place: the number of that grant.
    last_grant: (BTreeMap<Holder, u64>, BTreeMap<u64, u64>),
    grants: u64,
}

impl<P> Default for Waiters<P> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            by_peer: Counts::default(),
            by_connection: Counts::default(),
            last_grant: Default::default(),
            grants: 0,
        }
    }
}

impl<P> Waiters<P> {
    /// Adds a waiter. If there are `most`, the newest of the connection with the most waiters gives
    /// way to one with fewer. Returns whether the waiter was added.
    pub(super) fn add(&mut self, waiter: Waiter<P>, most: usize) -> bool {
        if self.waiting.len() >= most {
            self.remove_gone();
        }
        if self.waiting.len() >= most && !self.make_room(&waiter.peer) {
            return false;
        }
        self.by_peer.add(waiter.peer.holder);
        self.by_connection.add((waiter.peer.holder, waiter.peer.connection));
        self.waiting.push(waiter);
        true
    }

    fn make_room(&mut self, newcomer: &Peer) -> bool {
        let waiting = |holder: Holder, connection: u64| {
            (self.by_peer.of(&holder), self.by_connection.of(&(holder, connection)))
        };
        let connections = self.by_connection.holders();
        let Some((holder, connection)) =
            connections.max_by_key(|(holder, connection)| waiting(*holder, *connection)).copied()
        else {
            return false;
        };
        if waiting(holder, connection) <= waiting(newcomer.holder, newcomer.connection) {
            return false;
        }
        let of_it = |waiter: &Waiter<P>| {
            waiter.peer.holder == holder && waiter.peer.connection == connection
        };
        let newest = self.waiting.iter().rposition(of_it);
        // The waiter is refused by the end of its channel.
        newest.map(|index| drop(self.remove(index))).is_some()
    }

    /// Takes the waiter whose peer, and then whose connection, has the fewest places; of several
    /// the one whose peer and connection received none for the longest time. A waiter that is not
    /// `grantable` waits on.
    pub(super) fn next(
        &mut self,
        places: impl Fn(&Peer) -> (usize, usize),
        grantable: impl Fn(&Waiter<P>) -> bool,
    ) -> Option<Waiter<P>> {
        self.remove_gone();
        let last_grant = |peer: &Peer| {
            let (peers, connections) = &self.last_grant;
            (peers.get(&peer.holder).copied(), connections.get(&peer.connection).copied())
        };
        let waiting = self.waiting.iter().enumerate().filter(|(_, waiter)| grantable(waiter));
        let (next, _) =
            waiting.min_by_key(|(_, waiter)| (places(&waiter.peer), last_grant(&waiter.peer)))?;
        let waiter = self.remove(next);
        self.note_grant(&waiter.peer);
        Some(waiter)
    }

    fn note_grant(&mut self, peer: &Peer) {
        self.grants += 1;
        let Self { by_peer, by_connection, last_grant: (peers, connections), grants, .. } = self;
        peers.insert(peer.holder, *grants);
        connections.insert(peer.connection, *grants);
        // Those without waiters compete with none.
        peers.retain(|holder, _| by_peer.of(holder) > 0);
        let waiting: BTreeSet<u64> =
            by_connection.holders().map(|(_, connection)| *connection).collect();
        connections.retain(|connection, _| waiting.contains(connection));
    }

    fn remove_gone(&mut self) {
        let mut index = 0;
        while let Some(waiter) = self.waiting.get(index) {
            if waiter.grant.is_closed() {
                self.remove(index);
            } else {
                index += 1;
            }
        }
    }

    fn remove(&mut self, index: usize) -> Waiter<P> {
        let waiter = self.waiting.remove(index);
        self.by_peer.remove(&waiter.peer.holder);
        self.by_connection.remove(&(waiter.peer.holder, waiter.peer.connection));
        waiter
    }
}
