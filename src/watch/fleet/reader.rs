//! The readers of all partitions. Each publishes what changed after a change notification, every
//! five seconds, and for each request of the present state.
//!
//! They live from the first stream of the fleet to the last. Notifications may be lost, so the
//! interval alone is enough. If the ledger fails, the last view stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::ledger::PartitionId;
use crate::ledger::{Ledger, LedgerError, LedgerStore};
use crate::model::{InstanceId, Position, random};
use crate::sync::watch::{Closed, Receiver, Sender, channel};

use super::super::view::View;
use super::token::Life;

/// Maximum time between two readings; up to a fifth shorter, to spread the readers.
const PAUSE: Duration = Duration::from_secs(5);
/// Minimum time between two readings of a partition, so that a busy one is read in batches.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a failed reading; doubles up to [`PAUSE`].
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Interval at which a whole partition is read. Records end, and forget ended attempts, without a
/// change.
const SWEEP: Duration = Duration::from_secs(600);
/// Maximum number of instances in one list.
const LISTED: usize = 200;
/// Number of records that all readers read at once, so that attaches do not wait behind them.
const AT_ONCE: usize = 16;

/// The instances of one partition.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct PartitionView {
    /// `None` before the first reading.
    pub(in super::super) life: Option<Life>,
    /// Every change up to it is in the view.
    pub(in super::super) position: Position,
    /// The instances, by the position of their last change.
    pub(in super::super) instances: BTreeMap<Position, Arc<InstanceView>>,
    positions: BTreeMap<InstanceId, Position>,
}

impl PartitionView {
    fn put(&mut self, position: Position, instance: Arc<InstanceView>) {
        if let Some(before) = self.positions.insert(instance.instance.clone(), position) {
            self.instances.remove(&before);
        }
        self.instances.insert(position, instance);
        self.position = self.position.max(position);
    }
}

/// One instance at one moment.
#[derive(Debug)]
pub(in super::super) struct InstanceView {
    pub(in super::super) instance: InstanceId,
    pub(in super::super) view: View,
}

/// The latest reading of a partition.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Reading {
    pub(in super::super) view: Arc<PartitionView>,
    /// The last request made before the view was read.
    pub(in super::super) answers: u64,
    /// The last request made before the last reading, which may have failed.
    tried: u64,
    /// The error of the last reading; the view is then older.
    pub(in super::super) failed: Option<LedgerError>,
}

/// The latest readings of all partitions.
#[derive(Debug, Clone)]
pub(in super::super) struct Readings {
    /// Rises with each reading that changed something.
    version: u64,
    pub(in super::super) partitions: Vec<Reading>,
}

/// What the readers read. They live as long as this value.
#[derive(Debug)]
pub(in super::super) struct Fleet {
    readings: Receiver<Readings>,
    requests: Sender<u64>,
    _readers: Vec<AbortOnDropHandle<()>>,
}

impl Fleet {
    /// Starts a reader of each partition.
    pub(in super::super) fn new<L: LedgerStore>(
        ledger: &Arc<Ledger<L>>,
        tasks: &TaskTracker,
    ) -> Self {
        let partitions = PartitionId::all().map(|_| Reading::default()).collect();
        let (sender, readings) = channel(Readings { version: 0, partitions });
        let (requests, requested) = channel(0);
        let (sender, records) = (Arc::new(sender), Arc::new(Semaphore::new(AT_ONCE)));
        let readers = PartitionId::all().map(|partition| {
            let reader = Reader {
                ledger: ledger.clone(),
                partition,
                records: records.clone(),
                readings: sender.clone(),
            };
            AbortOnDropHandle::new(tasks.spawn(reader.run(requested.clone())))
        });
        Self { _readers: readers.collect(), readings, requests }
    }

    /// The latest readings.
    pub(in super::super) fn latest(&self) -> Readings {
        self.readings.borrow().clone()
    }

    /// Waits for a reading that is not among these. Safe to cancel.
    pub(in super::super) async fn newer_than(&self, known: &Readings) -> Result<(), Closed> {
        let version = known.version;
        self.readings.wait_for(|latest| latest.version != version).await.map(drop)
    }

    /// Requests the present state. Returns the number that readings of it answer.
    pub(in super::super) fn request(&self) -> u64 {
        let mut request = 0;
        self.requests.send_modify(|count| {
            *count += 1;
            request = *count;
        });
        request
    }

