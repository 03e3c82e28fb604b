//! One attach, from admission to its result.
//!
//! ```text
//!  queue ─► acquire ─► [describe] ─► reserve + record the send ─► send ─► record the result + release ─► outcome
//!               └ joined, replayed, attached already, no capacity: answered without the lock
//! ```
//!
//! The attempt runs on its own task, which a cancelled or expired call does not stop. Until the send is recorded the caller's
//! deadline decides; afterwards only ENS does.

mod answered;
mod caller_session;
mod describe;
pub(crate) mod failures;
mod lock_queue;
mod resend;
mod reserve;
mod send;
mod send_permit;
pub mod steps;
mod validate;
mod weak_map;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::ens::Ens;
use crate::ledger::command::Mode;
use crate::ledger::{ChangeSubscription, Ledger, LedgerStore};
use crate::model::{Attachment, Caller, Failure, InstanceId, InterfaceId, Reason, RequestId, Uid, random};
use crate::rate_limit::RateLimiter;
use crate::telemetry::Metrics;
use crate::telemetry::names::AUDIT;

use caller_session::{CallerSession, CloseOnDrop, LEDGER_PATIENCE};
use lock_queue::{InstanceQueue, InstanceQueues, QueueGuard};
use send_permit::SendPermits;
use weak_map::WeakMap;

pub(crate) use describe::{to_eni_observation, to_observed_enis};
pub use validate::Check;

/// The least time between two rounds of a caller that waits for the ledger: for the lock, for the end of an attempt, or for the
/// ledger itself. A round makes [`MOST_CALLS_PER_ROUND`] ledger calls at most, so that a call of `t` seconds makes `50 t` rounds at most,
/// however often the record changes meanwhile. Usually a round takes a quarter of a second.
pub const LEAST_ROUND: Duration = Duration::from_millis(20);
/// Maximum number of ledger calls of one round: permits taken and returned, the lock acquired and released, a describe recorded. Commits that
/// meet another one's, and are tried again, come on top.
pub const MOST_CALLS_PER_ROUND: u32 = 16;
/// Pause before a retry when the ledger cannot be reached.
const LEDGER_RETRY: Duration = Duration::from_millis(300);
/// Number of failed tries to reach ENS after which the call fails.
const MOST_UNREACHED: u32 = 3;

/// One attach call.
#[derive(Debug, Clone)]
pub struct Request {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI.
    pub eni: InterfaceId,
    /// The caller's idempotency key.
    pub request_id: Option<RequestId>,
    /// The caller.
    pub caller: Caller,
    /// Deadline of the call.
    pub deadline: Instant,
}

/// Attaches ENIs.
pub struct Attacher<L, E> {
    ledger: Arc<Ledger<L>>,
    ens: Arc<E>,
    limiter: RateLimiter,
    /// One Attach call, connect included, takes at most this long.
    attempt_timeout: Duration,
    metrics: Metrics,
    tasks: TaskTracker,
    queues: InstanceQueues,
    /// One refresh of an ENI at a time: the callers behind it use its answer.
    refreshes: WeakMap<(InstanceId, InterfaceId), tokio::sync::Mutex<()>>,
    draining: CancellationToken,
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Attaches through `ens`, by the rules of `book`; attempts run on `tasks`.
    pub fn new(
        ledger: Arc<Ledger<L>>,
        ens: Arc<E>,
        limiter: RateLimiter,
        attempt_timeout: Duration,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            ledger,
            ens,
            limiter,
            attempt_timeout,
            metrics,
            tasks,
            queues: InstanceQueues::default(),
            refreshes: WeakMap::default(),
            draining: CancellationToken::new(),
        }
    }

    /// Answers all waiting callers at the end of the drain; those whose attach is not sent yet receive `DRAINING`. Other replicas
    /// settle what was sent.
    pub fn abort_waiters(&self) {
        self.draining.cancel();
    }

    /// Attaches an ENI: returns when ENS has accepted or refused, or when the deadline strikes. Already attached here is fine
    /// and sends nothing; the same pair in flight is joined.
    ///
    /// # Errors
    /// As the error table says. A failure that reports that nothing was sent is final: nothing will be sent later either.
    pub async fn attach(self: &Arc<Self>, request: Request) -> Result<Attachment, Failure> {
        let (arrived, session) = (Instant::now(), CallerSession::new(request.deadline));
        let _hang_up = CloseOnDrop(session.clone());
        let deadline = request.deadline;
        let attempt = AttemptTask {
            attacher: self.clone(),
            session: session.clone(),
            request: request.clone(),
            arrived,
        };
        let attempt = self.tasks.spawn(attempt.run().in_current_span());
        let answer = tokio::select! {
            biased;
            answer = attempt => answer.unwrap_or_else(|panic| {
                tracing::error!(error = %panic, "an attempt ended by a panic");
                Err(caller_session::outcome_unknown())
            }),
            () = sleep_until(deadline) => session.close(),
            () = self.draining.cancelled() => session.close_for_drain(),
            () = session.ledger_lost() => session.close_for_outage(),
        };
        let answer = answer.map_err(|failure| failure.about(&request.instance, &request.eni));
        if let Err(Failure {
            reason: Reason::LockWait,
            ..
        }) = &answer
        {
            self.metrics.lock_waited(arrived.elapsed());
        }
        audit(&request, &answer);
        answer
    }
}

