//! Drives every attempt to a terminal state. Every replica claims due attempts, describes their
//! ENIs in batches of fifty, and settles them. There is no leader: the attempts of a dead replica
//! fall due, and another one claims them.
//!
//! It calls ENS only for attempts in flight.

mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::attach::Attacher;
use crate::backends::Backends;
use crate::drain::{self, Phase};
use crate::ens::{Ens, MAX_IDS};
use crate::ledger::command::{AttemptUpdate, Reply};
use crate::ledger::record::Attempt;
use crate::ledger::{Due, LedgerError, LedgerStore};
use crate::model::{Uid, random};
use crate::observe::EniObservations;
use crate::rate_limit::{Permit, RateClass};
use crate::telemetry::context::{link_to, poll_span};

/// Interval between checks for due attempts; jittered, to spread the replicas.
const TICK: Duration = Duration::from_millis(500);
/// How long a claim hides attempts from other replicas: more than twice a describe's timeout.
const VISIBILITY: Duration = Duration::from_secs(10);
/// A stuck attempt is polled every 30 s, by whichever replica claims it.
const STUCK_SEEN_WITHIN: Duration = Duration::from_secs(120);
/// Number of records that are settled concurrently.
const SETTLED_AT_ONCE: usize = 16;

/// The tracker of one replica.
pub struct Tracker<L, E> {
    backends: Backends<L, E>,
    attacher: Arc<Attacher<L, E>>,
    tasks: TaskTracker,
    resending: Arc<Mutex<BTreeSet<Uid>>>,
    stuck: Mutex<BTreeMap<Uid, Instant>>,
}

impl<L: LedgerStore, E: Ens> Tracker<L, E> {
    /// A tracker that settles the ledger's attempts and resends through `attacher`. Its work runs
    /// on `tasks`.
    pub fn new(
        backends: Backends<L, E>,
        attacher: Arc<Attacher<L, E>>,
        tasks: TaskTracker,
    ) -> Self {
        Self { backends, attacher, tasks, resending: Arc::default(), stuck: Mutex::default() }
    }

    /// Polls due attempts until [`Phase::Stopped`], and reports the ends whose commit had no reply.
    pub async fn run(self: Arc<Self>, drain: drain::Watch) {
        while !drain.has_reached(Phase::Stopped) {
            let claimed = self.tick().await;
            self.count_stuck();
            self.backends.ledger.report_unreported().await;
            // After a full batch, more may be due.
            if claimed < MAX_IDS {
                let pause = TICK.mul_f64(random::between(0.8..1.2));
                drain.pause(pause).await;
            }
        }
    }

    /// Claims one batch and polls it. Returns the number of claimed attempts.
    async fn tick(self: &Arc<Self>) -> usize {
        let store = self.backends.ledger.store();
        let Some((due, permit)) = self
            .with_permit(RateClass::Track, store.due(MAX_IDS), |due| store.claim(due, VISIBILITY))
            .await
        else {
            return 0;
        };
        let (claimed, tracker) = (due.len(), self.clone());
        let poll = async move { tracker.poll(due, permit).await };
        self.tasks.spawn(poll.instrument(poll_span(claimed)));
        claimed
    }

    /// Claims due work with a permit for its describe. First it reads whether work is due: the
    /// permit may be the breaker's only probe. Then it takes the permit, and last it claims the
    /// work, which hides it from other replicas. An unused permit returns to the limiter.
    async fn with_permit<T, F>(
        &self,
        class: RateClass,
        due: impl Future<Output = Result<Vec<T>, LedgerError>>,
        claim: impl FnOnce(Vec<T>) -> F,
    ) -> Option<(Vec<T>, Permit)>
    where
        F: Future<Output = Result<Vec<T>, LedgerError>>,
    {
        let unreached = |error: &LedgerError| tracing::debug!(%error, "the queue of due attempts cannot be read");
        let due = due.await.inspect_err(unreached).ok().filter(|due| !due.is_empty())?;
        let limiter = &self.backends.limiter;
        let permit = limiter.hold(limiter.try_permit(class).await.ok()?);
        let claimed = claim(due).await.inspect_err(unreached).unwrap_or_default();
        (!claimed.is_empty()).then(|| (claimed, permit.spend()))
    }

    /// Describes the ENIs of at most fifty attempts, and settles them. Attempts that could not be
    /// described stay unchanged.
    pub async fn poll(self: &Arc<Self>, due: Vec<Due>, permit: Permit) {
        self.backends.metrics.polled(due.len());
        let observations = self.backends.observe_enis(&due, permit).await;
        let settled = futures_util::stream::iter(observations).map(|observations| {
            let tracker = self.clone();
            async move { tracker.record(observations).await }
        });
        settled.buffer_unordered(SETTLED_AT_ONCE).for_each(|()| std::future::ready(())).await;
    }

    async fn record(self: &Arc<Self>, observations: EniObservations) {
        let instance = observations.instance.clone();
        match self.backends.record_enis(observations).await {
            Ok(answer) => {
                if let Reply::Attempts(attempts) = answer.reply {
                    for AttemptUpdate { attempt, resend } in attempts {
                        self.note_stuck(&attempt);
                        if let Some(trace) = &attempt.trace {
                            link_to(&tracing::Span::current(), trace);
                        }
                        if resend {
                            self.resend(attempt);
                        }
                    }
                }
            }
            // The claimed attempts fall due again.
            Err(error) => {
                tracing::debug!(%instance, %error, "an observation could not be recorded")
            }
        }
    }

    fn note_stuck(&self, attempt: &Attempt) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.state.is_stuck() {
            stuck.insert(attempt.uid, Instant::now());
        } else {
            stuck.remove(&attempt.uid);
        }
    }

    /// The number of stuck attempts that this replica saw lately. Others may have settled older
    /// ones, so those are forgotten.
    fn count_stuck(&self) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|_, seen| seen.elapsed() < STUCK_SEEN_WITHIN);
        self.backends.metrics.set_stuck(stuck.len());
    }

    /// Resends an attempt in its own task, one resend at a time.
    fn resend(self: &Arc<Self>, attempt: Arc<Attempt>) {
        let uid = attempt.uid;
        let resending = self.resending.clone();
        if !resending.lock().unwrap_or_else(PoisonError::into_inner).insert(uid) {
            return;
        }
        let attacher = self.attacher.clone();
        self.tasks.spawn(
            async move {
                attacher.resend(&attempt).await;
                resending.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
            }
            .in_current_span(),
        );
    }
}
