//! The owner of a node's task: connects, and monitors server and epochs while the connection
//! stands.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::errors::{describe, is_refusal, refuses_writes};
use crate::ledger::redis::settings::Servers;
use crate::ledger::{LedgerError, Snapshot};

use super::backoff::Backoff;
use super::epoch_guard::TOO_LATE;
use super::preflight::PreflightResult;
use super::replica_waiter::ReplicaWaiter;
use super::{Node, RedisOperation};

/// How often the server and its epoch are checked while no call does. Keeps the clock true, too.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The same where replicas are waited for. It bounds the age of the time that shows a promotion.
const CHECK_INTERVAL_SYNCED: Duration = Duration::from_secs(1);
/// How soon after a failed check.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How often the preflight check is repeated.
const PREFLIGHT_INTERVAL: Duration = Duration::from_secs(60);
/// Writes that must all arrive too late before the server counts as too slow. Each reply improves
/// the estimate of the server's clock.
const PROBES: usize = 3;

impl Node {
    /// Spawns the node's one task, which runs until `stop`. `fresh`: the server is empty because
    /// the ledger is new.
    pub(in super::super) fn start(
        self: &Arc<Self>,
        fresh: bool,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        let node = self.clone();
        let parts = Box::pin(async move {
            let waiter = OptionFuture::from(node.replicas.as_ref().map(ReplicaWaiter::run));
            tokio::join!(node.supervise(fresh), node.changes.run(), waiter)
        });
        tasks.spawn(async move { stop.run_until_cancelled(parts).await });
    }

    /// Connects, monitors the connection until it is lost, and connects again.
    async fn supervise(&self, mut fresh: bool) -> Infallible {
        let mut backoff = Backoff::new();
        // Each failure is logged once, however often it comes in a row.
        let mut logged = String::new();
        loop {
            match self.connect(fresh).await {
                Ok(connection) => {
                    info!("connected to the ledger");
                    (fresh, logged) = (false, String::new());
                    backoff.reset();
                    self.connection.put(connection);
                    self.monitor().await;
                    let reason = self.connection.failure();
                    warn!(reason, "lost the connection to the ledger");
                }
                Err(error) => {
                    let failure = describe(&error);
                    if logged != failure {
                        warn!(
                            failure,
                            "cannot connect to the ledger: trying again until it can be reached"
                        );
                        logged.clone_from(&failure);
                    }
                    self.mark_unconnected(&error, failure);
                }
            }
            backoff.pause().await;
        }
    }

    fn mark_unconnected(&self, error: &RedisError, failure: String) {
        // A node of a cluster was taken for a server of its own.
        let moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
        let found = if moved && !matches!(self.shared.settings.servers, Servers::Cluster(_)) {
            PreflightResult::misplaced()
        } else if is_refusal(error) {
            PreflightResult::refused(&failure)
        } else {
            return self.connection.mark_lost(failure);
        };
        self.preflight.record(found);
        self.connection.mark_refused(failure);
    }

    /// A connection to an inspected server, with the scripts loaded and every epoch current.
    async fn connect(&self, fresh: bool) -> RedisResult<MultiplexedConnection> {
        let address = self.locator.find(&self.shared.dialer).await?;
        let connection = self.shared.dialer.connect(&address).await?;
        self.shared.scripts.load(&connection).await?;
        self.preflight.ensure_rights(&connection).await?;
        self.epochs.register_replica(&connection).await?;
        if fresh && let Err(stored) = self.epochs.open_new(&connection).await? {
            info!(held = %stored, "the ledger is not new");
        }
        self.preflight.record(self.inspect(&connection).await?);
        self.assignment.set_address(address);
        Ok(connection)
    }

    async fn inspect(&self, connection: &MultiplexedConnection) -> RedisResult<PreflightResult> {
        let found = self.preflight.inspect(connection).await?;
        self.epochs.check_all(connection).await?;
        Ok(found)
    }

