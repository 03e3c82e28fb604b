//! The readers of all partitions. Each publishes what changed after a change notification, every
//! five seconds, and for each request of the present state.
//!
//! They live from the first stream of the fleet to the last. Notifications may be lost, so the
//! interval alone is enough. If the ledger fails, the last view stays.

use std::collections::BTreeMap;
use std::ops::Bound;
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
/// Interval at which records that cannot be read are read again. They may become readable without a
/// change.
const REREAD: Duration = Duration::from_secs(10);
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
    /// Rises when a record may have become readable that could not be read.
    pub(in super::super) recoveries: u64,
    instances: BTreeMap<InstanceId, InstanceView>,
    /// The instances by the position of their last change.
    order: BTreeMap<Position, InstanceId>,
}

impl PartitionView {
    /// The record of an instance; `None` if the view does not have it.
    pub(in super::super) fn record(&self, instance: &InstanceId) -> Option<&RecordView> {
        self.instances.get(instance).map(|seen| &seen.record)
    }

    /// The record of each instance.
    pub(in super::super) fn records(&self) -> impl Iterator<Item = (&InstanceId, &RecordView)> {
        self.instances.iter().map(|(instance, seen)| (instance, &seen.record))
    }

    /// The instances whose last change is after this position, in the order of these changes.
    pub(in super::super) fn changed_since(
        &self,
        position: Position,
    ) -> impl Iterator<Item = (Position, &InstanceId)> {
        let changed = self.order.range((Bound::Excluded(position), Bound::Unbounded));
        changed.map(|(position, instance)| (*position, instance))
    }

    /// The view from which the whole partition is read again.
    fn restarted(&self, life: Option<Life>) -> Self {
        Self { life, recoveries: self.recoveries + 1, ..Self::default() }
    }

    /// The instances whose record cannot be read.
    fn unreadable(&self) -> Vec<(Position, InstanceId)> {
        let unreadable = self.instances.iter().filter(|(_, seen)| seen.record.is_err());
        unreadable.map(|(instance, seen)| (seen.position, instance.clone())).collect()
    }

    fn put(&mut self, position: Position, instance: InstanceId, record: RecordView) {
        let is_readable = record.is_ok();
        let seen = InstanceView { position, record };
        if let Some(before) = self.instances.insert(instance.clone(), seen) {
            self.order.remove(&before.position);
            self.recoveries += u64::from(before.record.is_err() && is_readable);
        }
        self.order.insert(position, instance);
        self.position = self.position.max(position);
    }
}

/// One instance at one moment.
#[derive(Debug, Clone)]
struct InstanceView {
    /// The position of its last change.
    position: Position,
    record: RecordView,
}

/// The record of an instance: what it shows, or why it cannot be read.
pub(in super::super) type RecordView = Result<Arc<View>, LedgerError>;

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
    pub(in super::super) version: u64,
    pub(in super::super) partitions: Vec<Reading>,
}

/// What the readers read. They live as long as this value.
#[derive(Debug)]
pub(in super::super) struct Fleet {
    readings: Receiver<Arc<Readings>>,
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
        let (sender, readings) = channel(Arc::new(Readings { version: 0, partitions }));
        let (requests, requested) = channel(0);
        let (sender, records) = (Arc::new(sender), Arc::new(Semaphore::new(AT_ONCE)));
        let readers = PartitionId::all().map(|partition| {
            let reader = PartitionReader {
                ledger: ledger.clone(),
                partition,
                records: records.clone(),
                readings: sender.clone(),
            };
            AbortOnDropHandle::new(tasks.spawn(reader.run(requested.clone())))
        });
        Self { _readers: readers.collect(), readings, requests }
    }

    /// The latest readings. To hold them keeps all of them in memory, so a stream does not.
    pub(in super::super) fn latest(&self) -> Arc<Readings> {
        self.readings.borrow().clone()
    }

    /// Waits for readings of another version. Safe to cancel.
    pub(in super::super) async fn newer_than(&self, version: u64) -> Result<(), Closed> {
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
        let closed = |_| LedgerError::not_applied("the records are no longer read");
        let latest = latest.await.map_err(closed)?;
        let failed = latest.partitions.iter().find_map(|reading| reading.failed.clone());
        match failed.filter(|_| !latest.partitions.iter().any(is_answered)) {
            Some(failed) => Err(failed),
            None => Ok(()),
        }
    }
}

