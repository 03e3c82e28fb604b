//! The connection that carries every call, and the rules by which it is closed. It carries no
//! blocking command.
//!
//! The driver keeps a connection to a peer that fell silent, and to one that became a replica. So
//! each call has a deadline, and a new connection follows three timeouts in a row, any I/O error,
//! and READONLY. A failed call may have been applied, or may be applied a little later. The
//! connection retries nothing; the caller does.

mod state;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::ledger::LedgerError;
use crate::ledger::redis::errors::{
    describe, is_answer, is_dead, is_elsewhere, is_refusal, refuses_writes,
};
use crate::names::attribute;

use super::operation::RedisOperation;
use state::State;

/// Number of consecutive timeouts, without any reply, after which a connection is dead. Calls that
/// time out together count once: a slow machine must not lose its connection over a burst.
const TIMEOUTS: u32 = 3;

/// The connection to one server, with its state.
#[derive(Debug)]
pub(in super::super) struct Connection {
    deadline: Duration,
    state: watch::Sender<State>,
    /// Whether a server was there at any time.
    reached: AtomicBool,
    /// Notified when another server may hold the records by now.
    topology_stale: Arc<Notify>,
    /// Notified when the server refused a call until its configuration changes.
    refused: Notify,
    /// The server's last refusal to write, until it accepts a write again.
    write_refusal: Mutex<Option<(String, Instant)>>,
}

impl Connection {
    pub(super) fn new(deadline: Duration, topology_stale: Arc<Notify>) -> Self {
        Self {
            deadline,
            state: watch::Sender::new(State::untried()),
            reached: AtomicBool::new(false),
            topology_stale,
            refused: Notify::new(),
            write_refusal: Mutex::default(),
        }
    }

    /// Sends every call over this connection from now on.
    pub(super) fn put(&self, connection: MultiplexedConnection) {
        self.reached.store(true, Ordering::Relaxed);
        self.state.send_replace(State::connected(connection));
    }

    /// Marks the connection as missing, and closes an existing one.
    pub(super) fn mark_lost(&self, why: String) {
        self.topology_stale.notify_one();
        self.state.send_modify(|state| state.lose(why));
    }

    /// Marks the server as present, but refusing this replica until its configuration changes.
    pub(super) fn mark_refused(&self, why: String) {
        self.topology_stale.notify_one();
        self.reached.store(true, Ordering::Relaxed);
        self.state.send_modify(|state| state.refuse(why));
    }

    /// Whether the last call succeeded, or a server refuses this replica until its configuration
    /// changes.
    pub(in super::super) fn is_up(&self) -> bool {
        self.is_serving() || matches!(*self.state.borrow(), State::Refused { .. })
    }

    /// Whether the last call succeeded.
    pub(in super::super) fn is_serving(&self) -> bool {
        self.state.borrow().is_serving()
    }

    /// Whether a server was there at any time.
    pub(in super::super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Why the server is unreachable, if it was tried and is not up.
    pub(in super::super) fn failure(&self) -> Option<String> {
        self.state.borrow().failure().map(str::to_owned)
    }

    /// Why the server refuses writes although it answers: it is full, lacks replicas or a disk, or
    /// is too far away.
    pub(in super::super) fn write_refusal(&self) -> Option<String> {
        let refusal = self.refusal().as_ref().map(|(why, _)| why.clone());
        refusal.filter(|_| self.is_up())
    }

    /// Records that the server does not accept writes.
    pub(super) fn refuse_writes(&self, why: String) {
        let mut refusal = self.refusal();
        let since = refusal.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        *refusal = Some((why, since));
    }

    /// Records that the server accepted a write.
    pub(super) fn accept_writes(&self) {
        *self.refusal() = None;
    }

    fn refusal(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.write_refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the connection is closed.
    pub(super) async fn until_lost(&self) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| !state.is_connected()).await;
    }

    /// Waits until the server refuses a call that it must not refuse, such as one of a right that
    /// its user lost.
    pub(super) async fn until_refused(&self) {
        self.refused.notified().await;
    }

    /// Makes one call, with a deadline for all its trips.
    pub(in super::super) async fn call<T, F: Future<Output = RedisResult<T>>>(
        &self,
        operation: RedisOperation,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, LedgerError> {
        let deadline = self.deadline * operation.trips();
        let span = operation.span();
        let used = self.state.borrow().connection();
        let used = used.inspect_err(|_| {
            span.record(attribute::ERROR_TYPE, "not_connected");
        })?;
        let work = work((*used).clone()).instrument(span.clone());
        match tokio::time::timeout(deadline, work).await {
            Ok(Ok(reply)) => {
                self.state.send_if_modified(|state| state.succeed(&used));
                Ok(reply)
            }
            Ok(Err(error)) if !error.is_timeout() => {
                span.record(attribute::ERROR_TYPE, error.code().unwrap_or("io"));
                Err(self.failed(&used, &error))
            }
            Ok(Err(_)) | Err(_) => {
                span.record(attribute::ERROR_TYPE, "timeout");
                let why = format!("no reply within {deadline:?}");
                // The first of them ended a deadline of silence itself.
                self.record_failure(&used, &why, self.deadline * (TIMEOUTS - 1));
                Err(LedgerError::outcome_unknown(why).with_outage(self.state.borrow().down_for()))
            }
        }
    }

    fn failed(&self, used: &Arc<MultiplexedConnection>, error: &RedisError) -> LedgerError {
        let why = describe(error);
        if is_elsewhere(error) {
            self.topology_stale.notify_one();
        }
        let mut down_for = self.state.borrow().down_for();
        if refuses_writes(error) {
            self.refuse_writes(why.clone());
            // Reads still succeed. A call that writes is down for as long as writes are refused.
            let since = self.refusal().as_ref().map(|(_, since)| *since);
            down_for = since.map_or(down_for, |since| since.elapsed().max(down_for));
        }
        if is_refusal(error) {
            self.refused.notify_one();
        }
        if is_dead(error) {
            self.record_failure(used, &why, Duration::ZERO);
        }
        let error = if is_answer(error) {
            LedgerError::not_applied(why)
        } else {
            LedgerError::outcome_unknown(why)
        };
        error.with_outage(down_for)
    }

    fn record_failure(&self, used: &Arc<MultiplexedConnection>, why: &str, patience: Duration) {
        let changed = self.state.send_if_modified(|state| state.fail(used, why, patience));
        if changed {
            self.topology_stale.notify_one();
        }
    }
}