/// One attempt under way.
struct AttemptTask<L, E> {
    attacher: Arc<Attacher<L, E>>,
    session: Arc<CallerSession>,
    request: Request,
    arrived: Instant,
}

/// Result of one step.
enum AttemptStep {
    /// The answer.
    Done(Box<Attachment>),
    /// The attempt is not settled yet. The call waits for its outcome outside the queue.
    AwaitOutcome(PendingOutcome),
    /// ENS no longer shows the attachment. Until this time has passed nothing settles it; the call waits outside the queue.
    Doubtful(Duration),
    /// The lock or a missing permit was acquired, and nothing is reserved yet. The next step follows at once.
    Continue,
    /// Another ticket holds the lock. The next step follows after a pause or a change of the record.
    Queued { ahead: usize },
    /// The next step follows after this pause.
    Retry(Duration, Failure),
}

/// An attempt whose end is waited for.
#[derive(Clone, Copy)]
struct PendingOutcome {
    uid: Uid,
    /// This call sent it, or may have: it must not report that nothing was sent, whatever happens to the record.
    sent: bool,
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    async fn run(self) -> Result<Attachment, Failure> {
        let _in_flight = self.attacher.metrics.attempt_in_flight();
        let line = self.attacher.queues.of(&self.request.instance);
        loop {
            let step = match line.try_lock() {
                Some(guard) => self.run_under_queue_guard(guard).await?,
                // Other callers are ahead. A reply that needs no lock does not wait for them.
                None => match self.ask().await? {
                    Some(AttemptStep::Retry(_, why)) => {
                        self.session.set_pending_error(why);
                        self.run_under_queue_guard(self.wait_in_queue(&line).await?).await?
                    }
                    Some(step) => step,
                    None => self.run_under_queue_guard(self.wait_in_queue(&line).await?).await?,
                },
            };
            match step {
                AttemptStep::Done(attachment) => return Ok(*attachment),
                AttemptStep::AwaitOutcome(pending) => {
                    if let Some(attachment) = self.await_outcome(pending).await? {
                        return Ok(attachment);
                    }
                    // The attempt that was joined is withdrawn: this caller's own begins.
                    self.session.until_deadline(sleep(LEAST_ROUND)).await?;
                }
                AttemptStep::Doubtful(rest) => self.wait_until_confirmed(rest).await?,
                AttemptStep::Continue | AttemptStep::Queued { .. } | AttemptStep::Retry(..) => {}
            }
        }
    }

    /// Waits for the place at the head of the queue. The caller's error is meanwhile what blocks the first in the queue. A ledger that
    /// is away is waited for as briefly as at the head.
    async fn wait_in_queue(&self, queue: &Arc<InstanceQueue>) -> Result<QueueGuard, Failure> {
        let guard = async {
            let guard = queue.lock();
            tokio::pin!(guard);
            let (mut known, mut away_since) = (None, None);
            loop {
                let why: Failure = known.clone().unwrap_or_else(failures::queue_wait);
                let is_away = why.reason == Reason::CoordinationUnavailable;
                away_since = is_away.then(|| away_since.unwrap_or_else(Instant::now));
                let patience_ends = away_since.map(|since| since + LEDGER_PATIENCE);
                self.session.set_pending_error(why.clone());
                tokio::select! {
                    biased;
                    guard = &mut guard => return Ok(guard),
                    changed = queue.blocked_by_changed(known.as_ref()) => known = changed,
                    () = sleep_until(patience_ends.unwrap_or_else(Instant::now)), if is_away => {
                        return Err(self.session.refuse(why));
                    }
                }
            }
        };
        let guard = self.session.until_deadline(guard).await.flatten();
        if let (Err(_), Some(mut guard)) = (&guard, queue.try_lock()) {
            // No other caller may be left to take the lock over.
            self.attacher.release_if_idle(&mut guard, &self.request.instance).await;
        }
        guard
    }

