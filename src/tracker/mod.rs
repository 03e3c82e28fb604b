//! Drives every attempt to the truth. Every replica ticks; what is due is claimed, asked for in batches of fifty, and
//! settled. There is no leader: an attempt whose replica died falls due, and another one finishes it.
//!
//! Nothing in flight, no calls of ENS.

mod describe;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::attach::Attacher;
use crate::ens::{Ens, MAX_IDS};
use crate::ledger::command::{AttemptUpdate, Command, EniObservation, Reply};
use crate::ledger::record::Attempt;
use crate::ledger::{Due, Ledger, LedgerError, LedgerStore};
use crate::model::{InstanceId, InterfaceId, Timestamp, Uid, random};
use crate::rate_limit::{Permit, RateClass, RateLimiter};
use crate::telemetry::Metrics;
use crate::telemetry::context::link_to;

/// How often a replica looks for what is due; jittered, so that replicas do not look together.
const TICK: Duration = Duration::from_millis(500);
/// How long what one replica claimed is hidden from the others: more than twice a describe's timeout.
const VISIBILITY: Duration = Duration::from_secs(10);
/// A stuck attempt is looked at every 30 s, by whichever replica claims it.
const STUCK_SEEN_WITHIN: Duration = Duration::from_secs(120);
/// Records that are settled at once.
const SETTLED_AT_ONCE: usize = 16;

/// The tracker of one replica.
pub struct Tracker<L, E> {
    ledger: Arc<Ledger<L>>,
    ens: Arc<E>,
    limiter: RateLimiter,
    attacher: Arc<Attacher<L, E>>,
    metrics: Metrics,
    tasks: TaskTracker,
    resending: Arc<Mutex<BTreeSet<Uid>>>,
    stuck: Mutex<BTreeMap<Uid, Instant>>,
}

impl<L: LedgerStore, E: Ens> Tracker<L, E> {
    /// Settles attempts of `book` from what `ens` shows, and sends again through `attacher`; its work runs on `tasks`.
    pub fn new(
        ledger: Arc<Ledger<L>>,
        ens: Arc<E>,
        limiter: RateLimiter,
        attacher: Arc<Attacher<L, E>>,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            ledger,
            ens,
            limiter,
            attacher,
            metrics,
            tasks,
            resending: Arc::default(),
            stuck: Mutex::default(),
        }
    }

    /// Ticks until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let claimed = self.tick().await;
            self.count_stuck();
            // A full batch means that more may be due.
            if claimed < MAX_IDS {
                let pause = TICK.mul_f64(random::between(0.8..1.2));
                // Stopped or not, the condition of the loop says.
                let _ = tokio::time::timeout(pause, stop.cancelled()).await;
            }
        }
    }

    /// Claims what one permit is enough for, and has it asked for. How many were claimed.
    async fn tick(self: &Arc<Self>) -> usize {
        let ledger = self.ledger.store();
        let Some((due, permit)) = self
            .with_permit(RateClass::Track, ledger.due(MAX_IDS), |due| {
                ledger.claim(due, VISIBILITY)
            })
            .await
        else {
            return 0;
        };
        let (claimed, tracker) = (due.len(), self.clone());
        let span = tracing::info_span!(parent: None, "poll", otel.kind = "internal", batch = claimed);
        self.tasks
            .spawn(async move { tracker.poll(due, permit).await }.instrument(span));
        claimed
    }

    /// What is due, claimed, and a permit to ask ENS for it. The permit is taken after something was seen to be due, for it may be the
    /// breaker's only probe; and before the claim, which hides what is due from the other replicas. It is given back at once where
    /// nothing is left to claim.
    async fn with_permit<T, F>(
        &self,
        purpose: RateClass,
        due: impl Future<Output = Result<Vec<T>, LedgerError>>,
        claim: impl FnOnce(Vec<T>) -> F,
    ) -> Option<(Vec<T>, Permit)>
    where
        F: Future<Output = Result<Vec<T>, LedgerError>>,
    {
        let unreached = |error: &LedgerError| tracing::debug!(%error, "the queue of what is due cannot be reached");
        let due = due.await.inspect_err(unreached).ok().filter(|due| !due.is_empty())?;
        let permit = self.limiter.try_permit(purpose).await.ok()?;
        let claimed = claim(due).await.inspect_err(unreached).unwrap_or_default();
        if claimed.is_empty() {
            self.limiter.give_back(permit).await;
            return None;
        }
        Some((claimed, permit))
    }

    /// Asks ENS for these attempts, at most fifty, and settles what it shows. What cannot be asked for stays as it is.
    pub async fn poll(self: &Arc<Self>, due: Vec<Due>, permit: Permit) {
        self.metrics.polled(due.len());
        let looks = self.describe_due(&due, permit).await;
        let settled = futures_util::stream::iter(looks).map(|(instance, sent_at, findings)| {
            let tracker = self.clone();
            async move { tracker.record_statuses(instance, sent_at, findings).await }
        });
        settled
            .buffer_unordered(SETTLED_AT_ONCE)
            .for_each(|()| std::future::ready(()))
            .await;
    }

    async fn record_statuses(
        self: &Arc<Self>,
        instance: InstanceId,
        sent_at: Timestamp,
        findings: Vec<(InterfaceId, EniObservation)>,
    ) {
        let settle = Command::RecordStatuses { sent_at, findings };
        match self.ledger.execute(&instance, &settle).await {
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
            // What was claimed falls due again.
            Err(error) => tracing::debug!(%instance, %error, "a look could not be recorded"),
        }
    }

    fn note_stuck(&self, attempt: &Attempt) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.attachment.stuck {
            stuck.insert(attempt.uid(), Instant::now());
        } else {
            stuck.remove(&attempt.uid());
        }
    }

    /// How many attempts this replica has lately seen stuck. Others may have settled them since: what was not seen for a while
    /// is forgotten.
    fn count_stuck(&self) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|_, seen| seen.elapsed() < STUCK_SEEN_WITHIN);
        self.metrics.stuck(stuck.len());
    }

    /// Sends an attempt again on a task of its own, once at a time.
    fn resend(self: &Arc<Self>, attempt: Attempt) {
        let uid = attempt.uid();
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
