//! One server that holds records: the only one, the primary that sentinels name, or a primary of a
//! cluster. The node owns five parts. None of them knows another one.
//!
//! ```text
//!  records, changes, queues, ───► connection         carries the calls; states and deadlines
//!  rate_limit                     epoch_guard        runs the commit script, renews epochs
//!          │   └─────────────────► change_subscriber  receives change notifications
//!          └─────────────────────► replica_waiter     confirms commits, with sync_replicas
//!  supervisor ───────────────────► preflight          whether the server may be used
//!    connects, monitors, and runs the subscriber and the waiter
//! ```
//!
//! Each part reads the node's assignment: the server's address, and the partitions that it holds.

mod assignment;
mod backoff;
mod change_subscriber;
mod changes;
mod connection;
mod epoch_guard;
mod operation;
mod preflight;
mod records;
mod replica_waiter;
mod supervisor;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::ledger::keys::PartitionId;
use crate::ledger::{FrozenPartitions, LedgerError, LedgerHealth};

use super::locator::PrimaryLocator;
use super::shared::Shared;
use assignment::Assignment;
use change_subscriber::ChangeSubscriber;
use connection::Connection;
use epoch_guard::EpochGuard;
use preflight::Preflight;
use replica_waiter::ReplicaWaiter;

pub(super) use epoch_guard::LedgerNotEmpty;
pub(super) use operation::RedisOperation;

/// One server, and what is known of it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    locator: PrimaryLocator,
    assignment: Assignment,
    /// Notified when an epoch was not as expected, or a connection ended, or other partitions came.
    epoch_check_requested: Arc<Notify>,
    pub(super) connection: Connection,
    pub(super) epochs: EpochGuard,
    changes: ChangeSubscriber,
    /// `None` where no replicas are waited for.
    replicas: Option<ReplicaWaiter>,
    pub(super) preflight: Preflight,
}

impl Node {
    /// Of the server that `locator` finds. It notifies `topology_stale` when another server may
    /// hold its partitions by now.
    pub(super) fn new(
        shared: &Arc<Shared>,
        locator: PrimaryLocator,
        partitions: BTreeSet<PartitionId>,
        topology_stale: Arc<Notify>,
    ) -> Arc<Self> {
        let (assignment, check) = (Assignment::new(partitions), Arc::new(Notify::new()));
        let context = || (shared.clone(), assignment.clone());
        Arc::new(Self {
            connection: Connection::new(shared.settings.response_timeout, topology_stale),
            epochs: EpochGuard::new(context(), check.clone()),
            changes: ChangeSubscriber::new(context(), check.clone()),
            replicas: (shared.settings.sync_replicas > 0).then(|| ReplicaWaiter::new(context())),
            preflight: Preflight::new(context()),
            shared: shared.clone(),
            locator,
            assignment,
            epoch_check_requested: check,
        })
    }

    /// The partitions that it holds.
    pub(super) fn partitions(&self) -> Arc<BTreeSet<PartitionId>> {
        self.assignment.partitions()
    }

    /// Replaces the partitions that it holds.
    pub(super) fn set_partitions(&self, partitions: BTreeSet<PartitionId>) {
        if self.assignment.set_partitions(partitions) {
            self.epoch_check_requested.notify_one();
        }
    }

    /// Waits until as many replicas as are asked for have what was committed here under this epoch.
    pub(super) async fn confirm(&self, epoch: &str) -> Result<(), LedgerError> {
        match &self.replicas {
            Some(replicas) => replicas.confirm(epoch).await,
            None => Ok(()),
        }
    }

    /// How the server is. It knows nothing of recovery.
    pub(super) fn health(&self) -> LedgerHealth {
        let preflight = self.preflight.result().clone();
        let mut warnings = preflight.warnings;
        warnings.extend(self.changes.warnings());
        warnings.extend(self.epochs.warning());
        LedgerHealth {
            up: self.connection.is_up(),
            reached: self.connection.was_reached(),
            down: self.connection.failure().into_iter().collect(),
            refusing: self.connection.write_refusal().into_iter().collect(),
            misconfigured: preflight.errors,
            memory_used: preflight.memory_used,
            warnings,
            recovering: 0,
            frozen: FrozenPartitions::default(),
            clock_steps: self.epochs.clock_steps(),
        }
    }
}