    /// Waits until the request is answered for some partition.
    ///
    /// # Errors
    /// No partition can be read.
    pub(in super::super) async fn answered(&self, request: u64) -> Result<(), LedgerError> {
        let is_answered = |reading: &Reading| reading.answers >= request;
        let latest = self.readings.wait_for(|latest| {
            latest.partitions.iter().any(is_answered)
                || latest.partitions.iter().all(|reading| reading.tried >= request)
        });
        let readings = latest.await.map(|latest| latest.partitions).unwrap_or_default();
        if readings.iter().any(is_answered) {
            return Ok(());
        }
        let failed = readings.into_iter().find_map(|reading| reading.failed);
        Err(failed.unwrap_or_else(|| LedgerError::not_applied("the records are no longer read")))
    }
}

/// The reader of one partition.
struct Reader<L> {
    ledger: Arc<Ledger<L>>,
    partition: PartitionId,
    /// Permits to read records.
    records: Arc<Semaphore>,
    readings: Arc<Sender<Readings>>,
}

impl<L: LedgerStore> Reader<L> {
    /// Reads until it is aborted.
    async fn run(self, requests: Receiver<u64>) {
        let mut changes = self.ledger.store().changes().subscribe_partition(self.partition);
        let (mut view, mut swept) = (Arc::new(PartitionView::default()), Instant::now());
        let mut retry = FIRST_RETRY;
        loop {
            let (request, began) = (*requests.borrow(), Instant::now());
            let is_sweep = swept.elapsed() >= SWEEP;
            let pause = match self.read(&view, is_sweep).await {
                Ok(newer) => {
                    let changed = newer.position != view.position || newer.life != view.life;
                    if is_sweep || changed {
                        view = Arc::new(newer);
                    }
                    if is_sweep {
                        swept = began;
                    }
                    self.publish(request, Ok(&view));
                    retry = FIRST_RETRY;
                    PAUSE
                }
                Err(error) => {
                    tracing::debug!(partition = self.partition.index(), %error, "a partition cannot be read; streams keep its last known state");
                    self.publish(request, Err(error));
                    let pause = retry;
                    retry = (retry * 2).min(PAUSE);
                    pause
                }
            };
            tokio::select! {
                biased;
                requested = requests.wait_for(|count| *count != request) => if requested.is_err() { return },
                () = changes.changed() => {}
                () = sleep(pause.mul_f64(random::between(0.8..1.0))) => {}
            }
            sleep_until(began + LEAST_PAUSE).await;
        }
    }

    /// Publishes a reading, and wakes the streams if anything is new.
    fn publish(&self, request: u64, reading: Result<&Arc<PartitionView>, LedgerError>) {
        self.readings.send_if_modified(|latest| {
            let Some(last) = latest.partitions.get_mut(self.partition.index()) else {
                return false;
            };
            let (view, failed) = match reading {
                Ok(view) => (view.clone(), None),
                Err(error) => (last.view.clone(), Some(error)),
            };
            let answers = if failed.is_none() { request } else { last.answers };
            let is_same = Arc::ptr_eq(&view, &last.view)
                && (answers, request) == (last.answers, last.tried)
                && failed.is_some() == last.failed.is_some();
            *last = Reading { view, answers, tried: request, failed };
            latest.version += u64::from(!is_same);
            !is_same
        });
    }

    /// The view after the changes since `known`. A sweep reads every instance.
    async fn read(
        &self,
        known: &PartitionView,
        is_sweep: bool,
    ) -> Result<PartitionView, LedgerError> {
        let mut view = if is_sweep {
            PartitionView { life: known.life, ..PartitionView::default() }
        } else {
            known.clone()
        };
        loop {
            let store = self.ledger.store();
            let changed = store.changed_since(self.partition, view.position, LISTED).await?;
            let life = Some(Life::of(&changed.partition));
            if view.life != life || changed.last < view.position {
                let is_start = view.position == Position::default();
                view = PartitionView { life, ..PartitionView::default() };
                // The list is of a later position than the start.
                if !is_start {
                    continue;
                }
            }
            let is_last = changed.instances.len() < LISTED;
            let epoch = &*changed.partition.epoch;
            let read: Vec<_> = stream::iter(changed.instances)
                .map(|(position, instance)| async move {
                    Ok::<_, LedgerError>((position, self.instance(instance, epoch).await?))
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            read.into_iter().for_each(|(position, instance)| view.put(position, instance));
            if is_last {
                view.position = view.position.max(changed.last);
                return Ok(view);
            }
        }
    }

    /// The record of an instance, which must be of this epoch.
    async fn instance(
        &self,
        instance: InstanceId,
        epoch: &str,
    ) -> Result<Arc<InstanceView>, LedgerError> {
        let _permit = self.records.acquire().await;
        let snapshot = self.ledger.store().read(&instance, None).await?;
        if *snapshot.partition.epoch != *epoch {
            return Err(LedgerError::not_applied("the partition's epoch changed meanwhile"));
        }
        let view = View::of(&snapshot, &View::default());
        Ok(Arc::new(InstanceView { instance, view }))
    }
}
