//! Makes the connection, and keeps an eye on server and epochs while it stands.

use std::convert::Infallible;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, cmd};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::ledger::Unavailable;
use crate::ledger::keys::PartitionId;

use super::super::init;
use super::super::settings::Servers;
use super::Node;
use super::backoff::Backoff;
use super::fitness::{self, Fitness};
use super::link::{Operation, describe, is_refusal};

/// How often the server is looked at when nobody else calls it: is it there, and the same? Keeps the clock true, too.
const LOOK: Duration = Duration::from_secs(5);
/// The same where replicas are waited for: how old the mark may be by which a promoted one is known.
const LOOK_SYNCED: Duration = Duration::from_secs(1);

/// How soon after a failed look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often it is examined whether it is still fit.
const EXAMINE: Duration = Duration::from_secs(60);

impl Node {
    /// Connects, for ever. `fresh`: at the first time, it is empty because it is new.
    pub(super) async fn keep(&self, mut fresh: bool) -> Infallible {
        let mut backoff = Backoff::new();
        // Each failure is worth one line, however often it comes in a row.
        let mut said = String::new();
        loop {
            match self.open(fresh).await {
                Ok(connection) => {
                    info!("connected to the ledger");
                    fresh = false;
                    said.clear();
                    backoff.reset();
                    self.link.put(connection);
                    self.tend().await;
                    warn!(reason = self.link.state().failure, "lost the connection to the ledger");
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
                        self.take_note(Fitness::misplaced());
                    } else if refused {
                        self.take_note(Fitness::refused(&failure));
                    }
                    self.link.is_down(failure, misplaced || refused);
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
    async fn open(&self, fresh: bool) -> RedisResult<MultiplexedConnection> {
        let place = self.finder.find(&self.shared.dialer).await?;
        let mut connection = self.shared.dialer.connect(&place).await?;
        self.shared.scripts.load(&mut connection).await?;
        fitness::has_rights(self, &mut connection).await?;
        self.attend(&mut connection).await?;
        if fresh && let Err(held) = init::begin(self, &mut connection).await? {
            info!(%held, "the ledger is not new");
        }
        let found = self.examine(&mut connection).await?;
        self.take_note(found);
        self.place.send_replace(Some(place));
        Ok(connection)
    }

    async fn examine(&self, connection: &mut MultiplexedConnection) -> RedisResult<Fitness> {
        let found = fitness::examine(self, connection).await?;
        self.sweep(connection).await?;
        Ok(found)
    }

    /// Until the connection is lost.
    async fn tend(&self) {
        let mut examine = tokio::time::interval(EXAMINE);
        examine.set_missed_tick_behavior(MissedTickBehavior::Delay);
        examine.tick().await;
        let mut pause = LOOK_AGAIN;
        loop {
            let outcome = tokio::select! {
                () = self.link.until_lost() => return,
                _ = examine.tick() => self.examine_again().await,
                () = self.suspicion.notified() => {
                    self.link.call_patiently(Operation::Commit, |connection| async move { self.sweep(&connection).await }).await
                }
                () = tokio::time::sleep(pause) => self.look_at_one().await,
            };
            pause = match outcome {
                Ok(()) if self.shared.settings.sync_replicas > 0 => LOOK_SYNCED,
                Ok(()) => LOOK,
                Err(_) => LOOK_AGAIN,
            };
        }
    }

    /// What the server refuses by now is no failed call, but a reason not to use it.
    async fn examine_again(&self) -> Result<(), Unavailable> {
        let examined = self
            .link
            .call_patiently(Operation::Examine, |mut connection| async move {
                match self.examine(&mut connection).await {
                    Err(error) if is_refusal(&error) => Ok(Fitness::refused(&describe(&error))),
                    examined => examined,
                }
            });
        examined.await.map(|found| self.take_note(found))
    }

    /// One epoch stands for all: they are lost, and change hands, together. Whether this is still the server that we look for is
    /// looked at as well.
    async fn look_at_one(&self) -> Result<(), Unavailable> {
        let place = self.place.borrow().clone();
        if let Some(place) = place
            && self.finder.has_moved_from(&place, &self.shared.dialer).await
        {
            self.link.leave("the sentinels name another primary");
            return Ok(());
        }
        let Some(partition) = self.partitions().first().copied() else {
            return Ok(());
        };
        let keys = [self.shared.keys.epoch(partition)];
        let looked = self.link.call(Operation::Commit, |mut connection| {
            let keys = &keys;
            async move { self.look(&mut connection, keys).await }
        });
        match self.current(partition, &keys, looked.await?).await {
            // Other replicas are set differently: that stands in the views.
            Err(error) if error.lasting => return Ok(()),
            current => current?,
        };
        let marked = self.link.call(Operation::Commit, |mut connection| async move {
            self.mark(&mut connection, partition).await
        });
        marked.await?;
        let attended = self
            .link
            .call_patiently(Operation::Commit, |mut connection| async move {
                self.attend(&mut connection).await
            });
        attended.await?;
        self.try_a_write(partition).await
    }

    /// Whether a server that refused a write takes writes again. Without calls no commit would show it.
    async fn try_a_write(&self, partition: PartitionId) -> Result<(), Unavailable> {
        if self.link.refusing().is_none() {
            return Ok(());
        }
        let scratch = self.shared.keys.scratch(partition);
        let written = self.link.call(Operation::Examine, |mut connection| async move {
            let mut set = cmd("SET");
            set.arg(scratch).arg("1").arg("PX").arg(1);
            set.query_async::<()>(&mut connection).await
        });
        written.await?;
        self.link.takes_writes();
        Ok(())
    }

    fn take_note(&self, found: Fitness) {
        let mut known = self.fitness();
        if *known != found {
            for what in &found.unfit {
                warn!(what, "the ledger is unfit");
            }
            for what in &found.warnings {
                warn!(what, "the ledger does not guarantee everything");
            }
        }
        *known = found;
    }
}
