//! The table of a listener's connections: limits, eviction, drain, and answers that peers do not
//! take.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::sync::{ByAge, ByteSum, CountedBytes, Entries, Entry};

/// Maximum number of answers that wait for their peers to take them. An answer to a peer that reads
/// waits for less than a millisecond.
const MOST_ANSWERS: usize = 4096;
/// Maximum size of these answers in all, in bytes on the wire. In memory they take a few times
/// that.
const MOST_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Time for which a connection counts as in use after a call on it has ended.
const IN_USE: Duration = Duration::from_secs(2);
/// Time for a peer to take an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Maximum numbers of connections of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one peer address; for IPv6 from one /64 network.
    pub per_peer: usize,
}

/// The connections of one listener.
#[derive(Debug, Clone)]
pub struct Connections {
    limits: ConnectionLimits,
    table: ByAge<ConnectionInfo>,
    answers: Answers,
    draining: Arc<AtomicBool>,
}

/// One connection, as the calls on it see it.
pub type ConnectionRef = Arc<Entry<ConnectionInfo>>;

/// The facts about one connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    peer: SocketAddr,
    opening: AtomicBool,
    calls: AtomicUsize,
    /// How many of the calls may last as long as the peer wants.
    held: AtomicUsize,
    /// When a call on it ended last.
    call_ended: Mutex<Option<Instant>>,
    certificates: OnceLock<Vec<CertificateDer<'static>>>,
    answers: Answers,
}

/// A connection's place in the table, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    place: crate::sync::Place<ConnectionInfo>,
    connections: Connections,
}

/// One open call on a connection. A connection with open calls is not closed by a drain.
#[derive(Debug)]
pub struct OpenCall {
    connection: ConnectionRef,
    answer: Option<crate::sync::Place<Answer>>,
}

/// The part of a call that lasts as long as its peer wants: the receipt of a request, a stream, or
/// an answer that waits to be taken. A connection with nothing else may be closed for a newcomer.
#[derive(Debug)]
pub struct HeldCall(ConnectionRef);

/// The answers that peers have not taken yet.
#[derive(Debug, Clone, Default)]
struct Answers {
    table: ByAge<Answer>,
    /// Their size in all.
    bytes: ByteSum,
}

/// An answer that its peer has not taken yet.
#[derive(Debug)]
struct Answer {
    held: HeldCall,
    since: Instant,
    _size: CountedBytes,
}

impl Connections {
    /// An empty table.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        let (table, answers) = (ByAge::default(), Answers::default());
        Self { limits, table, answers, draining: Arc::default() }
    }

    /// A place for a new connection. If its peer, or the listener, has as many as it may have, one
    /// of them is closed for it; `None` if none may be closed: see [`close_one`].
    pub(super) fn admit(&self, peer: SocketAddr) -> Option<Place> {
        let info = ConnectionInfo {
            peer,
            opening: AtomicBool::new(true),
            calls: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            call_ended: Mutex::default(),
            certificates: OnceLock::new(),
            answers: self.answers.clone(),
        };
        let place = self.table.insert_if(info, |connections| {
            if self.draining.load(Ordering::Acquire) {
                return false;
            }
            let key = network(peer.ip());
            let of_peer = connections.iter().filter(|other| other.network() == key).count();
            if of_peer >= self.limits.per_peer {
                close_one(connections, Some(key), of_peer)
            } else {
                connections.len() < self.limits.total || close_one(connections, None, of_peer)
            }
        });
        if place.is_none() {
            tracing::debug!(%peer, "too many connections: refused one");
        }
        Some(Place { place: place?, connections: self.clone() })
    }

    /// Closes one connection, to free its descriptor: see [`Connections::admit`].
    pub(super) fn close_one(&self) {
        self.table.with(|connections| close_one(connections, None, 0));
    }

    /// Closes and returns each connection whose peer's certificates `admits` does not accept. A
    /// connection in its handshake has none yet, and stays.
    pub fn close_unless(
        &self,
        admits: impl Fn(&[CertificateDer<'static>]) -> bool,
    ) -> Vec<ConnectionRef> {
        let all: Vec<ConnectionRef> = self.table.with(|all| all.iter().cloned().collect());
        let refused = all.into_iter().filter(|connection| {
            connection.certificates.get().is_some_and(|certificates| !admits(certificates))
        });
        refused.inspect(|connection| connection.close()).collect()
    }

    /// Admits no more connections, closes those that are still opening, and lets the others close
    /// when their calls have ended.
    pub fn drain(&self) {
        self.table.with(|connections| {
            self.draining.store(true, Ordering::Release);
            for connection in connections.iter() {
                if connection.is_opening() { connection.close() } else { connection.wake() }
            }
        });
    }

    /// Closes the connections whose peers have not taken an answer in time.
    pub(super) fn close_stalled(&self) {
        let overdue = |answer: &Entry<Answer>| answer.since.elapsed() >= ANSWER;
        self.answers.table.with(|answers| {
            while let Some(answer) = answers.take_oldest(overdue) {
                answer.held.0.close();
            }
        });
    }

    /// Number of connections, those that are still opening included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.with(|connections| connections.len())
    }
}

