//! The connection, and when to give it up. One multiplexed connection carries every call; nothing blocking goes over it.
//!
//! The driver takes a peer that fell silent, and one that became a replica, for a good connection for ever. So: a deadline
//! round every call, and a new connection after three timeouts in a row, on any I/O error, and on READONLY. Whatever failed here
//! may still have been applied, or be applied a little later; nothing is tried again behind the caller's back.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::ledger::LedgerError;

/// How many deadlines in a row, without any reply, make a connection a dead one. Calls that time out together are one
/// moment of silence: a machine that is short of breath must not lose its connection over a burst.
const TIMEOUTS: u32 = 3;

/// Most trips of a call that renews epochs or examines the server. The driver bounds each of them.
const TRIPS: u32 = 10;

#[derive(Debug)]
pub(in super::super) struct Connection {
    deadline: Duration,
    handle: ArcSwapOption<ConnectionHandle>,
    state: watch::Sender<ConnectionState>,
    lost: Notify,
    /// Told when what was asked for may be held by another server by now.
    topology_stale: Arc<Notify>,
    /// What the server said when it last refused to write, until it writes again.
    write_refusal: Mutex<Option<String>>,
}

#[derive(Debug)]
struct ConnectionHandle {
    connection: MultiplexedConnection,
    /// When the first call timed out after the last reply.
    silent_since: Mutex<Option<Instant>>,
}

impl ConnectionHandle {
    fn silence(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call is, in traces.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Operation {
    Commit,
    Claim,
    Take,
    /// A look into the queues of due attempts.
    Due,
    /// A look at the server.
    Examine,
}

impl Operation {
    /// The command, and the script it runs.
    fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Commit => ("EVALSHA", Some("commit")),
            Self::Claim => ("EVALSHA", Some("claim")),
            Self::Take => ("EVALSHA", Some("take")),
            Self::Due => ("PIPELINE ZRANGEBYSCORE", None),
            Self::Examine => ("INFO", None),
        }
    }
}

/// How the connection is.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct ConnectionState {
    /// The last call went through, or there is a server that refuses us for good.
    pub(in super::super) up: bool,
    /// It was so at some time.
    pub(in super::super) reached: bool,
    /// There is one that refuses us.
    refused: bool,
    /// Why there is no connection; empty before the first try.
    pub(in super::super) failure: String,
    /// Since when no call went through; `None`: the last one did.
    down_since: Option<Instant>,
}

