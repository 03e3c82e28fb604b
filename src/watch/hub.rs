//! Reads and watches of one replica: what they share, and how each begins.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attach::failures::unavailable;
use crate::ens::{Budget, Ens};
use crate::ledger::command::Command;
use crate::ledger::record::Record;
use crate::ledger::{Book, Ledger, Unavailable};
use crate::model::{Attachment, Failure, InstanceId, InterfaceId, Timestamp};
use crate::telemetry::Metrics;
use crate::tracker::Tracker;

use super::discover::Flights;
use super::follow::Followed;
use super::reader::Readers;
use super::stream::Watcher;
use super::{Event, Scope, Settings, failures};

/// How old the last describe of an instance may be before its attachments are shown without asking ENS for those that
/// others made.
const OBSERVED_WITHIN: Duration = Duration::from_secs(60);

/// The pause before a stream that cannot be opened is tried once more.
const RETRY: Duration = Duration::from_millis(500);
/// How long ENS is waited for at most where the ledger has an answer without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows attachments, and tells how they go.
pub struct Hub<L, E> {
    pub(super) book: Arc<Book<L>>,
    pub(super) ens: Arc<E>,
    pub(super) budget: Budget,
    pub(super) tracker: Arc<Tracker<L, E>>,
    pub(super) metrics: Metrics,
    pub(super) settings: Settings,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) flights: Flights,
    pub(super) followed: Arc<Followed>,
    readers: Arc<Readers>,
}

impl<L: Ledger, E: Ens> Hub<L, E> {
    /// Shows what `book` holds; asks `ens` within `budget` for what it has not seen, and through `tracker` for what is
    /// followed. Its work runs on `tasks`; at `stop` every stream ends with `DRAINING`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one replica, handed over once, where it is put together"
    )]
    pub fn new(
        book: Arc<Book<L>>,
        ens: Arc<E>,
        budget: Budget,
        tracker: Arc<Tracker<L, E>>,
        metrics: Metrics,
        settings: Settings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            book,
            ens,
            budget,
            tracker,
            metrics,
            settings,
            tasks,
            stop,
            flights: Flights::default(),
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
        if let Some(attempt) = self.look(instance, deadline).await?.attempts.get(eni) {
            return Ok(attempt.attachment.clone());
        }
        self.discover(instance, Some(deadline))
            .await
            .map_err(|failure| failure.about(instance, eni))?;
        let record = self.look(instance, deadline).await?;
        let attempt = record
            .attempts
            .get(eni)
            .ok_or_else(|| failures::not_found(instance, eni))?;
        Ok(attempt.attachment.clone())
    }

    /// Every attachment of an instance, by ENI: those under way, those that are there, whoever made them, and those that
    /// ended lately. If nobody asked ENS for the instance within the last minute, ENS is asked; if it does not answer, what
    /// the ledger knows is shown.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE` if the ledger cannot be reached.
    pub async fn list(self: &Arc<Self>, instance: &InstanceId, deadline: Instant) -> Result<Vec<Attachment>, Failure> {
        let mut record = self.look(instance, deadline).await?;
        if self.catch_up(instance, record.observed_at(), Some(deadline)).await {
            record = self.look(instance, deadline).await?;
        }
        Ok(record
            .attempts
            .values()
            .map(|attempt| attempt.attachment.clone())
            .collect())
    }

    /// Tells how the attachments in scope go: first each that is newer than `scope.after`, then a heartbeat, then each change,
    /// in the order of their revisions, which rise. The stream ends well when nothing in scope is under way (at once if
    /// nothing ever was), unless `scope.follow`. A slow reader misses states between and never the last one.
    ///
    /// # Errors
    /// As [`Hub::get`] for the ENI in scope; with `follow` it is waited for instead of `ATTACHMENT_NOT_FOUND`. The stream ends with
    /// `DRAINING` or `STREAM_TOO_OLD` (at the caller's deadline with the code `DEADLINE_EXCEEDED`), with
    /// `COORDINATION_RECOVERING` when the ledger lost what was shown, and with `ATTACHMENT_NOT_FOUND` when the attempt is withdrawn
    /// and left nothing, unless `scope.follow`.
    pub async fn watch(
        self: &Arc<Self>,
        scope: Scope,
    ) -> Result<impl Stream<Item = Result<Event, Failure>> + Send + use<L, E>, Failure> {
        let began = Instant::now();
        if self.stop.is_cancelled() {
            return Err(failures::draining());
        }
        let watched = self.readers.of(&scope.instance, &self.book, &self.tasks);
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
        match &scope.eni {
            Some(eni) if !view.shows(eni) => {
                let found = self.discover(&scope.instance, scope.until).await;
                found.map_err(|failure| failure.about(&scope.instance, eni))?;
                view = fresh().await?;
                if !scope.follow && !view.shows(eni) {
                    return Err(failures::not_found(&scope.instance, eni));
                }
            }
            None if self.catch_up(&scope.instance, view.observed_at, scope.until).await => view = fresh().await?,
            _ => {}
        }
        Ok(Watcher::new(self.clone(), scope, watched, view, began).into_stream())
    }

    async fn look(&self, instance: &InstanceId, deadline: Instant) -> Result<Arc<Record>, Failure> {
        let look = self.book.execute(instance, &Command::Look);
        Ok(in_time(Some(deadline), look).await?.record)
    }

    /// Has the ledger learn what others attached, unless it asked lately; whether it did. Where ENS does not answer soon, what the
    /// ledger knows is enough.
    async fn catch_up(
        self: &Arc<Self>,
        instance: &InstanceId,
        observed_at: Option<Timestamp>,
        deadline: Option<Instant>,
    ) -> bool {
        let since = self.book.ledger().now(instance) - OBSERVED_WITHIN;
        if observed_at.is_some_and(|observed_at| observed_at >= since) {
            return false;
        }
        let now = Instant::now();
        let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(now) / 2);
        let caught_up = self.discover(instance, Some(now + left.min(PATIENCE))).await;
        if let Err(failure) = &caught_up {
            tracing::warn!(%instance, %failure, "ens could not be asked for the instance; what the ledger knows is shown");
        }
        caught_up.is_ok()
    }
}

/// A read of the ledger, which must come before the caller's deadline.
async fn in_time<T>(
    deadline: Option<Instant>,
    read: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, Failure> {
    let read = match deadline {
        None => read.await,
        Some(deadline) => timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_late| Err(Unavailable::before("it did not answer in time"))),
    };
    read.map_err(|error| unavailable(&error))
}