/// Closes one connection, of this peer if one is named; whether there was one that may be closed.
/// The newcomer's peer has `of_newcomer` connections. The order:
///
/// 1. the one that has been opening longest;
/// 2. of the peer that has the most: the oldest without calls, unless it was just used;
/// 3. of the same peer, if it has more than the newcomer's: the oldest with calls that all last as
///    long as the peer wants, and of which none has ended lately. Streams that are held open
///    without end cannot keep newcomers out;
/// 4. of the same peer: the oldest without calls.
///
/// A client opens another connection when it needs one.
fn close_one(
    connections: &mut Entries<ConnectionInfo>,
    peer: Option<IpAddr>,
    of_newcomer: usize,
) -> bool {
    if connections
        .close_oldest(|info| info.is_opening() && peer.is_none_or(|peer| info.network() == peer))
    {
        return true;
    }
    let Some((busiest, count)) = busiest(connections, peer) else {
        return false;
    };
    let may_hold = peer.is_none() && count <= of_newcomer + 1;
    let mut close = |may_close: &dyn Fn(&ConnectionInfo) -> bool| {
        connections.close_oldest(|info| info.network() == busiest && may_close(info))
    };
    close(&|info| info.has_no_call() && !info.is_in_use())
        || (!may_hold && close(&|info| info.has_only_held_calls() && !info.is_in_use()))
        || close(&ConnectionInfo::has_no_call)
}

/// The peer with the most connections, or the named one, with their number.
fn busiest(connections: &Entries<ConnectionInfo>, peer: Option<IpAddr>) -> Option<(IpAddr, usize)> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for connection in connections.iter() {
        *counts.entry(connection.network()).or_default() += 1;
    }
    counts.retain(|network, _| peer.is_none_or(|peer| *network == peer));
    counts.into_iter().max_by_key(|(_, count)| *count)
}

impl ConnectionInfo {
    /// Address of the peer.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address by which peers are distinguished: for IPv6 that of the /64 network, any address
    /// of which one host may use.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        network(self.peer.ip())
    }

    /// The peer's certificate chain; empty without one.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.certificates.get().map_or(&[], Vec::as_slice)
    }

    fn is_opening(&self) -> bool {
        self.opening.load(Ordering::Acquire)
    }

    fn has_no_call(&self) -> bool {
        self.calls.load(Ordering::Acquire) == 0
    }

    fn has_only_held_calls(&self) -> bool {
        let calls = self.calls.load(Ordering::Acquire);
        calls > 0 && self.held.load(Ordering::Acquire) >= calls
    }

    /// Whether a call on it has ended lately.
    fn is_in_use(&self) -> bool {
        self.lock_call_ended().is_some_and(|at| at.elapsed() < IN_USE)
    }

    fn lock_call_ended(&self) -> MutexGuard<'_, Option<Instant>> {
        // No code under the lock panics.
        self.call_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCall {
    /// Registers a call on the connection.
    #[must_use]
    pub fn on(connection: &ConnectionRef) -> Self {
        connection.calls.fetch_add(1, Ordering::AcqRel);
        Self { connection: connection.clone(), answer: None }
    }

    /// Marks that the call has its whole answer, of this size. If the peer does not take it in
    /// time, the connection is closed.
    pub fn mark_answered(&mut self, size: usize) {
        let Answers { table, bytes } = &self.connection.answers;
        let (held, since) = (HeldCall::on(&self.connection), Instant::now());
        let answer = Answer { held, since, _size: bytes.part(size) };
        self.answer = Some(table.insert(answer, |answers| {
            if (answers.len() >= MOST_ANSWERS || bytes.get() > MOST_ANSWER_BYTES)
                && let Some(oldest) = answers.take_oldest(|_| true)
            {
                oldest.held.0.close();
            }
        }));
    }
}

impl HeldCall {
    /// Counts the part of a call on the connection.
    #[must_use]
    pub fn on(connection: &ConnectionRef) -> Self {
        connection.held.fetch_add(1, Ordering::AcqRel);
        Self(connection.clone())
    }
}

impl Drop for HeldCall {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        *self.connection.lock_call_ended() = Some(Instant::now());
        if self.connection.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.connection.wake();
        }
    }
}

impl Place {
    pub(super) const fn info(&self) -> &ConnectionRef {
        self.place.entry()
    }

    /// Keeps the peer's certificate chain.
    pub(super) fn set_certificates(&self, certificates: Vec<CertificateDer<'static>>) {
        // A connection is opened once.
        let _ = self.info().certificates.set(certificates);
    }

    /// Marks the end of the opening: the connection is not evicted any more.
    pub(super) fn mark_open(&self) {
        self.info().opening.store(false, Ordering::Release);
    }

    /// See [`crate::sync::Place::closed`].
    pub(super) async fn closed(&self) {
        self.place.closed().await;
    }

    /// See [`crate::sync::Place::poll_closed`].
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.poll_closed(cx)
    }

    /// Whether the listener drains and no call is open. Valid after [`Place::poll_closed`], which
    /// registers the task.
    pub(super) fn may_close(&self) -> bool {
        self.connections.draining.load(Ordering::Acquire) && self.info().has_no_call()
    }

    /// The table that the place is in.
    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }
}

/// The address by which peers are distinguished. One host may use any address of its IPv6 /64
/// network.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