impl ConnectionState {
    fn down_for(&self) -> Duration {
        self.down_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Connection {
    pub(super) fn new(deadline: Duration, elsewhere: Arc<Notify>) -> Self {
        Self {
            deadline,
            handle: ArcSwapOption::empty(),
            state: watch::Sender::new(ConnectionState {
                down_since: Some(Instant::now()),
                ..ConnectionState::default()
            }),
            lost: Notify::new(),
            topology_stale: elsewhere,
            write_refusal: Mutex::default(),
        }
    }

    /// Every call goes over this connection from now on.
    pub(super) fn put(&self, connection: MultiplexedConnection) {
        self.handle.store(Some(Arc::new(ConnectionHandle {
            connection,
            silent_since: Mutex::default(),
        })));
        self.mark_up();
    }

    /// There is no connection, for this reason. `refused`: a server is there, and refuses us until somebody sets it up differently.
    pub(super) fn mark_down(&self, failure: String, refused: bool) {
        self.topology_stale.notify_one();
        self.state.send_modify(|state| {
            *state = ConnectionState {
                up: refused,
                reached: state.reached || refused,
                refused,
                failure,
                down_since: state.down_since.or_else(|| Some(Instant::now())),
            };
        });
    }

    /// Gives the connection up, for this reason.
    pub(super) fn close(&self, why: &str) {
        if let Some(wire) = self.handle.load_full() {
            self.record_failure(&wire, why, true);
        }
    }

    pub(in super::super) fn state(&self) -> ConnectionState {
        self.state.borrow().clone()
    }

    /// Why it takes no writes, though it answers: it is full, or has too few replicas or no disk.
    pub(in super::super) fn write_refusal(&self) -> Option<String> {
        self.write_refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// It has written something.
    pub(super) fn accept_writes(&self) {
        self.set_write_refusal(None);
    }

    fn set_write_refusal(&self, why: Option<String>) {
        *self.write_refusal.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Waits until the last call went through.
    pub(in super::super) async fn until_up(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| state.up && state.failure.is_empty())
            .await;
    }

    /// Waits until the connection was given up.
    pub(super) async fn until_lost(&self) {
        while self.handle.load().is_some() {
            self.lost.notified().await;
        }
    }

    /// Makes one call, under the deadline, however many trips it takes.
    pub(in super::super) async fn call<T, F>(
        &self,
        operation: Operation,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, LedgerError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.call_within(self.deadline, operation, work).await
    }

    /// Makes one call of several trips, each of which may take as long as a call.
    pub(super) async fn call_patiently<T, F>(
        &self,
        operation: Operation,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, LedgerError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.call_within(self.deadline * TRIPS, operation, work).await
    }

    async fn call_within<T, F>(
        &self,
        deadline: Duration,
        operation: Operation,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, LedgerError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let span = span(operation);
        let Some(wire) = self.handle.load_full() else {
            span.record("error.type", "not_connected");
            let state = self.state();
            let down_for = state.down_for();
            let ConnectionState { refused, failure, .. } = state;
            let error = match (refused, failure.is_empty()) {
                (true, _) => LedgerError::misconfigured(failure),
                (false, true) => LedgerError::not_applied("not connected yet"),
                (false, false) => LedgerError::not_applied(failure),
            };
            return Err(error.with_outage(down_for));
        };
        let work = work(wire.connection.clone()).instrument(span.clone());
        match tokio::time::timeout(deadline, work).await {
            Ok(Ok(reply)) => {
                *wire.silence() = None;
                self.mark_up();
                Ok(reply)
            }
            Ok(Err(error)) if !error.is_timeout() => {
                span.record("error.type", error.code().unwrap_or("io"));
                Err(self.failed(&wire, &error))
            }
            Ok(Err(_)) | Err(_) => {
                span.record("error.type", "timeout");
                Err(self.timed_out(&wire, deadline))
            }
        }
    }

    fn timed_out(&self, wire: &Arc<ConnectionHandle>, deadline: Duration) -> LedgerError {
        let failure = format!("no reply within {deadline:?}");
        let since = *wire.silence().get_or_insert_with(Instant::now);
        // The first of them ended a deadline of silence itself.
        let dead = since.elapsed() >= self.deadline * (TIMEOUTS - 1);
        self.record_failure(wire, &failure, dead);
        LedgerError::outcome_unknown(failure).with_outage(self.state().down_for())
    }

    fn failed(&self, wire: &Arc<ConnectionHandle>, error: &RedisError) -> LedgerError {
        let failure = describe(error);
        if is_elsewhere(error) {
            self.topology_stale.notify_one();
        }
        if error.code().is_some_and(|code| NO_WRITES.contains(&code)) {
            self.set_write_refusal(Some(failure.clone()));
        }
        if is_dead(error) {
            self.record_failure(wire, &failure, true);
        }
        let error = if is_answer(error) {
            LedgerError::not_applied(failure)
        } else {
            LedgerError::outcome_unknown(failure)
        };
        error.with_outage(self.state().down_for())
    }

    /// Notes a failure, and gives the connection up if it is `dead`; unless another one is in use by now.
    fn record_failure(&self, wire: &Arc<ConnectionHandle>, failure: &str, dead: bool) {
        let current = self.handle.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, wire)) {
            self.mark_down(failure.to_owned(), false);
            if dead {
                self.handle.compare_and_swap(&current, None);
                self.lost.notify_one();
            }
        }
    }

    fn mark_up(&self) {
        self.state.send_if_modified(|state| {
            let changed = !state.up || !state.failure.is_empty();
            if changed {
                *state = ConnectionState {
                    up: true,
                    reached: true,
                    ..ConnectionState::default()
                };
            }
            changed
        });
    }
}

/// A client span for a call that is part of something. What this process does by itself would only make traces of one span.
fn span(operation: Operation) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let (name, script) = operation.names();
    tracing::info_span!(
        "redis",
        otel.name = name,
        otel.kind = "client",
        db.system.name = "redis",
        db.operation.name = name,
        db.stored_procedure.name = script,
        error.type = tracing::field::Empty,
    )
}

