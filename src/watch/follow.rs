//! What followers were sent is kept from growing old: the one way to learn of what others attach
//! and detach. One round serves every follower of this replica; what another replica asked for
//! lately is left out.
//!
//! A followed instance is described as a whole before its last describe is a minute old, and again
//! and again while ENS cannot be asked. A followed ENI that is attached is described every minute,
//! in batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use crate::ens::{Ens, MAX_IDS};
use crate::ledger::{Due, LedgerStore};
use crate::model::{InstanceId, InterfaceId, Reason, Timestamp, random};
use crate::telemetry::names::span;

use super::Hub;
use super::reader::WatchedInstance;
use super::view::View;

/// How old the last answer about a followed attachment gets before ENS is asked again.
const REREAD: Duration = Duration::from_secs(60);
/// What would fall due this soon goes along with what is due: batches fill, and stay together from
/// then on. A whole instance is described this long before its last describe is too old.
const TOGETHER: Duration = Duration::from_secs(15);
/// How often a replica looks for what is due; varied by up to a fifth.
const TICK: Duration = Duration::from_secs(5);
/// Minimum pause between two describes of one followed instance by this replica, whatever became of
/// the first.
const PAUSE: Duration = Duration::from_secs(10);
/// Maximum wait for the permit of such a describe: reads, which are waited for, go first.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Who follows what on this replica.
#[derive(Default)]
pub(super) struct Followed(Mutex<Followers>);

#[derive(Default)]
struct Followers {
    last: u64,
    all: BTreeMap<u64, (Arc<WatchedInstance>, Option<InterfaceId>)>,
    /// Whether a task looks after them.
    served: bool,
}

/// Followed instances, and the scopes in which they are followed.
type Scopes = BTreeMap<InstanceId, (Arc<WatchedInstance>, BTreeSet<Option<InterfaceId>>)>;

impl Followed {
    fn lock(&self) -> MutexGuard<'_, Followers> {
        // Every critical section leaves the followers whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is followed now. If it is nothing, whoever asks stops serving.
    fn scopes(&self) -> Option<Scopes> {
        let mut followers = self.lock();
        if followers.all.is_empty() {
            followers.served = false;
            return None;
        }
        let mut scopes = Scopes::new();
        for (watched, eni) in followers.all.values() {
            let (_, enis) = scopes
                .entry(watched.instance.clone())
                .or_insert_with(|| (watched.clone(), BTreeSet::new()));
            enis.insert(eni.clone());
        }
        Some(scopes)
    }
}

