//! Waits until Redis' replicas have what was committed, so that a failover cannot lose it. Many
//! commits share one wait.
//!
//! WAIT counts only the writes of its own connection, and blocks it. So the waiter has a connection
//! of its own, and a scratch write that follows the commits in the stream of replication. The
//! replication id proves that both went to the same server.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::{Notify, oneshot};

use crate::ledger::LedgerError;
use crate::ledger::redis::epoch::Epoch;
use crate::ledger::redis::errors::describe;
use crate::ledger::redis::info::field;
use crate::ledger::redis::settings::ServerAddr;
use crate::ledger::redis::shared::Shared;

use super::assignment::Assignment;

/// The replication id under which the replicas have everything up to now, or why they do not.
type WaitOutcome = Result<String, String>;

/// A connection for nothing but waiting, and its server.
type WaitConnection = (ServerAddr, MultiplexedConnection);

/// Waits for as many replicas as `ledger.sync_replicas` demands.
#[derive(Debug)]
pub(super) struct ReplicaWaiter {
    shared: Arc<Shared>,
    assignment: Assignment,
    waiting: Mutex<Vec<oneshot::Sender<WaitOutcome>>>,
    requested: Notify,
}

impl ReplicaWaiter {
    pub(super) fn new((shared, assignment): (Arc<Shared>, Assignment)) -> Self {
        Self { shared, assignment, waiting: Mutex::default(), requested: Notify::new() }
    }

    /// Waits until the replicas have what was committed under this epoch.
    pub(super) async fn confirm(&self, epoch: &str) -> Result<(), LedgerError> {
        let (tx, outcome) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        self.requested.notify_one();
        // One wait may be in progress already, for others.
        let patience = self.shared.settings.response_timeout * 2;
        let why = match tokio::time::timeout(patience, outcome).await {
            Ok(Ok(Ok(replication_id))) => {
                if Epoch::parse(epoch).is_some_and(|epoch| epoch.replication_id() == replication_id)
                {
                    return Ok(());
                }
                "the primary is another one by now".to_owned()
            }
            Ok(Ok(Err(why))) => why,
            Ok(Err(_)) | Err(_) => "no answer in time".to_owned(),
        };
        Err(LedgerError::not_applied(format!(
            "redis' replicas did not confirm a reservation: {why}; nothing was sent"
        )))
    }

    /// Waits for the replicas whenever a commit is to be confirmed.
    pub(super) async fn run(&self) -> Infallible {
        let mut connection = None;
        loop {
            self.requested.notified().await;
            let waiting =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if waiting.is_empty() {
                continue;
            }
            let outcome = self.wait(&mut connection).await;
            for tx in waiting {
                // A commit that gave up no longer receives.
                let _ = tx.send(outcome.clone());
            }
        }
    }

    /// One wait, over a new connection if the old one leads to another server, or broke since.
    async fn wait(&self, kept: &mut Option<WaitConnection>) -> WaitOutcome {
        let address = self.assignment.address().ok_or("not connected")?;
        if let Some((_, connection)) = kept.take().filter(|(server, _)| *server == address) {
            match self.wait_over(&connection).await {
                Err(error) if error.is_io_error() && !error.is_timeout() => {}
                answer => {
                    *kept = answer.is_ok().then_some((address, connection));
                    return self.interpret(answer);
                }
            }
        }
        let connected = self.shared.dialer.connect(&address).await;
        let connection = connected.map_err(|error| describe(&error))?;
        let answer = self.wait_over(&connection).await;
        *kept = answer.is_ok().then_some((address, connection));
        self.interpret(answer)
    }

    /// The server's INFO, and how many replicas have everything up to now.
    async fn wait_over(&self, connection: &MultiplexedConnection) -> RedisResult<(String, usize)> {
        let partition = self.assignment.first_partition();
        let none = || RedisError::from((ErrorKind::Client, "no partition is held here"));
        let scratch = self.shared.keys.scratch(partition.ok_or_else(none)?);
        let settings = &self.shared.settings;
        let patience = settings.response_timeout.mul_f64(0.8).as_millis().max(1);
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(scratch).arg("1").ignore();
        pipe.cmd("INFO").arg("replication");
        pipe.cmd("WAIT").arg(settings.sync_replicas).arg(patience.to_string());
        pipe.query_async(&mut connection.clone()).await
    }

    fn interpret(&self, answer: RedisResult<(String, usize)>) -> WaitOutcome {
        let wanted = self.shared.settings.sync_replicas;
        let (info, have) = answer.map_err(|error| describe(&error))?;
        if have < wanted {
            return Err(format!("{have} of {wanted} have it (ledger.sync_replicas)"));
        }
        let replication_id =
            field(&info, "master_replid").ok_or("the server does not report its replication id")?;
        Ok(replication_id.to_owned())
    }
}