/// Whether no later call over the same connection can do better.
fn is_dead(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly) | ErrorKind::Parse
        )
}

/// Whether another server of a cluster may hold the keys by now, or soon. Nothing was applied. The redirection is not followed: a
/// commit's keys move one by one, and as long as one of them is missing (and one always is: a channel is no key) neither
/// side takes it.
fn is_elsewhere(error: &RedisError) -> bool {
    error.is_cluster_error() || error.kind() == ErrorKind::Server(ServerErrorKind::MasterDown)
}

/// Whether a server answered, if only to refuse.
pub(in super::super) fn is_answer(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    )
}

/// Refusals to write that pass by themselves: too few replicas for the moment, no memory, no disk to save on.
const NO_WRITES: [&str; 3] = ["NOREPLICAS", "OOM", "MISCONF"];
/// Other refusals that do: a script that takes long.
const BUSY: &str = "BUSY";
/// The same, among those without a code of their own.
const CROWDED: &str = "max number of clients";

/// Whether the server refuses for good, until somebody sets it up differently. Not while it loads its data, for example.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    use ServerErrorKind::{CrossSlot, NoPerm, ResponseError};
    match error.kind() {
        ErrorKind::Server(ResponseError) => !error.detail().is_some_and(|detail| detail.contains(CROWDED)),
        ErrorKind::Extension => !error
            .code()
            .is_some_and(|code| NO_WRITES.contains(&code) || code == BUSY),
        ErrorKind::Server(NoPerm | CrossSlot) | ErrorKind::AuthenticationFailed => true,
        _ => false,
    }
}

/// An error as text for people.
pub(in super::super) fn describe(error: &RedisError) -> String {
    let text = error.to_string();
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(kind: ServerErrorKind) -> RedisError {
        (ErrorKind::Server(kind), "refused").into()
    }

    #[test]
    fn a_connection_is_given_up_when_it_can_do_no_good() {
        assert!(is_dead(&server_error(ServerErrorKind::ReadOnly)));
        assert!(is_dead(
            &std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
        ));
        assert!(!is_dead(&server_error(ServerErrorKind::ResponseError)));
        assert!(!is_dead(&server_error(ServerErrorKind::BusyLoading)));
        assert!(is_answer(&server_error(ServerErrorKind::NoPerm)));
    }

    #[test]
    fn a_refusal_that_passes_is_none_for_good() {
        let extension = |code: &str| redis::make_extension_error(code.to_owned(), None);
        for code in NO_WRITES.into_iter().chain([BUSY]) {
            assert!(!is_refusal(&extension(code)), "{code}");
        }
        assert!(is_refusal(&extension("WRONGPASS")) && is_refusal(&extension("NOAUTH")));
        let crowded = (
            ErrorKind::Server(ServerErrorKind::ResponseError),
            "refused",
            "max number of clients reached".to_owned(),
        );
        assert!(!is_refusal(&crowded.into()));
        assert!(is_refusal(&server_error(ServerErrorKind::NoPerm)));
        assert!(!is_refusal(&server_error(ServerErrorKind::BusyLoading)));
    }
}
