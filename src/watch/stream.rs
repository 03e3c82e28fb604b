//! One stream: a place in the instance's revisions, and a clock.
//!
//! There is no queue. Each message is the lowest revision above the last one sent, in the latest view: whatever was
//! overtaken meanwhile is never sent, and the last one always is.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::model::{Failure, InterfaceId, Revision, Timestamp, random};
use crate::telemetry::metrics::GaugeGuard;

use super::channel::Receiver;
use super::follow::Follower;
use super::reader::{Published, WatchedInstance};
use super::view::{View, ViewChange};
use super::{Coverage, Event, Hub, Scope, failures};

/// One stream's state.
pub(super) struct Watcher<L, E> {
    hub: Arc<Hub<L, E>>,
    scope: Scope,
    watched: Arc<WatchedInstance>,
    published: Receiver<Published>,
    /// The view that was looked at last.
    view: Arc<View>,
    /// Everything in scope up to here was sent.
    sent: Revision,
    phase: Phase,
    /// When the last describe of the whole instance was sent that this replica recorded for the
    /// stream.
    asked: Option<Timestamp>,
    /// Why ENS could not be asked for the whole instance, as long as it was not asked since: the
    /// stream must not end well.
    unasked: Option<Failure>,
    /// Whether the last heartbeat said that something may be missing.
    incomplete: bool,
    last_message: Instant,
    too_old: Instant,
    _open: GaugeGuard,
    _follower: Option<Follower>,
}

/// What a stream begins with.
pub(super) struct Opening {
    /// What the ledger holds.
    pub(super) view: Arc<View>,
    /// When the describe of the whole instance was sent that was made for this stream, if one was.
    pub(super) asked: Option<Timestamp>,
    /// Why it was not made although it should have been.
    pub(super) unasked: Option<Failure>,
    /// When the call came.
    pub(super) began: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Sends what was there before; a heartbeat ends it.
    Snapshot,
    /// Sends what changes.
    Changes,
    Over,
}

/// What ended a wait.
enum Wakeup {
    /// Something may have changed.
    Changed,
    /// Nothing did, for a heartbeat's time.
    Heartbeat,
    /// Nobody reads the record any more.
    ReaderStopped,
}

impl<L: LedgerStore, E: Ens> Watcher<L, E> {
    /// A stream that starts from what `opening` holds, and grows old from its beginning.
    pub(super) fn new(hub: Arc<Hub<L, E>>, scope: Scope, watched: Arc<WatchedInstance>, opening: Opening) -> Self {
        let Opening {
            view,
            asked,
            unasked,
            began,
        } = opening;
        let follower = scope.follow.then(|| hub.follow(&watched, scope.eni.as_ref()));
        let sent = if scope.after > view.revision {
            Revision::default()
        } else {
            scope.after
        };
        Self {
            published: watched.published(),
            too_old: began + hub.settings.max_age.mul_f64(random::between(0.9..1.1)),
            _open: hub.metrics.watch_stream(),
            _follower: follower,
            phase: Phase::Snapshot,
            asked,
            unasked,
            incomplete: false,
            last_message: began,
            hub,
            scope,
            watched,
            view,
            sent,
        }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Event, Failure>> + Send + use<L, E> {
        let messages = futures_util::stream::unfold(self, |mut watcher| async move {
            let message = watcher.next().await?;
            Some((message, watcher))
        });
        messages.fuse()
    }

    /// The next message; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Result<Event, Failure>> {
        if self.phase == Phase::Over {
            return None;
        }
        let message = self.wait().await;
        self.last_message = Instant::now();
        if !matches!(message, Some(Ok(_))) {
            self.phase = Phase::Over;
        }
        message
    }

    async fn wait(&mut self) -> Option<Result<Event, Failure>> {
        loop {
            if let Some(failure) = self.end() {
                return Some(Err(failure));
            }
            if let Err(failure) = self.apply_latest() {
                return Some(Err(failure));
            }
            if let Some(attachment) = self.view.next(self.eni(), self.sent).cloned() {
                self.sent = attachment.revision;
                if self.phase == Phase::Changes {
                    let now = self.hub.ledger.store().now(&attachment.instance);
                    self.hub.metrics.watch_lagged(now.since(attachment.updated_at));
                }
                return Some(Ok(Event::Attachment(attachment)));
            }
            self.sent = self.sent.max(self.view.revision);
            let coverage = self.coverage();
            if !coverage.incomplete {
                self.unasked = None;
            }
            // What was called incomplete is called complete as soon as it is.
            if self.phase == Phase::Snapshot || (self.incomplete && !coverage.incomplete) {
                self.phase = Phase::Changes;
                return Some(Ok(self.heartbeat()));
            }
            if !self.scope.follow && self.view.has_ended(self.eni()) {
                return self.unasked.take().map(Err);
            }
            let (ends, heartbeat) = (self.ends(), self.last_message + self.hub.settings.heartbeat);
            let view = &self.view;
            let newer = self.published.wait_for(|latest| !Arc::ptr_eq(&latest.view, view));
            let woken = tokio::select! {
                biased;
                () = self.hub.stop.cancelled() => Wakeup::Changed,
                newer = newer => newer.map_or(Wakeup::ReaderStopped, |_| Wakeup::Changed),
                () = sleep_until(ends) => Wakeup::Changed,
                () = sleep_until(heartbeat) => Wakeup::Heartbeat,
            };
            match woken {
                Wakeup::Changed => {}
                Wakeup::Heartbeat => return Some(Ok(self.heartbeat())),
                Wakeup::ReaderStopped => return Some(Err(failures::unread())),
            }
        }
    }

    fn eni(&self) -> Option<&InterfaceId> {
        self.scope.eni.as_ref()
    }

    fn heartbeat(&mut self) -> Event {
        let coverage = self.coverage();
        self.incomplete = coverage.incomplete;
        Event::Heartbeat {
            revision: self.sent,
            interval: self.hub.settings.heartbeat,
            coverage,
        }
    }

    /// What the messages so far were checked against.
    fn coverage(&self) -> Coverage {
        let now = self.hub.ledger.store().now(&self.watched.instance);
        match self.view.is_of_whole(self.eni()) {
            true => self.view.coverage(self.asked, now),
            false => Coverage::default(),
        }
    }

    /// When the stream's life is over.
    fn ends(&self) -> Instant {
        self.scope.until.map_or(self.too_old, |until| until.min(self.too_old))
    }

    /// Why the stream must end now, whatever it watches.
    fn end(&self) -> Option<Failure> {
        let now = Instant::now();
        if self.hub.stop.is_cancelled() {
            Some(failures::draining())
        } else if self.scope.until.is_some_and(|until| until <= now) {
            Some(failures::deadline())
        } else {
            (self.too_old <= now).then(failures::too_old)
        }
    }

    /// Looks at the latest view.
    ///
    /// # Errors
    /// What was shown is gone.
    fn apply_latest(&mut self) -> Result<(), Failure> {
        let latest = self.published.get().view;
        let turn = latest.change_since(&self.view, self.eni());
        self.view = latest;
        match (turn, &self.scope.eni) {
            (ViewChange::Lost, _) => Err(failures::lost(&self.watched.instance)),
            (ViewChange::Withdrawn, Some(eni)) if !self.scope.follow => {
                Err(failures::withdrawn(&self.watched.instance, eni))
            }
            _ => Ok(()),
        }
    }
}