/// Follows until it is dropped.
pub(super) struct Follower {
    followed: Arc<Followed>,
    id: u64,
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The lock is over before what was watched is let go.
        let _left = self.followed.lock().all.remove(&self.id);
    }
}

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// Has this scope asked for before what is known of it is too old.
    pub(super) fn follow(self: &Arc<Self>, watched: &Arc<WatchedInstance>, eni: Option<&InterfaceId>) -> Follower {
        let mut followers = self.followed.lock();
        followers.last += 1;
        let id = followers.last;
        followers.all.insert(id, (watched.clone(), eni.cloned()));
        if !followers.served {
            followers.served = true;
            let hub = self.clone();
            self.tasks
                .spawn(async move { hub.stop.run_until_cancelled(hub.clone().serve()).await });
        }
        Follower {
            followed: self.followed.clone(),
            id,
        }
    }

    /// Asks for what falls due until nobody follows any more.
    async fn serve(self: Arc<Self>) {
        // An answer that tells nothing leaves the record as it was: what was asked for is remembered here as well.
        let mut asked: BTreeMap<Due, Instant> = BTreeMap::new();
        let mut described: BTreeMap<InstanceId, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(TICK.mul_f64(random::between(0.8..1.2))).await;
            let Some(scopes) = self.followed.scopes() else { return };
            described.retain(|instance, _| scopes.contains_key(instance));
            self.describe(&scopes, &mut described).await;
            asked.retain(|_, at| at.elapsed() < REREAD - TOGETHER);
            let due: Vec<Due> = self.due(&scopes, &asked).await;
            for batch in due.chunks(MAX_IDS) {
                asked.extend(batch.iter().map(|due| (due.clone(), Instant::now())));
                self.poll(batch).await;
            }
        }
    }

    /// Describes the followed instances of which ENS's last answer is missing or grows old, those
    /// first that were described longest ago, for one tick at most. `described` says when this
    /// replica did so last.
    async fn describe(self: &Arc<Self>, scopes: &Scopes, described: &mut BTreeMap<InstanceId, Instant>) {
        let is_old = |view: &View, watched: &WatchedInstance, enis: &BTreeSet<Option<InterfaceId>>| {
            let now = self.ledger.store().now(&watched.instance) + TOGETHER;
            enis.iter().any(|eni| view.is_of_whole(eni.as_ref())) && view.coverage(None, now).incomplete
        };
        let last = |instance: &InstanceId, described: &BTreeMap<_, Instant>| described.get(instance).copied();
        let mut due: Vec<_> = scopes
            .values()
            .filter(|(watched, _)| last(&watched.instance, described).is_none_or(|at| at.elapsed() >= PAUSE))
            .filter(|(watched, enis)| is_old(&watched.published().get().view, watched, enis))
            .collect();
        due.sort_by_key(|(watched, _)| last(&watched.instance, described));
        let until = Instant::now() + TICK;
        for (watched, enis) in due {
            if Instant::now() >= until {
                return;
            }
            // Another replica may have asked since the last reading.
            if !watched.fresh().await.is_ok_and(|view| is_old(&view, watched, enis)) {
                continue;
            }
            let poll = tracing::info_span!(parent: None, span::POLL, otel.kind = "internal", batch = 1);
            let flight = poll.in_scope(|| self.flight(&watched.instance, AT_ONCE));
            let answer = flight.await;
            described.insert(watched.instance.clone(), Instant::now());
            match answer {
                // Its streams need not wait for the next reading.
                Ok(_) => drop(watched.fresh().await),
                Err(failure) => {
                    tracing::debug!(instance = %watched.instance, %failure, "a followed instance cannot be described yet");
                    let delay = failure.retry_after.filter(|_| failure.reason == Reason::EnsThrottled);
                    match delay.map(|delay| Instant::now() + delay) {
                        Some(next) if next < until => tokio::time::sleep_until(next).await,
                        // What stands in the way of one stands in the way of all.
                        _ => return,
                    }
                }
            }
        }
    }

    /// What is to be asked for: nothing, or all that is due or soon will be.
    async fn due(&self, scopes: &Scopes, asked: &BTreeMap<Due, Instant>) -> Vec<Due> {
        let ago = |watched: &WatchedInstance, age: Duration| self.ledger.store().now(&watched.instance) - age;
        let known = |watched: &WatchedInstance| watched.published().get().view;
        let is_due = |(watched, enis): &(Arc<WatchedInstance>, _)| {
            !select(&watched.instance, &known(watched), enis, ago(watched, REREAD), asked).is_empty()
        };
        if !scopes.values().any(is_due) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (watched, enis) in scopes.values() {
            if select(
                &watched.instance,
                &known(watched),
                enis,
                ago(watched, REREAD - TOGETHER),
                asked,
            )
            .is_empty()
            {
                continue;
            }
            // Another replica may have asked since the last reading.
            if let Ok(view) = watched.fresh().await {
                due.extend(select(
                    &watched.instance,
                    &view,
                    enis,
                    ago(watched, REREAD - TOGETHER),
                    asked,
                ));
            }
        }
        due
    }

    async fn poll(&self, batch: &[Due]) {
        match self.permit(REREAD).await {
            Ok(permit) => {
                let poll = tracing::info_span!(parent: None, span::POLL, otel.kind = "internal", batch = batch.len());
                self.tracker.poll(batch.to_vec(), permit).instrument(poll).await;
            }
            Err(error) => tracing::debug!(%error, batch = batch.len(), "what is followed cannot be asked for yet"),
        }
    }
}

/// The attached ENIs in these scopes that were not asked for since `time`.
fn select(
    instance: &InstanceId,
    view: &View,
    enis: &BTreeSet<Option<InterfaceId>>,
    time: Timestamp,
    asked: &BTreeMap<Due, Instant>,
) -> BTreeSet<Due> {
    let unseen = enis
        .iter()
        .flat_map(|eni| view.attached_unseen_since(eni.as_ref(), time));
    let due = unseen.map(|eni| Due {
        instance: instance.clone(),
        eni: eni.clone(),
    });
    due.filter(|due| !asked.contains_key(due)).collect()
}