/// The reader of one partition.
struct PartitionReader<L> {
    ledger: Arc<Ledger<L>>,
    partition: PartitionId,
    /// Permits to read records.
    records: Arc<Semaphore>,
    readings: Arc<Sender<Arc<Readings>>>,
}

impl<L: LedgerStore> PartitionReader<L> {
    /// Reads until it is aborted.
    async fn run(self, requests: Receiver<u64>) {
        let mut changes = self.ledger.store().changes().subscribe_partition(self.partition);
        let (mut view, mut swept) = (Arc::new(PartitionView::default()), Instant::now());
        let (mut reread, mut retry) = (swept, FIRST_RETRY);
        loop {
            let (request, began) = (*requests.borrow(), Instant::now());
            let is_sweep = swept.elapsed() >= SWEEP;
            let is_reread = is_sweep || reread.elapsed() >= REREAD;
            let pause = match self.read(&view, is_sweep, is_reread).await {
                Ok(newer) => {
                    let of = |view: &PartitionView| (view.position, view.life, view.recoveries);
                    if is_sweep || of(&newer) != of(&view) {
                        view = Arc::new(newer);
                    }
                    if is_sweep {
                        swept = began;
                    }
                    if is_reread {
                        reread = began;
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
            let index = self.partition.index();
            let Some(last) = latest.partitions.get(index) else {
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
            if !is_same {
                let latest = Arc::make_mut(latest);
                latest.partitions[index] = Reading { view, answers, tried: request, failed };
                latest.version += 1;
            }
            !is_same
        });
    }

    /// The view after the changes since `known`. A sweep reads every instance, and `is_reread` the
    /// records that could not be read.
    async fn read(
        &self,
        known: &PartitionView,
        is_sweep: bool,
        is_reread: bool,
    ) -> Result<PartitionView, LedgerError> {
        let mut view = if is_sweep { known.restarted(known.life) } else { known.clone() };
        loop {
            let store = self.ledger.store();
            let changed = store.changed_since(self.partition, view.position, LISTED).await?;
            let life = Some(Life::of(&changed.partition));
            if view.life != life || changed.last < view.position {
                let is_start = view.position == Position::default();
                view = view.restarted(life);
                // The list is of a later position than the start.
                if !is_start {
                    continue;
                }
            }
            let is_last = changed.instances.len() < LISTED;
            let epoch = &*changed.partition.epoch;
            // First, so that a newer position of an instance stands.
            let again = if is_last && is_reread { view.unreadable() } else { Vec::new() };
            let read: Vec<_> = stream::iter(again.into_iter().chain(changed.instances))
                .map(|(position, instance)| async move {
                    let record = self.record(&instance, epoch).await?;
                    Ok::<_, LedgerError>((position, instance, record))
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            for (position, instance, record) in read {
                if let Err(error) = &record
                    && !matches!(view.record(&instance), Some(Err(_)))
                {
                    super::log_unreadable(&instance, error);
                }
                view.put(position, instance, record);
            }
            if is_last {
                view.position = view.position.max(changed.last);
                return Ok(view);
            }
        }
    }

    /// The record of an instance, which must be of this epoch.
    async fn record(&self, instance: &InstanceId, epoch: &str) -> Result<RecordView, LedgerError> {
        let _permit = self.records.acquire().await;
        let snapshot = match self.ledger.store().read(instance, None).await {
            Err(error) if error.is_unreadable() => return Ok(Err(error)),
            snapshot => snapshot?,
        };
        if *snapshot.partition.epoch != *epoch {
            return Err(LedgerError::not_applied("the partition's epoch changed meanwhile"));
        }
        Ok(Ok(Arc::new(View::of(&snapshot, &View::default()))))
    }
}
