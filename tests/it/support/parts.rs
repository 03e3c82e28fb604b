//! The parts of a gateway, wired over their backends.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::attach::Attacher;
use eni_gateway::backends::Backends;
use eni_gateway::drain;
use eni_gateway::ens::Ens;
use eni_gateway::ledger::LedgerStore;
use eni_gateway::tracker::Tracker;
use eni_gateway::watch::{Hub, Settings};
use tokio_util::task::TaskTracker;

/// Timeout of one Attach call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// What a gateway has behind its gRPC server. A whole gateway is
/// [`Gateway`](eni_gateway::app::gateway::Gateway).
pub(crate) struct Parts<L, E> {
    pub(crate) attacher: Arc<Attacher<L, E>>,
    pub(crate) tracker: Arc<Tracker<L, E>>,
    pub(crate) hub: Arc<Hub<L, E>>,
    /// The attempts and the readers.
    pub(crate) tasks: TaskTracker,
    pub(crate) drain: drain::Signal,
}

impl<L: LedgerStore, E: Ens> Parts<L, E> {
    pub(crate) fn over(backends: Backends<L, E>) -> Self {
        Self::sharing(backends, f64::MAX)
    }

    /// Over these backends, with this many describes a second for the reads of one peer.
    pub(crate) fn sharing(backends: Backends<L, E>, describes_per_peer: f64) -> Self {
        let (tasks, drain) = (TaskTracker::new(), drain::Signal::default());
        let attacher =
            Attacher::new(backends.clone(), ATTEMPT_TIMEOUT, tasks.clone(), drain.watch());
        let attacher = Arc::new(attacher);
        let tracker = Arc::new(Tracker::new(backends.clone(), attacher.clone(), tasks.clone()));
        let settings = Settings { describes_per_peer, ..Settings::default() };
        let watch = drain.watch();
        let hub = Hub::new(backends, tracker.clone(), settings, tasks.clone(), watch);
        Self { attacher, tracker, hub, tasks, drain }
    }
}