    /// Checks the server and its epochs until the connection is lost.
    async fn monitor(&self) {
        let mut preflight = tokio::time::interval(PREFLIGHT_INTERVAL);
        preflight.set_missed_tick_behavior(MissedTickBehavior::Delay);
        preflight.tick().await;
        let mut pause = RETRY_INTERVAL;
        // Calls that are refused one after the other do not keep the server from its checks.
        let mut was_refused = false;
        loop {
            let outcome = tokio::select! {
                () = self.connection.until_lost() => return,
                _ = preflight.tick() => self.repeat_preflight().await,
                () = self.connection.until_refused(), if !was_refused => {
                    was_refused = true;
                    self.repeat_preflight().await
                }
                () = self.epoch_check_requested.notified() => self.check_all_epochs().await,
                () = tokio::time::sleep(pause) => {
                    was_refused = false;
                    self.check().await
                }
            };
            pause = match outcome {
                Ok(()) if self.replicas.is_some() => CHECK_INTERVAL_SYNCED,
                Ok(()) => CHECK_INTERVAL,
                Err(_) => RETRY_INTERVAL,
            };
        }
    }

    /// Checks the server. One that must not be used is inspected again, to be used once it may be.
    async fn check(&self) -> Result<(), LedgerError> {
        let is_misconfigured = !self.preflight.result().errors.is_empty();
        if is_misconfigured {
            self.repeat_preflight().await?;
        }
        self.check_server().await
    }

    /// A server that began to refuse calls is not a failed call, but a reason not to use it.
    async fn repeat_preflight(&self) -> Result<(), LedgerError> {
        let inspected = self.connection.call(RedisOperation::Preflight, |connection| async move {
            match self.inspect(&connection).await {
                Err(error) if is_refusal(&error) => Ok(PreflightResult::refused(&describe(&error))),
                inspected => inspected,
            }
        });
        inspected.await.map(|found| self.preflight.record(found))
    }

    async fn check_all_epochs(&self) -> Result<(), LedgerError> {
        let checked = self.connection.call(RedisOperation::Renew, |connection| async move {
            self.epochs.check_all(&connection).await
        });
        checked.await
    }

    /// Whether this is still the server to use, by its address and by one epoch. One stands for
    /// all: epochs are lost, and change hands, together.
    async fn check_server(&self) -> Result<(), LedgerError> {
        if let Some(address) = self.assignment.address()
            && self.locator.has_moved_from(&address, &self.shared.dialer).await
        {
            let why = "the sentinels name another primary";
            self.connection.mark_lost(why.to_owned());
            return Ok(());
        }
        let Some(partition) = self.assignment.first_partition() else {
            return Ok(());
        };
        let keys = self.shared.keys.state(partition);
        match self.read_current(partition, &keys, &Snapshot::default()).await {
            // Another version made the ledger: that stands in the views.
            Err(error) if error.is_misconfigured() => return Ok(()),
            current => current?,
        };
        // A freeze began or ended, or the operator's command does at this moment.
        if !self.shared.views().share_freeze(&self.partitions()) {
            self.epoch_check_requested.notify_one();
        }
        let reported = self.connection.call(RedisOperation::Renew, |connection| async move {
            self.epochs.record_primary_seen(&connection, partition).await?;
            self.epochs.register_replica(&connection).await
        });
        reported.await?;
        self.probe_write(partition).await
    }

    /// Makes a write like a commit, by the same script and within the same limits of time. Without
    /// calls no commit would show whether the server accepts one.
    async fn probe_write(&self, partition: PartitionId) -> Result<(), LedgerError> {
        for _ in 0..PROBES {
            let written = self.connection.call(RedisOperation::Probe, |connection| async move {
                self.epochs.probe_write(&connection, partition).await
            });
            if written.await? {
                self.connection.accept_writes();
                return Ok(());
            }
        }
        self.connection.refuse_writes(TOO_LATE.to_owned());
        Ok(())
    }

    /// Why the server does not accept a write like a commit, if it does not.
    pub(in super::super) async fn refuses_write(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Option<String>> {
        let Some(partition) = self.assignment.first_partition() else {
            return Ok(None);
        };
        for _ in 0..PROBES {
            match self.epochs.probe_write(connection, partition).await {
                Ok(false) => {}
                Err(error) if refuses_writes(&error) => return Ok(Some(describe(&error))),
                written => return written.map(|_| None),
            }
        }
        Ok(Some(TOO_LATE.to_owned()))
    }
}
