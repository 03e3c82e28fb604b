//! Reads and watches of one replica: what they share, and how each begins.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ens::Ens;
use crate::ledger::{Ledger, LedgerError, LedgerStore};
use crate::model::{Attachment, Failure, InstanceId, InterfaceId, Timestamp};
use crate::rate_limit::RateLimiter;
use crate::telemetry::Metrics;
use crate::tracker::Tracker;

use super::discover::SingleFlight;
use super::follow::Followed;
use super::reader::RecordWatchers;
use super::stream::{Opening, Watcher};
use super::view::View;
use super::{Coverage, Event, Scope, Settings, failures};

/// The pause before a stream that cannot be opened is tried once more.
const RETRY: Duration = Duration::from_millis(500);
/// How long ENS is waited for at most where the ledger has an answer without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows attachments, and tells how they go.
pub struct Hub<L, E> {
    pub(super) ledger: Arc<Ledger<L>>,
    pub(super) ens: Arc<E>,
    pub(super) limiter: RateLimiter,
    pub(super) tracker: Arc<Tracker<L, E>>,
    pub(super) metrics: Metrics,
    pub(super) settings: Settings,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) flights: SingleFlight,
    pub(super) followed: Arc<Followed>,
    readers: Arc<RecordWatchers>,
}

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// Shows what `book` holds; asks `ens` within `budget` for what it has not seen, and through `tracker` for what is
    /// followed. Its work runs on `tasks`; at `stop` every stream ends with `DRAINING`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one replica, handed over once, where it is put together"
    )]
    pub fn new(
        ledger: Arc<Ledger<L>>,
        ens: Arc<E>,
        limiter: RateLimiter,
        tracker: Arc<Tracker<L, E>>,
        metrics: Metrics,
        settings: Settings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            ens,
            limiter,
            tracker,
            metrics,
            settings,
            tasks,
            stop,
            flights: SingleFlight::default(),
            followed: Arc::default(),
            readers: Arc::default(),
        })
    }

    /// One attachment. If the ledger has not seen it, ENS is asked.
    ///
    /// # Errors
    /// `ATTACHMENT_NOT_FOUND` if neither shows it; `COORDINATION_UNAVAILABLE` if the ledger cannot be reached; why ENS could not be
    /// asked, if it had to be.
    pub async fn get(
        self: &Arc<Self>,
        instance: &InstanceId,
        eni: &InterfaceId,
        deadline: Instant,
    ) -> Result<Attachment, Failure> {
        let view = self.read_view(instance, deadline).await?;
        if let Some(attachment) = view.get(eni) {
            return Ok(Attachment::clone(attachment));
        }
        let asked = self.discover(instance, Some(deadline)).await;
        let view = later(&asked, view, self.read_view(instance, deadline).await)?;
        match (view.get(eni), asked) {
            (Some(attachment), _) => Ok(Attachment::clone(attachment)),
            (None, Ok(_)) => Err(failures::not_found(instance, eni)),
            (None, Err(failure)) => Err(failure.about(instance, eni)),
        }
    }

    /// Every attachment of an instance: those under way, those that are there, whoever made them,
    /// and those that ended lately. If nobody asked ENS for the instance within the last minute,
    /// ENS is asked. If it does not answer in time, the listing holds what the ledger knows, and
    /// says so.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE` if the ledger cannot be reached; why ENS could not be asked, if the
    /// ledger knows nothing either.
    pub async fn list(self: &Arc<Self>, instance: &InstanceId, deadline: Instant) -> Result<Listing, Failure> {
        let mut view = self.read_view(instance, deadline).await?;
        let asked = self.catch_up(instance, &view, Some(deadline)).await;
        if let Some(asked) = &asked {
            view = later(asked, view, self.read_view(instance, deadline).await)?;
        }
        let (sent_at, unasked) = parts(asked);
        let coverage = view.coverage(sent_at, self.ledger.store().now(instance));
        match unasked {
            Some(failure) if view.is_blank(&coverage) => Err(failure),
            _ => Ok(Listing {
                attachments: view.attachments().map(|shared| Attachment::clone(shared)).collect(),
                coverage,
            }),
        }
    }

    /// Tells how the attachments in scope go: first each that is newer than `scope.after`, then a heartbeat, then each change,
    /// in the order of their revisions, which rise. The stream ends well when nothing in scope is under way (at once if
    /// nothing ever was), unless `scope.follow`. A slow reader misses states between and never the last one.
    ///
    /// # Errors
    /// As [`Hub::get`] for the ENI in scope; with `follow` it is waited for instead of
    /// `ATTACHMENT_NOT_FOUND`. As [`Hub::list`] for a whole instance; with `follow` ENS is asked until
    /// it answers. The stream ends with `DRAINING` or `STREAM_TOO_OLD` (at the caller's deadline with
    /// the code `DEADLINE_EXCEEDED`), and with `COORDINATION_RECOVERING` when the ledger lost what was
    /// shown. Without `follow` it also ends with `ATTACHMENT_NOT_FOUND` when the attempt is withdrawn
    /// and left nothing, and, instead of well, with why ENS could not be asked for the instance.
    pub async fn watch(
        self: &Arc<Self>,
        scope: Scope,
    ) -> Result<impl Stream<Item = Result<Event, Failure>> + Send + use<L, E>, Failure> {
        let began = Instant::now();
        if self.stop.is_cancelled() {
            return Err(failures::draining());
        }
        let watched = self.readers.of(&scope.instance, &self.ledger, &self.tasks);
        // A connection that is just being made anew is worth a moment.
        let patiently = async || match watched.fresh().await {
            Err(_) => {
                tokio::time::sleep(RETRY).await;
                watched.fresh().await
            }
            fresh => fresh,
        };
        let fresh = || in_time(scope.until, patiently());
        let mut view = fresh().await?;
        let asked = match &scope.eni {
            Some(eni) if !view.shows(eni) => Some(self.discover(&scope.instance, scope.until).await),
            Some(_) => None,
            None => self.catch_up(&scope.instance, &view, scope.until).await,
        };
        if let Some(asked) = &asked {
            view = later(asked, view, fresh().await)?;
        }
        let (asked, mut unasked) = parts(asked);
        let coverage = view.coverage(asked, self.ledger.store().now(&scope.instance));
        match &scope.eni {
            Some(eni) if !view.shows(eni) => match unasked.take() {
                Some(failure) => return Err(failure.about(&scope.instance, eni)),
                None if !scope.follow => return Err(failures::not_found(&scope.instance, eni)),
                None => {}
            },
            None if !scope.follow && view.is_blank(&coverage) => unasked.take().map_or(Ok(()), Err)?,
            _ => {}
        }
        let opening = Opening {
            view,
            asked,
            unasked,
            began,
        };
        Ok(Watcher::new(self.clone(), scope, watched, opening).into_stream())
    }

    async fn read_view(&self, instance: &InstanceId, deadline: Instant) -> Result<View, Failure> {
        let snapshot = in_time(Some(deadline), self.ledger.read(instance)).await?;
        Ok(View::of(snapshot, &View::default()))
    }

    /// Has the ledger learn what others attached: when ENS was asked, or why it could not be.
    /// `None`: it was asked lately. Where ENS does not answer soon, what the ledger knows has to
    /// do.
    async fn catch_up(
        self: &Arc<Self>,
        instance: &InstanceId,
        view: &View,
        deadline: Option<Instant>,
    ) -> Option<Result<Timestamp, Failure>> {
        if !view.coverage(None, self.ledger.store().now(instance)).incomplete {
            return None;
        }
        let now = Instant::now();
        let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(now) / 2);
        let asked = self.discover(instance, Some(now + left.min(PATIENCE))).await;
        if let Err(failure) = &asked {
            tracing::warn!(%instance, %failure, "ens could not be asked for the instance; reads of it are incomplete");
        }
        Some(asked)
    }
}

/// What a list shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The attachments, by ENI.
    pub attachments: Vec<Attachment>,
    /// What they were checked against.
    pub coverage: Coverage,
}

/// What the ledger holds after ENS was asked. Where it could not be asked, and the ledger no longer
/// answers either, what it held before is as good.
fn later<V>(asked: &Result<Timestamp, Failure>, before: V, after: Result<V, Failure>) -> Result<V, Failure> {
    match after {
        Err(_) if asked.is_err() => Ok(before),
        after => after,
    }
}

/// When ENS was asked, and why it could not be.
fn parts(asked: Option<Result<Timestamp, Failure>>) -> (Option<Timestamp>, Option<Failure>) {
    match asked {
        None => (None, None),
        Some(Ok(sent_at)) => (Some(sent_at), None),
        Some(Err(failure)) => (None, Some(failure)),
    }
}

/// A read of the ledger, which must come before the caller's deadline.
async fn in_time<T>(
    deadline: Option<Instant>,
    read: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, Failure> {
    let read = match deadline {
        None => read.await,
        Some(deadline) => timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_late| Err(LedgerError::not_applied("it did not answer in time"))),
    };
    read.map_err(|error| failures::unreadable(&error))
}
