//! Tells every interested caller how attachments go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::ens::Ens;
use crate::ledger::Ledger;
use crate::model::{Attachment, Code, Failure, InstanceId, InterfaceId, Reason, Revision};

/// What is watched, and from where on.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The instance.
    pub instance: InstanceId,
    /// One ENI; `None`: all of them.
    pub eni: Option<InterfaceId>,
    /// Only what is newer.
    pub after: Revision,
    /// Go on after terminal states.
    pub follow: bool,
    /// The caller's deadline.
    pub until: Option<Instant>,
}

/// What a watcher gets.
#[derive(Debug, Clone)]
pub enum Event {
    /// An attachment as it stands now.
    Attachment(Arc<Attachment>),
    /// Everything up to `revision` was sent.
    Heartbeat {
        /// Where to resume from.
        revision: Revision,
        /// When the next one comes at the latest.
        interval: Duration,
    },
}

/// Interim settings.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "interim")]
pub struct Settings { pub heartbeat: Duration, pub max_age: Duration }

/// Tells everybody.
pub struct Hub<L, E> {
    ledger: Arc<crate::ledger::Book<L>>,
    _ens: Arc<E>,
}

impl<L: Ledger, E: Ens> Hub<L, E> {
    /// Over this ledger and this cloud.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "interim")]
    pub fn new(ledger: Arc<crate::ledger::Book<L>>, ens: Arc<E>, _: crate::ens::Budget, _: Arc<crate::tracker::Tracker<L, E>>, _: crate::telemetry::Metrics, _: Settings, _: tokio_util::task::TaskTracker, _: tokio_util::sync::CancellationToken) -> Self {
        Self { ledger, _ens: ens }
    }

    /// One attachment.
    ///
    /// # Errors
    /// `ATTACHMENT_NOT_FOUND`, `COORDINATION_UNAVAILABLE`.
    pub async fn get(
        self: &Arc<Self>,
        instance: &InstanceId,
        eni: &InterfaceId,
        deadline: Instant,
    ) -> Result<Attachment, Failure> {
        self.list(instance, deadline)
            .await?
            .into_iter()
            .find(|attachment| attachment.eni == *eni)
            .ok_or_else(|| {
                Failure::new(
                    Reason::AttachmentNotFound,
                    "neither the ledger nor ens shows this eni on the instance",
                )
                .about(instance, eni)
            })
    }

    /// The attachments of an instance, sorted by ENI.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE`.
    pub async fn list(self: &Arc<Self>, instance: &InstanceId, deadline: Instant) -> Result<Vec<Attachment>, Failure> {
        let unavailable = |why: String| Failure::new(Reason::CoordinationUnavailable, why);
        let snapshot = timeout_at(deadline, self.ledger.read(instance))
            .await
            .map_err(|_| unavailable("the ledger did not answer in time".to_owned()).code(Code::DeadlineExceeded))?
            .map_err(|why| unavailable(why.to_string()))?;
        Ok(snapshot
            .record
            .attempts
            .into_values()
            .map(|attempt| attempt.attachment)
            .collect())
    }

    /// Follows attachments.
    ///
    /// # Errors
    /// As [`Hub::get`].
    pub async fn watch(
        self: &Arc<Self>,
        scope: Scope,
    ) -> Result<impl Stream<Item = Result<Event, Failure>> + Send + 'static + use<L, E>, Failure> {
        let soon = Instant::now() + Duration::from_secs(30);
        let mut shown = self.list(&scope.instance, scope.until.unwrap_or(soon)).await?;
        shown.retain(|attachment| scope.eni.as_ref().is_none_or(|eni| attachment.eni == *eni));
        if let (Some(eni), true, false) = (&scope.eni, shown.is_empty(), scope.follow) {
            return Err(Failure::new(Reason::AttachmentNotFound, "no such attachment").about(&scope.instance, eni));
        }
        let done = !scope.follow && shown.iter().all(|attachment| attachment.state.is_terminal());
        let revision = shown
            .iter()
            .map(|attachment| attachment.revision)
            .max()
            .unwrap_or_default();
        shown.retain(|attachment| attachment.revision > scope.after);
        let heartbeat = Event::Heartbeat {
            revision,
            interval: Duration::from_secs(15),
        };
        let snapshot = shown
            .into_iter()
            .map(|a| Event::Attachment(Arc::new(a)))
            .chain([heartbeat])
            .map(Ok);
        let rest = stream::once(async move {
            match scope.until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
            Err(Failure::new(
                Reason::OutcomeUnknown,
                "the watch's deadline has come; resume with after_revision",
            )
            .code(Code::DeadlineExceeded))
        });
        Ok(stream::iter(snapshot.collect::<Vec<_>>()).chain(rest.take(usize::from(!done))))
    }
}
