//! Records in Redis, shared by all replicas.
//!
//! Redis stores what `apply` decided, by compare-and-set in one short script. The script also shows
//! whether it is still the same server: the partition's *epoch* names the replication id under
//! which it was written. A server that restarted, failed over or lost its data has another id or no
//! epoch. It may have lost its last writes, reservations among them. The partition is then closed
//! until every send that could have been lost must have shown in ENS.
//!
//! Each file imports only what is below it:
//!
//! ```text
//!  Redis       the store; init, freeze, inspect and peek beside it
//!    queues      what is due, over all nodes
//!    topology    which node holds a partition: the one, or a cluster's
//!    rate_limit  the rate limiter's counter
//!      node        one server: connection, epoch guard, change subscriber, replica waiter,
//!                  preflight
//!        locator     its address: fixed, or as sentinels name it
//!        shared      what all nodes have in common
//!          dial, scripts, clock, epoch, settings, errors, info
//! ```

mod clock;
mod dial;
mod epoch;
mod errors;
mod freeze;
mod info;
mod init;
mod inspect;
mod locator;
mod node;
mod peek;
mod queues;
mod rate_limit;
mod scripts;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{InstanceId, Outage, Position, Timestamp};
use crate::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore};

use super::keys::{Keys, PartitionId, due_member, parse_due_member};
use super::{
    ChangeNotifier, ChangedInstances, Due, LedgerError, LedgerHealth, LedgerStore, Partition,
    Proposal, RequestKey, Snapshot, Verdict,
};

use shared::Shared;
use topology::Topology;

pub use clock::{ClockStep, ServerClock};
pub use epoch::SharedSettings;
pub use freeze::set_freeze;
pub use init::{InitError, init};
pub use inspect::{InspectError, Inspection, LedgerState, Warning, inspect, validate};
pub use peek::peek;
pub use settings::{
    Identity, InvalidSettings, Login, RedisSettings, RedisTls, ServerAddr, Servers,
};

/// Records in Redis. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    topology: Arc<Topology>,
}

impl Redis {
    /// Connects until `stop`, on `tasks`. It does not wait for the server: until then every call
    /// returns a [`LedgerError`]. After `stop`, calls still use existing connections, but no new
    /// one is made. Stop it last.
    ///
    /// # Errors
    /// With these settings no connection could ever be made.
    pub fn start(
        settings: RedisSettings,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, InvalidSettings> {
        let shared = Arc::new(Shared::new(settings)?);
        let topology = Topology::start(shared.clone(), tasks.clone(), stop);
        Ok(Self { shared, topology })
    }

    /// Waits until every server that holds records was reached, and its last call went through.
    pub async fn until_up(&self) {
        self.topology.until_up().await;
    }
}

impl RateLimitStore for Redis {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, Outage> {
        Ok(self.topology.budget()?.take(request).await?)
    }
}

impl LedgerStore for Redis {
    async fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        let node = self.topology.holder(PartitionId::of(instance))?;
        node.read_since(instance, request, known).await
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        let node = self.topology.holder(PartitionId::of(&proposal.instance))?;
        node.commit(proposal).await
    }

    async fn confirm(&self, instance: &InstanceId, epoch: &str) -> Result<(), LedgerError> {
        self.topology.holder(PartitionId::of(instance))?.confirm(epoch).await
    }

    async fn due(&self, most: usize) -> Result<Vec<Due>, LedgerError> {
        let members = self.topology.due_members(Keys::due, most).await?;
        Ok(members.iter().filter_map(|member| parse_due_member(member)).collect())
    }

    async fn claim(&self, due: Vec<Due>, visibility: Duration) -> Result<Vec<Due>, LedgerError> {
        let name =
            |due: &Due| (PartitionId::of(&due.instance), due_member(&due.instance, &due.eni));
        self.topology.claim_members(Keys::due, due, name, visibility).await
    }

    async fn due_reconciliations(&self, most: usize) -> Result<Vec<InstanceId>, LedgerError> {
        let members = self.topology.due_members(Keys::reconciliations, most).await?;
        Ok(members.iter().filter_map(|member| member.parse().ok()).collect())
    }

    async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        let name = |instance: &InstanceId| (PartitionId::of(instance), instance.to_string());
        self.topology.claim_members(Keys::reconciliations, due, name, visibility).await
    }

    async fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> Result<ChangedInstances, LedgerError> {
        self.topology.holder(partition)?.changed_since(partition, after, most).await
    }

    fn changes(&self) -> &ChangeNotifier {
        &self.shared.changes
    }

    fn partition(&self, instance: &InstanceId) -> Partition {
        self.shared.views().partition(PartitionId::of(instance))
    }

    fn now(&self, instance: &InstanceId) -> Timestamp {
        self.topology.now(PartitionId::of(instance))
    }

    fn health(&self) -> LedgerHealth {
        let mut health = self.topology.health();
        let views = self.shared.views();
        health.misconfigured.extend(views.version_conflicts());
        health.warnings.extend(views.differences());
        health.frozen = views.frozen();
        health.recovering = views.recovering(|partition| self.topology.now(partition));
        health
    }
}
