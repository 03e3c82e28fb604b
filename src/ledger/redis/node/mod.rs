//! One server that holds records: the only one, the primary that sentinels name, or a primary of a cluster.

mod backoff;
mod change_subscriber;
pub(super) mod clock;
pub(super) mod connection;
mod epochs;
pub(super) mod preflight;
mod records;
mod replicas;
mod supervisor;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ledger::keys::PartitionId;

use super::Shared;
use super::settings::ServerAddr;
use super::topology::PrimaryLocator;
use change_subscriber::ChangeSubscriber;
use clock::ServerClock;
use connection::Connection;
use epochs::Steps;
use preflight::Preflight;
use replicas::Replicas;

/// One server, and what is known of it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    locator: PrimaryLocator,
    /// Where it was found last.
    address: watch::Sender<Option<ServerAddr>>,
    pub(super) connection: Connection,
    pub(super) clock: ServerClock,
    changes: ChangeSubscriber,
    replicas: Replicas,
    preflight: Mutex<Preflight>,
    steps: Mutex<Steps>,
    /// Which partitions it holds.
    partitions: watch::Sender<Arc<BTreeSet<PartitionId>>>,
    /// Told when an epoch was not as expected, or a connection ended, or other partitions came: then all epochs are looked at.
    epoch_check_requested: Arc<Notify>,
}

impl Node {
    /// Of whatever `finder` finds; `elsewhere` is told when its partitions may be held by somebody else by now.
    pub(super) fn new(
        shared: &Arc<Shared>,
        finder: PrimaryLocator,
        holds: BTreeSet<PartitionId>,
        elsewhere: Arc<Notify>,
    ) -> Self {
        Self {
            connection: Connection::new(shared.settings.response_timeout, elsewhere),
            shared: shared.clone(),
            locator: finder,
            address: watch::Sender::new(None),
            clock: ServerClock::new(),
            changes: ChangeSubscriber::new(),
            replicas: Replicas::new(),
            preflight: Mutex::default(),
            steps: Mutex::default(),
            partitions: watch::Sender::new(Arc::new(holds)),
            epoch_check_requested: Arc::new(Notify::new()),
        }
    }

    /// Connects and keeps an eye on it until `stop`. `fresh`: it is empty because it is new.
    pub(super) fn start(self: &Arc<Self>, fresh: bool, tasks: &TaskTracker, stop: &CancellationToken) {
        let (node, token) = (self.clone(), stop.clone());
        tasks.spawn(async move { token.run_until_cancelled(node.supervise(fresh)).await });
        let (node, token) = (self.clone(), stop.clone());
        tasks.spawn(async move { token.run_until_cancelled(node.run_subscriber()).await });
        if self.shared.settings.sync_replicas > 0 {
            let (node, token) = (self.clone(), stop.clone());
            tasks.spawn(async move { token.run_until_cancelled(node.synchronise()).await });
        }
    }

    /// The partitions that it holds.
    pub(super) fn partitions(&self) -> Arc<BTreeSet<PartitionId>> {
        self.partitions.borrow().clone()
    }

    /// It holds these partitions from now on.
    pub(super) fn set_partitions(&self, partitions: BTreeSet<PartitionId>) {
        let changed = self.partitions.send_if_modified(|held| {
            let changed = **held != partitions;
            if changed {
                *held = Arc::new(partitions);
            }
            changed
        });
        if changed {
            self.epoch_check_requested.notify_one();
        }
    }

    pub(super) fn preflight(&self) -> MutexGuard<'_, Preflight> {
        self.preflight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What people should know of it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.preflight().warnings.clone();
        warnings.extend(self.subscription_warnings());
        warnings.extend(self.clock_warning());
        warnings
    }

    /// Why it takes no writes, if it can be reached and does not.
    pub(super) fn write_refusal(&self) -> Option<String> {
        self.connection.write_refusal().filter(|_| self.connection.state().up)
    }

    /// Why it cannot be reached, if so.
    pub(super) fn down(&self) -> Option<String> {
        let link = self.connection.state();
        Some(link.failure).filter(|failure| !link.up && !failure.is_empty())
    }
}
