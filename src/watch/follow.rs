//! Refresh of followed attachments: the gateway's only way to notice what others attach and detach.
//! One task serves every follower of this replica, and skips what another replica observed lately.
//!
//! A followed instance is described before its last describe is a minute old, and repeatedly while
//! ENS does not answer. A followed, attached ENI is described every minute, in batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::drain::Phase;
use crate::ens::{Ens, MAX_IDS};
use crate::failures::Operation;
use crate::ledger::{Due, LedgerStore};
use crate::model::{InstanceId, InterfaceId, Reason, Timestamp, random};
use crate::telemetry::context::poll_span;

use super::Hub;
use super::discover::read_permit;
use super::reader::WatchedInstance;
use super::view::View;

/// Maximum age of the last answer about a followed attachment.
const REREAD: Duration = Duration::from_secs(60);
/// ENIs due within this time are added to a batch, so that batches fill and stay together. A whole
/// instance is described this long before its last describe expires.
const TOGETHER: Duration = Duration::from_secs(15);
/// Interval between checks for due work; varied by up to a fifth.
const TICK: Duration = Duration::from_secs(5);
/// Minimum pause between two describes of one followed instance by this replica, successful or not.
const PAUSE: Duration = Duration::from_secs(10);
/// Maximum wait for the permit of such a describe. Reads of waiting callers go first.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Followed instances, and the scopes in which they are followed.
type Scopes = BTreeMap<InstanceId, (Arc<WatchedInstance>, BTreeSet<Option<InterfaceId>>)>;

