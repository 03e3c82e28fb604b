//! State that all reads and watches of one replica share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::admission::{ConcurrencyLimit, Sharing};
use crate::backends::Backends;
use crate::drain;
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::model::{InstanceId, Timestamp};
use crate::observe::SingleFlight;
use crate::sync::WeakMap;
use crate::tracker::Tracker;

use super::Settings;
use super::fleet::Fleet;
use super::read_shares::ReadShares;
use super::reader::WatchedInstance;
use super::shared_read::SharedRead;
use super::states::States;

/// Number of records that all lists of all instances read at once, so that attaches do not wait
/// behind them.
const LIST_READS: usize = 16;

/// Number of calls that wait for a permit for instance states at once, and of those of one peer.
const PERMIT_WAITS: (usize, usize) = (8, 2);

/// Reads attachments, and streams their changes.
pub struct Hub<L, E> {
    pub(super) backends: Backends<L, E>,
    pub(super) tracker: Arc<Tracker<L, E>>,
    pub(super) settings: Settings,
    pub(super) tasks: TaskTracker,
    pub(super) drain: drain::Watch,
    pub(super) read_shares: Arc<ReadShares>,
    pub(super) reads: WeakMap<InstanceId, SharedRead>,
    /// The running describes of whole instances. The result: when the describe was sent.
    pub(super) flights: SingleFlight<InstanceId, Timestamp>,
    pub(super) states: States,
    pub(super) watched: WeakMap<InstanceId, WatchedInstance>,
    /// The readers of all partitions, while there are streams of the fleet.
    pub(super) fleet: WeakMap<(), Fleet>,
    /// Calls that wait for a permit for instance states.
    pub(super) permit_waits: ConcurrencyLimit,
    /// Permits to read records for lists of all instances.
    pub(super) list_reads: Semaphore,
    /// The task that refreshes followed scopes, while there are any.
    pub(super) refresh: WeakMap<(), AbortOnDropHandle<()>>,
}

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// A hub over these backends that polls followed ENIs through `tracker`. Its work runs on
    /// `tasks`. At [`drain::Phase::Draining`] it ends every stream with `DRAINING`; no other
    /// component ends streams for a drain.
    pub fn new(
        backends: Backends<L, E>,
        tracker: Arc<Tracker<L, E>>,
        settings: Settings,
        tasks: TaskTracker,
        drain: drain::Watch,
    ) -> Arc<Self> {
        Arc::new(Self {
            backends,
            tracker,
            settings,
            tasks,
            drain,
            read_shares: Arc::new(ReadShares::new(settings.describes_per_peer)),
            reads: WeakMap::default(),
            flights: SingleFlight::default(),
            states: States::default(),
            watched: WeakMap::default(),
            fleet: WeakMap::default(),
            permit_waits: ConcurrencyLimit::new(
                "waits for a permit",
                PERMIT_WAITS.0,
                PERMIT_WAITS.0,
                Sharing::PerPeer(PERMIT_WAITS.1),
            ),
            list_reads: Semaphore::new(LIST_READS),
            refresh: WeakMap::default(),
        })
    }
}
