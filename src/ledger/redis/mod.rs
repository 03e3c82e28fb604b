//! Records in Redis, shared by all replicas.
//!
//! Redis stores what `apply` decided, by compare-and-set in one short script, and tells whether it is still the server that we
//! know: the partition's *epoch* names the replication id under which it was written. A server that restarted, failed over or
//! lost its data has another id or no epoch, and may have forgotten its last writes, reservations among them: the partition is
//! then closed until every send that could have been forgotten must have shown in ENS.
//!
//! ```text
//!  calls ──► route       which server holds the partition: the one, the sentinels' primary, a cluster's node
//!            node        one such server: its connection, clock, epochs, notices, fitness
//!            scripts     commit, claim, take
//! ```

mod claims;
mod dial;
mod epoch;
mod init;
mod inspect;
mod node;
mod rate_limit;
mod scripts;
mod settings;
mod topology;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{InstanceId, Timestamp};
use crate::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore, StoreUnreachable};

use super::keys::{Keys, PartitionId};
use super::{
    ChangeNotifier, Due, Health, LedgerError, LedgerStore, Partition, Proposal, RequestKey, Snapshot, Verdict,
};

use dial::Dialer;
use epoch::Views;
use node::connection::describe;
use scripts::Scripts;
use topology::Topology;

pub use epoch::SharedSettings;
pub use init::{InitError, init};
pub use inspect::{InspectError, Inspection, LedgerState, inspect};
pub use settings::{Identity, InvalidSettings, Login, RedisSettings, RedisTls, ServerAddr, Servers};

/// Records in Redis. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Redis(Arc<Core>);

#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    route: Topology,
}

/// What all nodes have in common.
#[derive(Debug)]
struct Shared {
    settings: RedisSettings,
    dialer: Dialer,
    keys: Keys,
    scripts: Scripts,
    changes: ChangeNotifier,
    views: Mutex<Views>,
    /// Set when a server refused sharded channels: some managed proxies do.
    plain_notices: AtomicBool,
}

impl Redis {
    /// Begins to connect, and goes on until `stop`; what it needs to run is spawned on `tasks`. Does not wait for the server:
    /// until it is there every call is [`LedgerError`]. After `stop`, calls go on over the connections that stand, but no new one
    /// is made: stop it last.
    ///
    /// # Errors
    /// With these settings no connection could ever be made.
    pub fn start(
        settings: RedisSettings,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, InvalidSettings> {
        let shared = Arc::new(Shared::new(settings)?);
        let route = Topology::start(&shared, tasks, stop);
        Ok(Self(Arc::new(Core { shared, route })))
    }

    /// Waits until every server that holds records was reached, and its last call went through.
    pub async fn until_up(&self) {
        self.0.route.until_up().await;
    }
}

impl Shared {
    fn new(settings: RedisSettings) -> Result<Self, InvalidSettings> {
        Ok(Self {
            dialer: Dialer::new(&settings)?,
            keys: Keys::new(settings.prefix.clone())?,
            scripts: Scripts::new(),
            changes: ChangeNotifier::default(),
            views: Mutex::default(),
            plain_notices: AtomicBool::new(false),
            settings,
        })
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RateLimitStore for Redis {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, StoreUnreachable> {
        Ok(self.0.route.budget()?.take(request).await?)
    }
}

impl LedgerStore for Redis {
    async fn read(&self, instance: &InstanceId, request: Option<&RequestKey>) -> Result<Snapshot, LedgerError> {
        self.0
            .route
            .holder(PartitionId::of(instance))?
            .read(instance, request)
            .await
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        self.0
            .route
            .holder(PartitionId::of(&proposal.instance))?
            .commit(proposal)
            .await
    }

    async fn confirm(&self, instance: &InstanceId, epoch: &str) -> Result<(), LedgerError> {
        self.0.route.holder(PartitionId::of(instance))?.confirm(epoch).await
    }

    async fn due(&self, most: usize) -> Result<Vec<Due>, LedgerError> {
        self.0.due(most).await
    }

    async fn claim(&self, due: Vec<Due>, visibility: Duration) -> Result<Vec<Due>, LedgerError> {
        self.0.claim(due, visibility).await
    }

    async fn due_reconciliations(&self, most: usize) -> Result<Vec<InstanceId>, LedgerError> {
        self.0.due_reconciliations(most).await
    }

    async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        self.0.claim_reconciliations(due, visibility).await
    }

    fn changes(&self) -> &ChangeNotifier {
        &self.0.shared.changes
    }

    fn partition(&self, instance: &InstanceId) -> Partition {
        self.0.shared.views().partition(PartitionId::of(instance))
    }

    fn now(&self, instance: &InstanceId) -> Timestamp {
        self.0.route.now(PartitionId::of(instance))
    }

    fn health(&self) -> Health {
        let mut health = self.0.route.health();
        let views = self.0.shared.views();
        health.misconfigured.extend(views.disagreements());
        health.warnings.extend(views.differences());
        health.recovering = views.recovering(|partition| self.0.route.now(partition));
        health
    }
}