/// One follower's registration in its scope, and in the task that refreshes all scopes. The last
/// follower ends that task.
pub(super) struct Following {
    _scope: Arc<()>,
    _refresh: Arc<AbortOnDropHandle<()>>,
}

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// Refreshes this scope until the result is dropped.
    pub(super) fn follow(
        self: &Arc<Self>,
        watched: &WatchedInstance,
        eni: Option<&InterfaceId>,
    ) -> Following {
        let refresh = || AbortOnDropHandle::new(self.tasks.spawn(self.clone().refresh()));
        Following {
            _scope: watched.followed.of(&eni.cloned()),
            _refresh: self.refresh.of_with(&(), refresh),
        }
    }

    /// The scopes followed now.
    fn followed(&self) -> Scopes {
        let followed = self.watched.live().into_iter().filter_map(|(instance, watched)| {
            let scopes: BTreeSet<_> =
                watched.followed.live().into_iter().map(|(eni, _)| eni).collect();
            (!scopes.is_empty()).then_some((instance, (watched, scopes)))
        });
        followed.collect()
    }

    /// Describes and polls due scopes until the drain.
    async fn refresh(self: Arc<Self>) {
        // An answer that shows nothing does not change the record. So request times are kept here
        // as well.
        let mut polled: BTreeMap<Due, Instant> = BTreeMap::new();
        let mut described: BTreeMap<InstanceId, Instant> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = self.drain.reached(Phase::Draining) => return,
                () = sleep(TICK.mul_f64(random::between(0.8..1.2))) => {}
            }
            let scopes = self.followed();
            described.retain(|instance, _| scopes.contains_key(instance));
            self.describe(&scopes, &mut described).await;
            polled.retain(|_, at| at.elapsed() < REREAD - TOGETHER);
            let due: Vec<Due> = self.due(&scopes, &polled).await;
            for batch in due.chunks(MAX_IDS) {
                polled.extend(batch.iter().map(|due| (due.clone(), Instant::now())));
                self.poll(batch).await;
            }
        }
    }

    /// Describes the followed instances whose last describe is missing or old, the oldest first,
    /// within one tick. `described` holds this replica's last attempts.
    async fn describe(
        self: &Arc<Self>,
        scopes: &Scopes,
        described: &mut BTreeMap<InstanceId, Instant>,
    ) {
        let is_old =
            |view: &View, watched: &WatchedInstance, enis: &BTreeSet<Option<InterfaceId>>| {
                let now = self.backends.ledger.store().now(&watched.instance) + TOGETHER;
                enis.iter().any(|eni| view.is_of_whole(eni.as_ref()))
                    && view.coverage(None, now).incomplete
            };
        let last = |instance: &InstanceId, described: &BTreeMap<_, Instant>| {
            described.get(instance).copied()
        };
        let mut due: Vec<_> = scopes
            .values()
            .filter(|(watched, _)| {
                last(&watched.instance, described).is_none_or(|at| at.elapsed() >= PAUSE)
            })
            .filter(|(watched, enis)| is_old(&watched.view(), watched, enis))
            .collect();
        due.sort_by_key(|(watched, _)| last(&watched.instance, described));
        let until = Instant::now() + TICK;
        for (watched, enis) in due {
            if Instant::now() >= until {
                return;
            }
            // Another replica may have described it since the last reading.
            if !watched.fresh().await.is_ok_and(|view| is_old(&view, watched, enis)) {
                continue;
            }
            let poll = poll_span(1);
            let permit = read_permit(self.backends.limiter.clone(), AT_ONCE);
            let observation = poll.in_scope(|| self.observe(&watched.instance, permit));
            let answer = observation.result().await;
            described.insert(watched.instance.clone(), Instant::now());
            match answer {
                // Its streams need not wait for the next reading.
                Ok(_) => drop(watched.fresh().await),
                Err(error) => {
                    let failure = Operation::Read(&watched.instance).not_observed(&error);
                    tracing::debug!(instance = %watched.instance, %failure, "a followed instance cannot be described yet");
                    let delay =
                        failure.retry_after.filter(|_| failure.reason == Reason::EnsThrottled);
                    match delay.map(|delay| Instant::now() + delay) {
                        Some(next) if next < until => sleep_until(next).await,
                        // The cause affects every other instance as well.
                        _ => return,
                    }
                }
            }
        }
    }

    /// The ENIs to describe: none, or all that are due or soon will be.
    async fn due(&self, scopes: &Scopes, polled: &BTreeMap<Due, Instant>) -> Vec<Due> {
        let ago = |watched: &WatchedInstance, age: Duration| {
            self.backends.ledger.store().now(&watched.instance) - age
        };
        let select = |watched: &WatchedInstance, view: &View, enis: &_, age| {
            select(&watched.instance, view, enis, ago(watched, age), polled)
        };
        let is_due = |watched: &WatchedInstance, enis, age| {
            !select(watched, &watched.view(), enis, age).is_empty()
        };
        if !scopes.values().any(|(watched, enis)| is_due(watched, enis, REREAD)) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (watched, enis) in scopes.values() {
            if is_due(watched, enis, REREAD - TOGETHER)
                // Another replica may have described it since the last reading.
                && let Ok(view) = watched.fresh().await
            {
                due.extend(select(watched, &view, enis, REREAD - TOGETHER));
            }
        }
        due
    }

    async fn poll(&self, batch: &[Due]) {
        let permit = match read_permit(self.backends.limiter.clone(), REREAD).await {
            Ok(permit) => permit,
            Err(error) => {
                tracing::debug!(%error, batch = batch.len(), "followed instances cannot be described yet");
                return;
            }
        };
        let (tracker, due) = (self.tracker.clone(), batch.to_vec());
        let poll = async move { tracker.poll(due, permit).await };
        // The result is recorded even if the last follower leaves meanwhile.
        let polled = self.tasks.spawn(poll.instrument(poll_span(batch.len())));
        if let Err(panic) = polled.await {
            tracing::error!(error = %panic, "a poll ended by a panic");
        }
    }
}

/// The attached ENIs in these scopes that were not described since `time`.
fn select(
    instance: &InstanceId,
    view: &View,
    enis: &BTreeSet<Option<InterfaceId>>,
    time: Timestamp,
    polled: &BTreeMap<Due, Instant>,
) -> BTreeSet<Due> {
    let unseen = enis.iter().flat_map(|eni| view.attached_unseen_since(eni.as_ref(), time));
    let due = unseen.map(|eni| Due { instance: instance.clone(), eni: eni.clone() });
    due.filter(|due| !polled.contains_key(due)).collect()
}
