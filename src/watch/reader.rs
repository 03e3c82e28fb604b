//! The one reader of a watched instance: it reads the record on a hint, every five seconds, and when somebody asks for the
//! truth as of now, and publishes it as a [`View`].
//!
//! It begins with the first stream of an instance and ends with the last. Hints may be lost, so that time alone is enough;
//! a ledger that fails leaves the last view standing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::ledger::{Ledger, LedgerError, LedgerStore};
use crate::model::{InstanceId, random};

use super::channel::{Ended, Receiver, Sender, latest};
use super::view::View;

/// How long a watched record goes unread without a hint; up to a fifth shorter, so that readers do not read together.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after a failed read; doubles up to [`PAUSE`].
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The latest reading.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) view: Arc<View>,
    /// Requests up to this one were made before the reading began.
    answers: u64,
    /// Why the last reading failed: the view is older.
    failed: Option<LedgerError>,
}

/// A watched instance. The reader lives as long as this.
#[derive(Debug)]
pub(super) struct WatchedInstance {
    pub(super) instance: InstanceId,
    published: Receiver<Published>,
    /// Counts those who asked for the truth as of now.
    requests: Sender<u64>,
    readers: Arc<RecordWatchers>,
}

impl WatchedInstance {
    /// Every reading, the latest first.
    pub(super) fn published(&self) -> Receiver<Published> {
        self.published.clone()
    }

    /// The record as it stands after this call, not before. Any number of askers at once share one reading.
    pub(super) async fn fresh(&self) -> Result<Arc<View>, LedgerError> {
        let mut request = 0;
        self.requests.send_if_modified(|count| {
            *count += 1;
            request = *count;
            true
        });
        let answered = self.published.wait_for(|published| published.answers >= request);
        match answered.await {
            Ok(Published {
                failed: Some(failed), ..
            }) => Err(failed),
            Ok(Published { view, .. }) => Ok(view),
            Err(Ended) => Err(LedgerError::not_applied("the record is no longer read")),
        }
    }
}

impl Drop for WatchedInstance {
    fn drop(&mut self) {
        let mut watched = self.readers.lock();
        // Another one may have taken its place already.
        if watched
            .get(&self.instance)
            .is_some_and(|other| other.strong_count() == 0)
        {
            watched.remove(&self.instance);
        }
    }
}

/// The readers of one replica.
#[derive(Debug, Default)]
pub(super) struct RecordWatchers {
    watched: Mutex<BTreeMap<InstanceId, Weak<WatchedInstance>>>,
}

impl RecordWatchers {
    /// The instance, read from now on at the latest.
    pub(super) fn of<L: LedgerStore>(
        self: &Arc<Self>,
        instance: &InstanceId,
        ledger: &Arc<Ledger<L>>,
        tasks: &TaskTracker,
    ) -> Arc<WatchedInstance> {
        let mut all = self.lock();
        if let Some(watched) = all.get(instance).and_then(Weak::upgrade) {
            return watched;
        }
        let (sender, published) = latest(Published {
            view: Arc::default(),
            answers: 0,
            failed: None,
        });
        let (requests, asked) = latest(0);
        let watched = Arc::new(WatchedInstance {
            instance: instance.clone(),
            published,
            requests,
            readers: self.clone(),
        });
        all.insert(instance.clone(), Arc::downgrade(&watched));
        // The reader outlives the call that began it, and belongs to nobody's trace.
        tasks.spawn(read(ledger.clone(), instance.clone(), sender, asked));
        watched
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Weak<WatchedInstance>>> {
        // Every critical section leaves the map whole.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until nobody watches.
async fn read<L: LedgerStore>(
    ledger: Arc<Ledger<L>>,
    instance: InstanceId,
    published: Sender<Published>,
    requests: Receiver<u64>,
) {
    let mut hint = ledger.store().changes().subscribe(&instance);
    let mut retry = FIRST_RETRY;
    loop {
        let answers = requests.get();
        let reading = tokio::select! {
            biased;
            () = published.closed() => return,
            reading = ledger.read(&instance) => reading,
        };
        let pause = match reading {
            Ok(snapshot) => {
                let before = published.get().view;
                publish(&published, answers, Ok(View::of(snapshot, &before)));
                retry = FIRST_RETRY;
                PAUSE
            }
            Err(error) => {
                tracing::debug!(%instance, %error, "a watched record cannot be read; its streams show what is known");
                publish(&published, answers, Err(error));
                let pause = retry;
                retry = (retry * 2).min(PAUSE);
                pause
            }
        };
        tokio::select! {
            biased;
            asked = requests.wait_for(|count| *count != answers) => if asked.is_err() { return },
            () = hint.changed() => {}
            () = tokio::time::sleep(pause.mul_f64(random::between(0.8..1.0))) => {}
        }
    }
}

/// Wakes the streams only if there is something to see.
fn publish(published: &Sender<Published>, answers: u64, reading: Result<View, LedgerError>) {
    published.send_if_modified(|latest| {
        let answered = latest.answers != answers;
        latest.answers = answers;
        match reading {
            Ok(view) => {
                latest.failed = None;
                let changed = *latest.view != view;
                if changed {
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
