//! Records in Redis, shared by all replicas.
//!
//! Redis stores what `apply` decided, by compare-and-set in one short script, and tells whether it is still the server that we
//! know: the partition's *epoch* names the replication id under which it was written. A server that restarted, failed over or
//! lost its data has another id or no epoch, and may have forgotten its last writes, reservations among them: the partition is
//! then closed until every send that could have been forgotten must have shown in ENS.
//!
//! ```text
//!  calls ──► link      one connection, given up when it falls silent
//!            keeper    makes it, and examines server and epochs
//!            scripts   commit, claim, take
//!            notices   changes told by other replicas, on a connection of their own
//! ```

mod backoff;
mod budget;
mod claims;
mod clock;
mod epoch;
mod epochs;
mod fitness;
mod init;
mod inspect;
mod keeper;
mod link;
mod notices;
mod records;
mod scripts;
mod settings;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{InstanceId, Timestamp};

use super::keys::{Keys, PartitionId};
use super::{
    Due, Health, Hints, Ledger, Partition, Proposal, RequestKey, Snapshot, TokenOrder, TokenReply, Unavailable, Verdict,
};

use clock::Clock;
use epoch::Views;
use fitness::Fitness;
use link::Link;
use notices::Notices;
use scripts::Scripts;

pub use epoch::Agreement;
pub use init::{InitError, init};
pub use inspect::{InspectError, Inspection, Standing, inspect};
pub use settings::{InvalidSettings, RedisSettings};

/// Records in Redis. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Redis(Arc<Core>);

#[derive(Debug)]
struct Core {
    settings: RedisSettings,
    keys: Keys,
    scripts: Scripts,
    link: Link,
    clock: Clock,
    hints: Hints,
    notices: Notices,
    views: Mutex<Views>,
    fitness: Mutex<Fitness>,
    /// Told when an epoch was not as expected, or a connection ended: then all epochs are looked at.
    suspicion: Arc<Notify>,
}

impl Redis {
    /// Begins to connect, and goes on until `stop`; what it needs to run is spawned on `tasks`. Does not wait for the server:
    /// until it is there every call is [`Unavailable`]. After `stop`, calls go on over the connection that stands, but no new one
    /// is made: stop it last.
    ///
    /// # Errors
    /// With these settings no connection could ever be made.
    pub fn start(
        settings: RedisSettings,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, InvalidSettings> {
        let core = Arc::new(Core::new(settings)?);
        let (keeper, listener, stopped) = (core.clone(), core.clone(), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(keeper.keep()).await });
        tasks.spawn(async move { stopped.run_until_cancelled(listener.notices.run()).await });
        Ok(Self(core))
    }

    /// Waits until the server was reached, and the last call went through.
    pub async fn until_up(&self) {
        self.0.link.until_up().await;
    }
}

impl Core {
    fn new(settings: RedisSettings) -> Result<Self, InvalidSettings> {
        let keys = Keys::new(settings.prefix.clone())?;
        let hints = Hints::default();
        let suspicion = Arc::new(Notify::new());
        Ok(Self {
            link: Link::new(&settings)?,
            notices: Notices::new(&settings, keys.clone(), hints.clone(), suspicion.clone())?,
            scripts: Scripts::new(),
            clock: Clock::new(),
            views: Mutex::default(),
            fitness: Mutex::default(),
            suspicion,
            settings,
            keys,
            hints,
        })
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fitness(&self) -> MutexGuard<'_, Fitness> {
        self.fitness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for Redis {
    async fn read(&self, instance: &InstanceId, request: Option<&RequestKey>) -> Result<Snapshot, Unavailable> {
        self.0.read(instance, request).await
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, Unavailable> {
        self.0.commit(proposal).await
    }

    async fn claim(&self, most: usize, visibility: Duration) -> Result<Vec<Due>, Unavailable> {
        self.0.claim(most, visibility).await
    }

    async fn claim_comparisons(&self, most: usize, visibility: Duration) -> Result<Vec<InstanceId>, Unavailable> {
        self.0.claim_comparisons(most, visibility).await
    }

    async fn take(&self, order: TokenOrder) -> Result<TokenReply, Unavailable> {
        self.0.take(order).await
    }

    fn hints(&self) -> &Hints {
        &self.0.hints
    }

    fn partition(&self, instance: &InstanceId) -> Partition {
        self.0.views().partition(PartitionId::of(instance))
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn health(&self) -> Health {
        let link = self.0.link.state();
        let Fitness {
            mut unfit,
            mut warnings,
        } = self.0.fitness().clone();
        warnings.extend(self.0.notices.warnings());
        if !link.up {
            warnings.push(format!("the last call failed: {}", link.failure));
        }
        let views = self.0.views();
        unfit.extend(views.disagreements());
        Health {
            up: link.up,
            reached: link.reached,
            unfit,
            warnings,
            recovering: views.recovering(self.now()),
        }
    }
}
