//! One stream: a revision, and timers.
//!
//! There is no queue. Each message is the attachment with the lowest revision above the last one
//! sent, in the latest view. Superseded states are not sent; the last state always is.

use std::sync::Arc;

use futures_util::Stream;
use tokio::time::{Instant, sleep_until};

use crate::drain::Phase;
use crate::ens::Ens;
use crate::failures::watch as failures;
use crate::ledger::LedgerStore;
use crate::model::{Failure, InterfaceId, Revision, Timestamp};
use crate::telemetry::metrics::GaugeGuard;

use super::follow::Following;
use super::limits::{Resume, StreamLimits, Watcher, messages};
use super::reader::WatchedInstance;
use super::view::{View, ViewChange};
use super::{Coverage, Event, Hub, Scope};

/// The state of a stream.
pub(super) struct InstanceWatcher<L, E> {
    hub: Arc<Hub<L, E>>,
    scope: Scope,
    watched: Arc<WatchedInstance>,
    /// The last view that was applied.
    view: Arc<View>,
    /// The revision up to which everything in scope was sent.
    sent: Revision,
    /// Whether the initial attachments are still being sent; a heartbeat ends them.
    in_snapshot: bool,
    /// Time of the last describe of the whole instance for this stream, or why it failed. After a
    /// failure the stream must not end with OK until the instance is covered.
    last_describe: Option<Result<Timestamp, Failure>>,
    /// Whether the last heartbeat reported incomplete coverage.
    incomplete: bool,
    last_message: Instant,
    limits: StreamLimits,
    _open: GaugeGuard,
    _following: Option<Following>,
}

impl<L: LedgerStore, E: Ens> InstanceWatcher<L, E> {
    /// A stream that starts from `view`. Its age counts from `began`, the time of the call.
    pub(super) fn new(
        hub: Arc<Hub<L, E>>,
        scope: Scope,
        watched: Arc<WatchedInstance>,
        view: Arc<View>,
        last_describe: Option<Result<Timestamp, Failure>>,
        began: Instant,
    ) -> Self {
        let known = scope.after <= view.revision;
        let drain = hub.drain.clone();
        Self {
            sent: if known { scope.after } else { Revision::default() },
            limits: StreamLimits::new(Resume::Revision, hub.settings, drain, scope.until, began),
            _open: hub.backends.metrics.watch_stream(),
            _following: scope.follow.then(|| hub.follow(&watched, scope.eni.as_ref())),
            in_snapshot: true,
            last_describe,
            incomplete: false,
            last_message: began,
            hub,
            scope,
            watched,
            view,
        }
    }

    pub(super) fn into_stream(
        self,
    ) -> impl Stream<Item = Result<Event, Failure>> + Send + use<L, E> {
        messages(self)
    }

    async fn next_message(&mut self) -> Option<Result<Event, Failure>> {
        loop {
            if let Some(failure) = self.limits.end() {
                return Some(Err(failure));
            }
            if let Err(failure) = self.apply_latest() {
                return Some(Err(failure));
            }
            if let Some(attachment) = self.view.next(self.eni(), self.sent).cloned() {
                self.sent = attachment.revision;
                if !self.in_snapshot {
                    let now = self.hub.backends.ledger.store().now(&attachment.instance);
                    self.hub.backends.metrics.watch_lagged(now.since(attachment.updated_at));
                }
                return Some(Ok(Event::Attachment(attachment)));
            }
            self.sent = self.sent.max(self.view.revision);
            let complete = !self.coverage().incomplete;
            if complete {
                self.last_describe.take_if(|last_describe| last_describe.is_err());
            }
            // A stream reports the change from incomplete to complete at once.
            if self.in_snapshot || (self.incomplete && complete) {
                self.in_snapshot = false;
                return Some(Ok(self.heartbeat()));
            }
            if !self.scope.follow && self.view.has_ended(self.eni()) {
                let unsettled = self.unsettled();
                return self.last_describe.take().and_then(Result::err).or(unsettled).map(Err);
            }
            let (ends, heartbeat) =
                (self.limits.ends(), self.last_message + self.hub.settings.heartbeat);
            tokio::select! {
                biased;
                () = self.hub.drain.reached(Phase::Draining) => {}
                newer = self.watched.newer_than(&self.view) => if newer.is_err() {
                    return Some(Err(failures::unread()));
                },
                () = sleep_until(ends) => {}
                () = sleep_until(heartbeat) => return Some(Ok(self.heartbeat())),
            }
        }
    }

    fn eni(&self) -> Option<&InterfaceId> {
        self.scope.eni.as_ref()
    }

    fn heartbeat(&mut self) -> Event {
        let coverage = self.coverage();
        self.incomplete = coverage.incomplete;
        Event::Heartbeat { revision: self.sent, interval: self.hub.settings.heartbeat, coverage }
    }

    /// The completeness of the messages so far.
    fn coverage(&self) -> Coverage {
        let now = self.hub.backends.ledger.store().now(&self.watched.instance);
        if self.view.is_of_whole(self.eni()) {
            self.view.coverage(self.last_describe.as_ref(), now)
        } else {
            Coverage::default()
        }
    }

    /// Why an attach of the whole instance may be in flight that the ledger lost, if one may be.
    fn unsettled(&self) -> Option<Failure> {
        let (instance, until) = (&self.watched.instance, self.view.recovers_until());
        let is_unsettled = self.eni().is_none() && self.coverage().observed_at < Some(until);
        let now = self.hub.backends.ledger.store().now(instance);
        is_unsettled.then(|| failures::unsettled(instance, until, now))
    }

    /// Applies the latest view.
    ///
    /// # Errors
    /// An attachment that was shown is gone.
    fn apply_latest(&mut self) -> Result<(), Failure> {
        let latest = self.watched.view();
        let change = latest.change_since(&self.view, self.eni());
        self.view = latest;
        match (change, &self.scope.eni) {
            (ViewChange::Lost, _) => Err(failures::lost(&self.watched.instance)),
            (ViewChange::Withdrawn, Some(eni)) if !self.scope.follow => {
                Err(failures::withdrawn(&self.watched.instance, eni))
            }
            _ => Ok(()),
        }
    }
}

impl<L: LedgerStore, E: Ens> Watcher for InstanceWatcher<L, E> {
    type Event = Event;

    async fn next(&mut self) -> Option<Result<Event, Failure>> {
        let message = self.next_message().await;
        self.last_message = Instant::now();
        message
    }
}
