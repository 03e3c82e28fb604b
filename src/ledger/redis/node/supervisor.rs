//! Makes the connection, and keeps an eye on server and epochs while it stands.

use std::convert::Infallible;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, cmd};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::ledger::LedgerError;
use crate::ledger::keys::PartitionId;

use super::super::init;
use super::super::settings::Servers;
use super::Node;
use super::backoff::Backoff;
use super::connection::{Operation, describe, is_refusal};
use super::preflight::{self, Preflight};

/// How often the server is looked at when nobody else calls it: is it there, and the same? Keeps the clock true, too.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The same where replicas are waited for: how old the mark may be by which a promoted one is known.
const CHECK_INTERVAL_SYNCED: Duration = Duration::from_secs(1);

/// How soon after a failed look.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is examined whether it is still fit.
const PREFLIGHT_INTERVAL: Duration = Duration::from_secs(60);

impl Node {
    /// Connects, for ever. `fresh`: at the first time, it is empty because it is new.
    pub(super) async fn supervise(&self, mut fresh: bool) -> Infallible {
        let mut backoff = Backoff::new();
        // Each failure is worth one line, however often it comes in a row.
        let mut said = String::new();
        loop {
            match self.connect(fresh).await {
                Ok(connection) => {
                    info!("connected to the ledger");
                    fresh = false;
                    said.clear();
                    backoff.reset();
                    self.connection.put(connection);
                    self.monitor().await;
                    warn!(
                        reason = self.connection.state().failure,
                        "lost the connection to the ledger"
                    );
                }
                Err(error) => {
                    let failure = describe(&error);
                    if said != failure {
                        warn!(
                            failure,
                            "cannot connect to the ledger: trying again until it can be reached"
                        );
                        said.clone_from(&failure);
                    }
                    let (misplaced, refused) = (self.is_misplaced(&error), is_refusal(&error));
                    if misplaced {
                        self.set_preflight(Preflight::misplaced());
                    } else if refused {
                        self.set_preflight(Preflight::refused(&failure));
                    }
                    self.connection.mark_down(failure, misplaced || refused);
                }
            }
            backoff.pause().await;
        }
    }

    /// Whether we ask a node of a cluster for what others hold, because we do not know that it is one.
    fn is_misplaced(&self, error: &RedisError) -> bool {
        let moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
        moved && !matches!(self.shared.settings.servers, Servers::Cluster(_))
    }

    /// A connection to a server that is known: examined, with the scripts loaded and every epoch current.
    async fn connect(&self, fresh: bool) -> RedisResult<MultiplexedConnection> {
        let place = self.locator.find(&self.shared.dialer).await?;
        let mut connection = self.shared.dialer.connect(&place).await?;
        self.shared.scripts.load(&mut connection).await?;
        preflight::has_rights(self, &mut connection).await?;
        self.register_replica(&mut connection).await?;
        if fresh && let Err(held) = init::begin(self, &mut connection).await? {
            info!(%held, "the ledger is not new");
        }
        let found = self.run_preflight(&mut connection).await?;
        self.set_preflight(found);
        self.address.send_replace(Some(place));
        Ok(connection)
    }

    async fn run_preflight(&self, connection: &mut MultiplexedConnection) -> RedisResult<Preflight> {
        let found = preflight::inspect(self, connection).await?;
        self.check_all_epochs(connection).await?;
        Ok(found)
    }

    /// Until the connection is lost.
    async fn monitor(&self) {
        let mut examine = tokio::time::interval(PREFLIGHT_INTERVAL);
        examine.set_missed_tick_behavior(MissedTickBehavior::Delay);
        examine.tick().await;
        let mut pause = RETRY_INTERVAL;
        loop {
            let outcome = tokio::select! {
                () = self.connection.until_lost() => return,
                _ = examine.tick() => self.repeat_preflight().await,
                () = self.epoch_check_requested.notified() => {
                    self.connection.call_patiently(Operation::Commit, |connection| async move { self.check_all_epochs(&connection).await }).await
                }
                () = tokio::time::sleep(pause) => self.check_epoch().await,
            };
            pause = match outcome {
                Ok(()) if self.shared.settings.sync_replicas > 0 => CHECK_INTERVAL_SYNCED,
                Ok(()) => CHECK_INTERVAL,
                Err(_) => RETRY_INTERVAL,
            };
        }
    }

    /// What the server refuses by now is no failed call, but a reason not to use it.
    async fn repeat_preflight(&self) -> Result<(), LedgerError> {
        let examined = self
            .connection
            .call_patiently(Operation::Examine, |mut connection| async move {
                match self.run_preflight(&mut connection).await {
                    Err(error) if is_refusal(&error) => Ok(Preflight::refused(&describe(&error))),
                    examined => examined,
                }
            });
        examined.await.map(|found| self.set_preflight(found))
    }

    /// One epoch stands for all: they are lost, and change hands, together. Whether this is still the server that we look for is
    /// looked at as well.
    async fn check_epoch(&self) -> Result<(), LedgerError> {
        let place = self.address.borrow().clone();
        if let Some(place) = place
            && self.locator.has_moved_from(&place, &self.shared.dialer).await
        {
            self.connection.close("the sentinels name another primary");
            return Ok(());
        }
        let Some(partition) = self.partitions().first().copied() else {
            return Ok(());
        };
        let keys = [self.shared.keys.epoch(partition)];
        let looked = self.connection.call(Operation::Commit, |mut connection| {
            let keys = &keys;
            async move { self.read_epoch(&mut connection, keys).await }
        });
        match self.current(partition, &keys, looked.await?).await {
            // Other replicas are set differently: that stands in the views.
            Err(error) if error.is_misconfigured() => return Ok(()),
            current => current?,
        };
        let marked = self.connection.call(Operation::Commit, |mut connection| async move {
            self.mark_primary_seen(&mut connection, partition).await
        });
        marked.await?;
        let attended = self
            .connection
            .call_patiently(Operation::Commit, |mut connection| async move {
                self.register_replica(&mut connection).await
            });
        attended.await?;
        self.probe_write(partition).await
    }

    /// Whether a server that refused a write takes writes again. Without calls no commit would show it.
    async fn probe_write(&self, partition: PartitionId) -> Result<(), LedgerError> {
        if self.connection.write_refusal().is_none() {
            return Ok(());
        }
        let scratch = self.shared.keys.scratch(partition);
        let written = self.connection.call(Operation::Examine, |mut connection| async move {
            let mut set = cmd("SET");
            set.arg(scratch).arg("1").arg("PX").arg(1);
            set.query_async::<()>(&mut connection).await
        });
        written.await?;
        self.connection.accept_writes();
        Ok(())
    }

    fn set_preflight(&self, found: Preflight) {
        let mut known = self.preflight();
        if *known != found {
            for what in &found.errors {
                warn!(what, "the ledger is misconfigured");
            }
            for what in &found.warnings {
                warn!(what, "the ledger does not guarantee everything");
            }
        }
        *known = found;
    }
}
