//! While somebody follows, what is attached is asked for every minute: the one way to learn of a detach that nobody else asks
//! about. One round serves every follower of this replica, in batches; what another replica asked for lately is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use crate::ens::{Ens, MAX_IDS, Purpose};
use crate::ledger::{Due, Ledger};
use crate::model::{InstanceId, InterfaceId, Timestamp, random};
use crate::telemetry::names::span;

use super::Hub;
use super::reader::Watched;
use super::view::View;

/// How old the last answer about a followed attachment gets before ENS is asked again.
const REREAD: Duration = Duration::from_secs(60);
/// What would fall due this soon goes along with what is due: batches fill, and stay together from then on.
const TOGETHER: Duration = Duration::from_secs(15);
/// How often a replica looks for what is due; varied by up to a fifth.
const TICK: Duration = Duration::from_secs(5);

/// Who follows what on this replica.
#[derive(Default)]
pub(super) struct Followed(Mutex<Followers>);

#[derive(Default)]
struct Followers {
    last: u64,
    all: BTreeMap<u64, (Arc<Watched>, Option<InterfaceId>)>,
    /// Whether a task looks after them.
    served: bool,
}

/// Followed instances, and the scopes in which they are followed.
type Scopes = BTreeMap<InstanceId, (Arc<Watched>, BTreeSet<Option<InterfaceId>>)>;

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

impl<L: Ledger, E: Ens> Hub<L, E> {
    /// Has what is attached in this scope asked for every minute.
    pub(super) fn follow(self: &Arc<Self>, watched: &Arc<Watched>, eni: Option<&InterfaceId>) -> Follower {
        let mut followers = self.followed.lock();
        followers.last += 1;
        let id = followers.last;
        followers.all.insert(id, (watched.clone(), eni.cloned()));
        if !followers.served {
            followers.served = true;
            let hub = self.clone();
            self.tasks
                .spawn(async move { hub.stop.run_until_cancelled(hub.serve()).await });
        }
        Follower {
            followed: self.followed.clone(),
            id,
        }
    }

    /// Asks for what falls due until nobody follows any more.
    async fn serve(&self) {
        // An answer that tells nothing leaves the record as it was: what was asked for is remembered here as well.
        let mut asked: BTreeMap<Due, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(TICK.mul_f64(random::between(0.8..1.2))).await;
            let Some(scopes) = self.followed.scopes() else { return };
            asked.retain(|_, at| at.elapsed() < REREAD - TOGETHER);
            let due: Vec<Due> = self.due(&scopes, &asked).await;
            for batch in due.chunks(MAX_IDS) {
                asked.extend(batch.iter().map(|due| (due.clone(), Instant::now())));
                self.reread(batch).await;
            }
        }
    }

    /// What is to be asked for: nothing, or all that is due or soon will be.
    async fn due(&self, scopes: &Scopes, asked: &BTreeMap<Due, Instant>) -> Vec<Due> {
        let ago = |watched: &Watched, age: Duration| self.book.ledger().now(&watched.instance) - age;
        let known = |watched: &Watched| watched.published().get().view;
        let is_due = |(watched, enis): &(Arc<Watched>, _)| {
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

    async fn reread(&self, batch: &[Due]) {
        match self.budget.permit(Purpose::Read, Instant::now() + REREAD).await {
            Ok(permit) => {
                let poll = tracing::info_span!(parent: None, span::POLL, otel.kind = "internal", batch = batch.len());
                self.tracker.look(batch.to_vec(), permit).instrument(poll).await;
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
