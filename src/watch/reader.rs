//! The one reader of a watched instance. It publishes the record as a [`View`] after a change
//! notification, every five seconds, and for each request of the current record.
//!
//! It lives from the first stream of an instance to the last. Notifications may be lost, so the
//! interval alone is enough. If the ledger fails, the last view stays.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::ledger::{Ledger, LedgerError, LedgerStore, Snapshot};
use crate::model::{InstanceId, InterfaceId, random};
use crate::sync::WeakMap;
use crate::sync::watch::{Closed, Receiver, Sender, channel};

use super::view::View;

/// Maximum time between two readings; up to a fifth shorter, to spread the readers.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after a failed read; doubles up to [`PAUSE`].
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The latest reading.
#[derive(Debug, Clone, Default)]
struct Published {
    view: Arc<View>,
    /// The last request made before this reading began.
    answers: u64,
    /// The error of the last reading; the view is then older.
    failed: Option<LedgerError>,
}

/// A watched instance. Its reader lives as long as this value.
#[derive(Debug)]
pub(super) struct WatchedInstance {
    _reader: AbortOnDropHandle<()>,
    pub(super) instance: InstanceId,
    /// The scopes that streams follow, each while its value is used.
    pub(super) followed: WeakMap<Option<InterfaceId>, ()>,
    published: Receiver<Published>,
    /// The number of requests for the current record.
    requests: Sender<u64>,
}

impl WatchedInstance {
    /// Starts a reader of the instance.
    pub(super) fn new<L: LedgerStore>(
        instance: &InstanceId,
        ledger: &Arc<Ledger<L>>,
        tasks: &TaskTracker,
    ) -> Self {
        let (sender, published) = channel(Published::default());
        let (requests, requested) = channel(0);
        // The reader outlives the call that began it, so it belongs to no trace.
        let reader = tasks.spawn(read(ledger.clone(), instance.clone(), sender, requested));
        Self {
            _reader: AbortOnDropHandle::new(reader),
            instance: instance.clone(),
            followed: WeakMap::default(),
            published,
            requests,
        }
    }

    /// The latest view.
    pub(super) fn view(&self) -> Arc<View> {
        self.published.borrow().view.clone()
    }

    /// The latest view, if the last reading succeeded.
    pub(super) fn in_memory(&self) -> Option<Arc<View>> {
        let latest = self.published.borrow();
        (latest.answers > 0 && latest.failed.is_none()).then(|| latest.view.clone())
    }

    /// Waits for a view newer than this one. Safe to cancel.
    ///
    /// # Errors
    /// The reader has ended.
    pub(super) async fn newer_than(&self, view: &Arc<View>) -> Result<(), Closed> {
        let newer = self.published.wait_for(|latest| !Arc::ptr_eq(&latest.view, view));
        newer.await.map(drop)
    }

    /// The record as of this call or later. Concurrent callers share one reading.
    pub(super) async fn fresh(&self) -> Result<Arc<View>, LedgerError> {
        let mut request = 0;
        self.requests.send_modify(|count| {
            *count += 1;
            request = *count;
        });
        let answered = self.published.wait_for(|published| published.answers >= request);
        match answered.await {
            Ok(Published { failed: Some(failed), .. }) => Err(failed),
            Ok(Published { view, .. }) => Ok(view),
            Err(Closed) => Err(LedgerError::not_applied("the record is no longer read")),
        }
    }
}

/// Reads until it is aborted.
async fn read<L: LedgerStore>(
    ledger: Arc<Ledger<L>>,
    instance: InstanceId,
    published: Sender<Published>,
    requests: Receiver<u64>,
) {
    let mut changes = ledger.store().changes().subscribe(&instance);
    let (mut retry, mut known) = (FIRST_RETRY, Snapshot::default());
    loop {
        let answers = *requests.borrow();
        let pause = match ledger.read(&instance).await {
            Ok(snapshot) => {
                let same = Arc::ptr_eq(&snapshot.record, &known.record)
                    && snapshot.partition == known.partition;
                let before = published.borrow().view.clone();
                publish(&published, answers, Ok((!same).then(|| View::of(&snapshot, &before))));
                known = snapshot;
                retry = FIRST_RETRY;
                PAUSE
            }
            Err(error) => {
                tracing::debug!(%instance, %error, "a watched record cannot be read; its streams keep the last known state");
                publish(&published, answers, Err(error));
                let pause = retry;
                retry = (retry * 2).min(PAUSE);
                pause
            }
        };
        tokio::select! {
            biased;
            requested = requests.wait_for(|count| *count != answers) => if requested.is_err() { return },
            () = changes.changed() => {}
            () = tokio::time::sleep(pause.mul_f64(random::between(0.8..1.0))) => {}
        }
    }
}

/// Publishes a reading, `None` if the record is unchanged. Wakes the streams only if something
/// changed.
fn publish(
    published: &Sender<Published>,
    answers: u64,
    reading: Result<Option<View>, LedgerError>,
) {
    published.send_if_modified(|latest| {
        let answered = latest.answers != answers;
        latest.answers = answers;
        match reading {
            Ok(view) => {
                latest.failed = None;
                let view = view.filter(|view| *latest.view != *view);
                let changed = view.is_some();
                if let Some(view) = view {
                    latest.view = Arc::new(view);
                }
                changed || answered
            }
            Err(error) => {
                latest.failed = Some(error);
                answered
            }
        }
    });
}
