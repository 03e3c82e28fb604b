//! The entry points of reads and watches.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Instant, timeout_at};

use crate::admission::Peer;
use crate::drain::Phase;
use crate::ens::Ens;
use crate::failures::{Operation, watch as failures};
use crate::ledger::{LedgerError, LedgerStore, Snapshot};
use crate::model::{Attachment, Failure, InstanceId, InterfaceId, Timestamp};

use super::reader::WatchedInstance;
use super::stream::InstanceWatcher;
use super::view::View;
use super::{Coverage, Event, Hub, ReadCall, Scope};

/// Pause before the second attempt to open a stream.
const RETRY: Duration = Duration::from_millis(500);
/// Maximum wait for ENS where the ledger has an answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// The attachment of an ENI. Describes the instance if the ledger does not know the ENI, and
    /// the last describe is older than a minute.
    ///
    /// # Errors
    /// `ATTACHMENT_NOT_FOUND` if neither shows it; `COORDINATION_UNAVAILABLE` if the ledger fails;
    /// the reason of a failed describe.
    pub async fn get(
        self: &Arc<Self>,
        instance: &InstanceId,
        eni: &InterfaceId,
        ReadCall { peer, deadline }: ReadCall,
    ) -> Result<Attachment, Failure> {
        let snapshot = self.read_record(instance, deadline).await?;
        if let Some(attempt) = snapshot.record.attempts.get(eni) {
            return Ok(attempt.attachment());
        }
        if View::of(&snapshot, &View::default()).excludes(eni, self.now(instance)) {
            return Err(failures::not_found(instance, eni));
        }
        let record = snapshot.record;
        let last_describe = self.discover(instance, peer, Some(deadline)).await;
        let read = self.read_record(instance, deadline).await.map(|snapshot| snapshot.record);
        let record = later(&last_describe, record, read)?;
        match (record.attempts.get(eni), last_describe) {
            (Some(attempt), _) => Ok(attempt.attachment()),
            (None, Ok(_)) => Err(failures::not_found(instance, eni)),
            (None, Err(failure)) => Err(failure.about(instance, eni)),
        }
    }

    /// Every attachment of an instance, of either origin: in flight, attached, or ended lately.
    /// Describes the instance if the last describe is older than a minute. If ENS does not answer
    /// in time, the listing holds the ledger's state and is marked incomplete.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE` if the ledger fails; the reason of a failed describe, if the
    /// ledger knows nothing of the instance.
    pub async fn list(
        self: &Arc<Self>,
        instance: &InstanceId,
        ReadCall { peer, deadline }: ReadCall,
    ) -> Result<Listing, Failure> {
        let mut view = self.read_view(instance, deadline).await?;
        let last_describe = self.catch_up(instance, &view, (peer, Some(deadline))).await;
        if let Some(last_describe) = &last_describe {
            view = later(last_describe, view, self.read_view(instance, deadline).await)?;
        }
        let coverage = view.coverage(last_describe.as_ref(), self.now(instance));
        match last_describe {
            Some(Err(failure)) if view.is_blank(&coverage) => Err(failure),
            _ => Ok(Listing {
                attachments: view.attachments().map(|shared| Attachment::clone(shared)).collect(),
                coverage,
            }),
        }
    }

    /// Whether a stream of this scope starts without a read of the ledger.
    pub fn is_in_memory(&self, scope: &Scope) -> bool {
        let watched = self.watched.get(&scope.instance);
        watched.is_some_and(|watched| self.in_memory(&watched, scope).is_some())
    }

    fn in_memory(&self, watched: &WatchedInstance, scope: &Scope) -> Option<Arc<View>> {
        let now = self.backends.ledger.store().now(&scope.instance);
        watched.in_memory().filter(|view| view.may_start(scope, now))
    }

    /// A stream of the attachments in scope: each newer than `scope.after`, a heartbeat, then each
    /// change, by rising revisions. Without `scope.follow` it ends with OK when nothing in scope is
    /// in flight. A slow caller misses intermediate states, never the last one.
    ///
    /// # Errors
    /// As [`Hub::get`] for one ENI, but with `follow` a missing ENI is awaited. As [`Hub::list`]
    /// for an instance, but with `follow` the describe is repeated until ENS answers.
    ///
    /// The stream ends with `DRAINING`, `STREAM_TOO_OLD`, the code `DEADLINE_EXCEEDED`, or
    /// `COORDINATION_RECOVERING` when the ledger lost data. Without `follow` it ends with
    /// `ATTACHMENT_NOT_FOUND` if the attempt was withdrawn. If the instance could not be described,
    /// or not since the last recovery hold-down, it ends with that reason instead of OK.
    pub async fn watch(
        self: &Arc<Self>,
        scope: Scope,
    ) -> Result<impl Stream<Item = Result<Event, Failure>> + Send + use<L, E>, Failure> {
        let began = Instant::now();
        if self.drain.has_reached(Phase::Draining) {
            return Err(Operation::Read(&scope.instance).draining());
        }
        let watched = self.watched.of_with(&scope.instance, || {
            WatchedInstance::new(&scope.instance, &self.backends.ledger, &self.tasks)
        });
        if let Some(view) = self.in_memory(&watched, &scope) {
            return Ok(
                InstanceWatcher::new(self.clone(), scope, watched, view, None, began).into_stream()
            );
        }
        // A connection may just be recovering, so one short wait.
        let patiently = async || match watched.fresh().await {
            Err(_) => {
                tokio::time::sleep(RETRY).await;
                watched.fresh().await
            }
            fresh => fresh,
        };
        let unavailable = |error: &_| Operation::Read(&scope.instance).ledger_unavailable(error);
        let fresh = || in_time(scope.until, patiently(), unavailable);
        let mut view = fresh().await?;
        let last_describe = match &scope.eni {
            Some(eni) if view.shows(eni) || view.excludes(eni, self.now(&scope.instance)) => None,
            Some(_) => Some(self.discover(&scope.instance, scope.peer, scope.until).await),
            None => self.catch_up(&scope.instance, &view, (scope.peer, scope.until)).await,
        };
        if let Some(last_describe) = &last_describe {
            view = later(last_describe, view, fresh().await)?;
        }
        let coverage = view.coverage(last_describe.as_ref(), self.now(&scope.instance));
        let is_shown = scope.eni.as_ref().is_none_or(|eni| view.shows(eni));
        match (&scope.eni, &last_describe) {
            (Some(eni), Some(Err(failure))) if !is_shown => {
                return Err(failure.clone().about(&scope.instance, eni));
            }
            (Some(eni), _) if !is_shown && !scope.follow => {
                return Err(failures::not_found(&scope.instance, eni));
            }
            (None, Some(Err(failure))) if !scope.follow && view.is_blank(&coverage) => {
                return Err(failure.clone());
            }
            _ => {}
        }
        Ok(InstanceWatcher::new(self.clone(), scope, watched, view, last_describe, began)
            .into_stream())
    }

    pub(super) async fn read_record(
        &self,
        instance: &InstanceId,
        deadline: Instant,
    ) -> Result<Snapshot, Failure> {
        let unavailable = |error: &_| Operation::Read(instance).ledger_unavailable(error);
        let shared = self.reads.of(instance);
        let read = shared.get(self.backends.ledger.read(instance));
        in_time(Some(deadline), read, unavailable).await
    }

    async fn read_view(&self, instance: &InstanceId, deadline: Instant) -> Result<View, Failure> {
        Ok(View::of(&self.read_record(instance, deadline).await?, &View::default()))
    }

    /// The ledger's time.
    fn now(&self, instance: &InstanceId) -> Timestamp {
        self.backends.ledger.store().now(instance)
    }

    /// Updates the ledger from ENS if its last describe is old. Returns when the describe was sent,
    /// why it failed, or `None` if it was not needed. The caller falls back to the ledger's state.
    async fn catch_up(
        self: &Arc<Self>,
        instance: &InstanceId,
        view: &View,
        (peer, deadline): (Peer, Option<Instant>),
    ) -> Option<Result<Timestamp, Failure>> {
        let now = self.now(instance);
        if !view.coverage(None, now).incomplete && !view.is_unseen_since_recovery(now) {
            return None;
        }
        let last_describe = self.discover(instance, peer, Some(patience(deadline))).await;
        if let Err(failure) = &last_describe {
            tracing::debug!(%instance, %failure, "the instance could not be described; reads of it are incomplete");
        }
        Some(last_describe)
    }
}

/// When a read with this deadline stops waiting for ENS, because the ledger has an answer.
pub(super) fn patience(deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(now) / 2);
    now + left.min(PATIENCE)
}

/// The result of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The attachments, by ENI.
    pub attachments: Vec<Attachment>,
    /// Their completeness.
    pub coverage: Coverage,
}

/// The ledger's state after the describe. If the describe and this read failed, the state read
/// before it.
fn later<V>(
    last_describe: &Result<Timestamp, Failure>,
    before: V,
    after: Result<V, Failure>,
) -> Result<V, Failure> {
    match after {
        Err(_) if last_describe.is_err() => Ok(before),
        after => after,
    }
}

/// A read of the ledger within the caller's deadline. `failed` is the reason of its error.
pub(super) async fn in_time<T>(
    deadline: Option<Instant>,
    read: impl Future<Output = Result<T, LedgerError>>,
    failed: impl FnOnce(&LedgerError) -> Failure,
) -> Result<T, Failure> {
    let read = match deadline {
        None => read.await,
        Some(deadline) => timeout_at(deadline, read).await.map_err(|_| failures::late())?,
    };
    read.map_err(|error| failed(&error))
}
