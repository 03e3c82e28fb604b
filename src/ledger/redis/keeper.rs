//! Makes the connection, and keeps an eye on server and epochs while it stands.

use std::convert::Infallible;
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::ledger::Unavailable;
use crate::ledger::keys::PartitionId;

use super::backoff::Backoff;
use super::fitness::{self, Fitness};
use super::link::{Operation, describe, is_answer, is_refusal};
use super::{Core, init};

/// How often the server is looked at when nobody else calls it: is it there, and the same? Keeps the clock true, too.
const LOOK: Duration = Duration::from_secs(5);

/// How soon after a failed look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often it is examined whether it is still fit.
const EXAMINE: Duration = Duration::from_secs(60);

impl Core {
    /// Connects, for ever.
    pub(super) async fn keep(&self) -> Infallible {
        let mut backoff = Backoff::new();
        let mut fresh = self.settings.fresh;
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
                    if is_refusal(&error) {
                        self.take_note(Fitness::refused(&failure));
                    }
                    self.link.is_down(failure, is_answer(&error));
                }
            }
            backoff.pause().await;
        }
    }

    /// A connection to a server that is known: examined, with the scripts loaded and every epoch current.
    async fn open(&self, fresh: bool) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.link.connect().await?;
        self.scripts.load(&mut connection).await?;
        if fresh && let Err(held) = init::begin(self, &mut connection).await? {
            info!(%held, "the ledger is not new");
        }
        let found = self.examine(&mut connection).await?;
        self.take_note(found);
        Ok(connection)
    }

    async fn examine(&self, connection: &mut MultiplexedConnection) -> RedisResult<Fitness> {
        let found = fitness::examine(connection).await?;
        self.sweep(connection).await?;
        Ok(found)
    }

    /// Until the connection is lost.
    async fn tend(&self) {
        let mut examine = tokio::time::interval(EXAMINE);
        examine.set_missed_tick_behavior(MissedTickBehavior::Delay);
        examine.tick().await;
        let mut pause = LOOK;
        loop {
            let outcome = tokio::select! {
                () = self.link.until_lost() => return,
                _ = examine.tick() => self.examine_again().await,
                () = self.suspicion.notified() => {
                    self.link.call(Operation::Commit, |connection| async move { self.sweep(&connection).await }).await
                }
                () = tokio::time::sleep(pause) => self.look_at_one().await,
            };
            pause = if outcome.is_ok() { LOOK } else { LOOK_AGAIN };
        }
    }

    /// What the server refuses by now is no failed call, but a reason not to use it.
    async fn examine_again(&self) -> Result<(), Unavailable> {
        let examined = self.link.call(Operation::Examine, |mut connection| async move {
            match self.examine(&mut connection).await {
                Err(error) if is_refusal(&error) => Ok(Fitness::refused(&describe(&error))),
                examined => examined,
            }
        });
        examined.await.map(|found| self.take_note(found))
    }

    /// One epoch stands for all: they are lost, and change hands, together.
    async fn look_at_one(&self) -> Result<(), Unavailable> {
        let Some(partition) = PartitionId::all().next() else {
            return Ok(());
        };
        let looked = self.link.call(Operation::Commit, |mut connection| async move {
            let keys = [self.keys.epoch(partition)];
            let found = self.look(&mut connection, &keys).await?;
            self.settle(&mut connection, partition, &keys, found).await
        });
        looked.await.map(drop)
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