    /// Runs steps at the head of the queue until there is an answer or the deadline passes.
    async fn run_under_queue_guard(&self, mut guard: QueueGuard) -> Result<AttemptStep, Failure> {
        let mut permits = SendPermits::default();
        let mut unreached = 0;
        let mut recovering = false;
        let mut changes = self.attacher.ledger.store().changes().subscribe(&self.request.instance);
        self.session.set_leading(Some(guard.line()));
        let ended = loop {
            let paused = match self
                .step(&mut guard, &mut permits, std::mem::take(&mut recovering))
                .await
            {
                Ok(AttemptStep::Retry(pause, why)) => {
                    recovering = why.reason == Reason::CoordinationRecovering;
                    unreached += u32::from(why.reason == Reason::NotApplied);
                    if unreached == MOST_UNREACHED {
                        break Err(why);
                    }
                    self.attacher.return_permits(&mut permits).await;
                    self.session.pause(pause.max(LEAST_ROUND), why).await
                }
                Ok(AttemptStep::Queued { ahead }) => {
                    self.session.set_pending_error(failures::lock_wait(ahead));
                    self.attacher.return_probes(&mut permits).await;
                    self.session
                        .until_deadline(next_round(&mut changes, poll_pause()))
                        .await
                }
                Ok(AttemptStep::Continue) => Ok(()),
                ended => break ended,
            };
            if let Err(failure) = paused {
                break Err(failure);
            }
        };
        self.session.set_leading(None);
        self.attacher.return_permits(&mut permits).await;
        self.attacher.release_if_idle(&mut guard, &self.request.instance).await;
        ended
    }

    /// One step, which waits for nothing but the ledger and ENS. `recovering`: the last reply was a recovery hold-down.
    async fn step(
        &self,
        guard: &mut QueueGuard,
        permits: &mut SendPermits,
        recovering: bool,
    ) -> Result<AttemptStep, Failure> {
        // A permit that cannot be used is not taken from other callers.
        if recovering && let Some(step) = self.ask().await? {
            return Ok(step);
        }
        // A permit is taken when no other ticket is ahead, and never awaited under the lock.
        if guard.is_next() {
            let permit_for_send = match self.attacher.try_prepare_send(permits).await {
                Ok(Some(permit_for_send)) => permit_for_send,
                // A reply that needs neither permit nor credentials does not fail or wait for them.
                missing => {
                    self.attacher.release(guard, &self.request.instance).await;
                    if let Some(step) = self.ask().await? {
                        return Ok(step);
                    }
                    missing?;
                    self.attacher.prepare_send(permits, &self.session).await?
                }
            };
            return self.reserve(guard, permit_for_send, permits).await;
        }
        let enter = self.enter(guard.ticket(), Uid(Uuid::nil()), Mode::Enqueue);
        match self.attacher.ledger.execute(&self.request.instance, &enter).await {
            Ok(answer) => {
                self.session.ledger_reached();
                guard.apply_reply(&answer);
                self.without_send(guard, answer).await
            }
            Err(error) => Ok(AttemptStep::Retry(LEDGER_RETRY, self.session.ledger_unreached(&error)?)),
        }
    }
}

/// Pause between two polls for the lock: a quarter of a second, jittered.
fn poll_pause() -> Duration {
    Duration::from_millis(random::between(200..300))
}

/// Waits for a change of the record, between [`LEAST_ROUND`] and `most`.
async fn next_round(changes: &mut ChangeSubscription, most: Duration) {
    sleep(LEAST_ROUND).await;
    // The record is read again in both cases.
    let _ = timeout(most.saturating_sub(LEAST_ROUND), changes.changed()).await;
}

/// Writes the audit line of a call.
fn audit(request: &Request, answer: &Result<Attachment, Failure>) {
    let (outcome, ens_request_id) = match answer {
        Ok(attachment) => ("OK", &attachment.ens_request_id),
        Err(failure) => (failure.reason.name(), &failure.ens_request_id),
    };
    tracing::info!(
        target: AUDIT,
        caller = %request.caller,
        instance = %request.instance,
        eni = %request.eni,
        request_id = request.request_id.map(tracing::field::display),
        outcome,
        ens_request_id,
        "attach"
    );
}
