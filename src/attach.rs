//! The use-case: one attach, from admission to settled.
//!
//! ```text
//!  line up ─► enter ─► [describe] ─► reserve + write the send ─► send ─► write the answer + release ─► settled?
//!             └ joined, replayed, here already, full: answered without the lock
//! ```
//!
//! The attempt runs on a task of its own: a caller who hangs up or runs out of time leaves it as it is. Until the send
//! is written the caller's deadline decides; afterwards only ENS does.

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

use crate::rate_limit::RateLimiter;
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
/// Most ledger calls of one round: permits taken and given back, the lock asked for and given up, a describe recorded. Commits that
/// meet another one's, and are tried again, come on top.
pub const MOST_CALLS_PER_ROUND: u32 = 16;
/// How often the ledger is asked again when it cannot be reached.
const LEDGER_RETRY: Duration = Duration::from_millis(300);
/// Most calls that reach nobody before the caller hears of it.
const MOST_UNREACHED: u32 = 3;

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI.
    pub eni: InterfaceId,
    /// The caller's idempotency key.
    pub request_id: Option<RequestId>,
    /// Who asks.
    pub caller: Caller,
    /// When the caller must have an answer.
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
            ledger: ledger,
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

    /// This replica ends in a moment: answers everybody who still waits, those whose attach is not sent yet with `DRAINING`. What
    /// was sent goes on to its end on other replicas.
    pub fn abort_waiters(&self) {
        self.draining.cancel();
    }

    /// Attaches an ENI: returns when ENS has accepted or refused, or when the deadline strikes. Already attached here is fine
    /// and sends nothing; the same pair in flight is joined.
    ///
    /// # Errors
    /// As the error table says. A failure that says that nothing was sent means: nothing was, and nothing will be.
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

/// How far one step came.
enum AttemptStep {
    /// To an answer.
    Done(Box<Attachment>),
    /// To an attempt that is not settled yet: its end is waited for outside the line.
    AwaitOutcome(PendingOutcome),
    /// To an attachment that ENS no longer shows: for so long, nothing settles which of the two is the past. Waited for outside the line.
    Doubtful(Duration),
    /// To the lock, or to a permit that was missing; nothing is reserved yet. At once once more: once for each grant and each permit.
    Continue,
    /// Not far; after a pause, or a change of the record, once more.
    Queued { ahead: usize },
    /// Not far; after this pause once more.
    Retry(Duration, Failure),
}

/// An attempt whose end is waited for.
#[derive(Clone, Copy)]
struct PendingOutcome {
    uid: Uid,
    /// This very call sent it, or may have: whatever becomes of its record, it must not hear that nothing was sent.
    sent: bool,
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    async fn run(self) -> Result<Attachment, Failure> {
        let _in_flight = self.attacher.metrics.attempt_in_flight();
        let line = self.attacher.queues.of(&self.request.instance);
        loop {
            let step = match line.try_lock() {
                Some(guard) => self.run_under_queue_guard(guard).await?,
                // Others are before us; what needs no lock need not wait for them.
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
                let away = why.reason == Reason::CoordinationUnavailable;
                let since = *away_since.get_or_insert_with(Instant::now);
                if !away {
                    away_since = None;
                }
                self.session.set_pending_error(why.clone());
                tokio::select! {
                    biased;
                    guard = &mut guard => return Ok(guard),
                    changed = queue.blocked_by_changed(known.as_ref()) => known = changed,
                    () = sleep_until(since + LEDGER_PATIENCE), if away => return Err(self.session.refuse(why)),
                }
            }
        };
        let guard = self.session.until_deadline(guard).await.flatten();
        if let (Err(_), Some(mut guard)) = (&guard, queue.try_lock()) {
            // Perhaps nobody else is left to whom a lock could pass.
            self.attacher.release_if_idle(&mut guard, &self.request.instance).await;
        }
        guard
    }

    /// At the head of the line: steps until there is an answer, or the caller's time is over.
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

    /// One step: as far as it gets without waiting for anything but the ledger and ENS. `recovering`: the ledger was, a moment ago.
    async fn step(
        &self,
        guard: &mut QueueGuard,
        permits: &mut SendPermits,
        recovering: bool,
    ) -> Result<AttemptStep, Failure> {
        // No permit is taken from the others while it cannot be used.
        if recovering && let Some(step) = self.ask().await? {
            return Ok(step);
        }
        // A permit is had when nobody stands before, not while queueing, and never waited for under the lock.
        if guard.is_next() {
            let permit_for_send = match self.attacher.try_prepare_send(permits).await {
                Ok(Some(permit_for_send)) => permit_for_send,
                // What needs neither permit nor credentials does not fail for them, and does not wait for them.
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

/// How long the lock is not asked for again unless the record changes: a quarter of a second.
fn poll_pause() -> Duration {
    Duration::from_millis(random::between(200..300))
}

/// Pauses until the record is worth asking for again: so long at most, less if it changed, and never less than [`LEAST_ROUND`].
async fn next_round(changes: &mut ChangeSubscription, most: Duration) {
    sleep(LEAST_ROUND).await;
    // Either way it is asked for again.
    let _ = timeout(most.saturating_sub(LEAST_ROUND), changes.changed()).await;
}

/// Who asked for what, and what came of it.
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
