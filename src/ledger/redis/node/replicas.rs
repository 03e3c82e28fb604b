//! Waiting until Redis' replicas have what was committed, so that a failover cannot lose it: many commits share one wait.
//!
//! WAIT counts the writes of its own connection only, and blocks it. So there is a connection for it alone, a scratch write that
//! stands behind the commits in the stream of replication, and the proof that it went to the same server: its replication id.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::{Notify, oneshot};

use crate::ledger::LedgerError;

use super::super::epoch::Epoch;
use super::super::settings::ServerAddr;
use super::Node;
use super::connection::describe;
use super::preflight::fact;

/// Under which replication id the replicas have everything up to now, or why they do not.
type Outcome = Result<String, String>;

/// A connection for nothing but waiting, and where it leads.
type ReplicaConnection = (ServerAddr, MultiplexedConnection);

#[derive(Debug)]
pub(super) struct Replicas {
    waiting: Mutex<Vec<oneshot::Sender<Outcome>>>,
    asked: Notify,
}

impl Replicas {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            asked: Notify::new(),
        }
    }

    fn ask(&self, tx: oneshot::Sender<Outcome>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        self.asked.notify_one();
    }

    fn take(&self) -> Vec<oneshot::Sender<Outcome>> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Node {
    /// Waits until as many replicas as are asked for have what was committed here under this epoch.
    pub(in super::super) async fn confirm(&self, epoch: &str) -> Result<(), LedgerError> {
        let wanted = self.shared.settings.sync_replicas;
        if wanted == 0 {
            return Ok(());
        }
        let (tx, outcome) = oneshot::channel();
        self.replicas.ask(tx);
        // One wait may be under way already, for others.
        let outcome = tokio::time::timeout(self.shared.dialer.response_timeout * 2, outcome).await;
        let failed = |why: &str| {
            LedgerError::not_applied(format!(
                "redis' replicas did not confirm a reservation: {why}; nothing was sent"
            ))
        };
        match outcome {
            Ok(Ok(Ok(replication_id))) => {
                let same = Epoch::parse(epoch).is_some_and(|epoch| epoch.replication_id == replication_id);
                if same {
                    Ok(())
                } else {
                    Err(failed("the primary is another one by now"))
                }
            }
            Ok(Ok(Err(why))) => Err(failed(&why)),
            Ok(Err(_)) | Err(_) => Err(failed("no answer in time")),
        }
    }

    /// Waits for the replicas, for ever, on behalf of whoever asks.
    pub(super) async fn synchronise(&self) -> Infallible {
        let mut line = None;
        loop {
            self.replicas.asked.notified().await;
            let waiting = self.replicas.take();
            if waiting.is_empty() {
                continue;
            }
            let outcome = self.wait(&mut line).await;
            for tx in waiting {
                // Who left does not want to know.
                let _ = tx.send(outcome.clone());
            }
        }
    }

    /// One wait, over a new connection if the old one leads to another server by now, or broke since the last wait.
    async fn wait(&self, line: &mut Option<ReplicaConnection>) -> Outcome {
        let place = self.address.borrow().clone().ok_or("not connected")?;
        let kept = line.take().filter(|(leads_to, _)| *leads_to == place);
        if let Some((_, mut connection)) = kept {
            match self.ask_replicas(&mut connection).await {
                Err(error) if error.is_io_error() && !error.is_timeout() => {}
                answer => {
                    *line = answer.is_ok().then_some((place, connection));
                    return self.interpret(answer);
                }
            }
        }
        let connected = self.shared.dialer.connect(&place).await;
        let mut connection = connected.map_err(|error| describe(&error))?;
        let answer = self.ask_replicas(&mut connection).await;
        *line = answer.is_ok().then_some((place, connection));
        self.interpret(answer)
    }

    /// The server's INFO, and how many replicas have everything up to now.
    async fn ask_replicas(&self, connection: &mut MultiplexedConnection) -> RedisResult<(String, usize)> {
        let partition = self.partitions().first().copied();
        let nothing = || RedisError::from((ErrorKind::Client, "no partition is held here"));
        let scratch = self.shared.keys.scratch(partition.ok_or_else(nothing)?);
        let patience = self.shared.dialer.response_timeout.mul_f64(0.8).as_millis().max(1);
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(scratch).arg("1").ignore();
        pipe.cmd("INFO").arg("replication");
        pipe.cmd("WAIT")
            .arg(self.shared.settings.sync_replicas)
            .arg(patience.to_string());
        pipe.query_async(connection).await
    }

    fn interpret(&self, answer: RedisResult<(String, usize)>) -> Outcome {
        let wanted = self.shared.settings.sync_replicas;
        let (info, have) = answer.map_err(|error| describe(&error))?;
        if have < wanted {
            return Err(format!("{have} of {wanted} have it (ledger.sync_replicas)"));
        }
        let replication_id = fact(&info, "master_replid").ok_or("the server does not tell its replication id")?;
        Ok(replication_id.to_owned())
    }
}
