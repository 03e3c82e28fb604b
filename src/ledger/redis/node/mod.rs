//! One server that holds records: the only one, the primary that sentinels name, or a primary of a cluster.

mod backoff;
pub(super) mod clock;
mod epochs;
pub(super) mod fitness;
mod keeper;
pub(super) mod link;
mod notices;
mod records;
mod replicas;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ledger::keys::PartitionId;

use super::Shared;
use super::route::Finder;
use super::settings::Place;
use clock::Clock;
use epochs::Steps;
use fitness::Fitness;
use link::Link;
use notices::Notices;
use replicas::Replicas;

/// One server, and what is known of it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    finder: Finder,
    /// Where it was found last.
    place: watch::Sender<Option<Place>>,
    pub(super) link: Link,
    pub(super) clock: Clock,
    notices: Notices,
    replicas: Replicas,
    fitness: Mutex<Fitness>,
    steps: Mutex<Steps>,
    /// Which partitions it holds.
    holds: watch::Sender<Arc<BTreeSet<PartitionId>>>,
    /// Told when an epoch was not as expected, or a connection ended, or other partitions came: then all epochs are looked at.
    suspicion: Arc<Notify>,
}

impl Node {
    /// Of whatever `finder` finds; `elsewhere` is told when its partitions may be held by somebody else by now.
    pub(super) fn new(
        shared: &Arc<Shared>,
        finder: Finder,
        holds: BTreeSet<PartitionId>,
        elsewhere: Arc<Notify>,
    ) -> Self {
        Self {
            link: Link::new(shared.settings.response_timeout, elsewhere),
            shared: shared.clone(),
            finder,
            place: watch::Sender::new(None),
            clock: Clock::new(),
            notices: Notices::new(),
            replicas: Replicas::new(),
            fitness: Mutex::default(),
            steps: Mutex::default(),
            holds: watch::Sender::new(Arc::new(holds)),
            suspicion: Arc::new(Notify::new()),
        }
    }

    /// Connects and keeps an eye on it until `stop`. `fresh`: it is empty because it is new.
    pub(super) fn start(self: &Arc<Self>, fresh: bool, tasks: &TaskTracker, stop: &CancellationToken) {
        let (node, token) = (self.clone(), stop.clone());
        tasks.spawn(async move { token.run_until_cancelled(node.keep(fresh)).await });
        let (node, token) = (self.clone(), stop.clone());
        tasks.spawn(async move { token.run_until_cancelled(node.hear()).await });
        if self.shared.settings.sync_replicas > 0 {
            let (node, token) = (self.clone(), stop.clone());
            tasks.spawn(async move { token.run_until_cancelled(node.synchronise()).await });
        }
    }

    /// The partitions that it holds.
    pub(super) fn partitions(&self) -> Arc<BTreeSet<PartitionId>> {
        self.holds.borrow().clone()
    }

    /// It holds these partitions from now on.
    pub(super) fn holds(&self, partitions: BTreeSet<PartitionId>) {
        let changed = self.holds.send_if_modified(|held| {
            let changed = **held != partitions;
            if changed {
                *held = Arc::new(partitions);
            }
            changed
        });
        if changed {
            self.suspicion.notify_one();
        }
    }

    pub(super) fn fitness(&self) -> MutexGuard<'_, Fitness> {
        self.fitness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What people should know of it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.fitness().warnings.clone();
        warnings.extend(self.hearing());
        warnings.extend(self.clock_warning());
        warnings
    }

    /// Why it takes no writes, if it can be reached and does not.
    pub(super) fn refusing(&self) -> Option<String> {
        self.link.refusing().filter(|_| self.link.state().up)
    }

    /// Why it cannot be reached, if so.
    pub(super) fn down(&self) -> Option<String> {
        let link = self.link.state();
        Some(link.failure).filter(|failure| !link.up && !failure.is_empty())
    }
}
