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
mod describe;
pub(crate) mod failures;
mod gate;
mod kit;
mod line;
pub mod owner;
mod resend;
mod reserve;
mod send;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::ens::{Budget, Ens};
use crate::ledger::command::Reach;
use crate::ledger::{Book, Hint, Ledger};
use crate::model::{Attachment, Caller, Failure, InstanceId, InterfaceId, Reason, RequestId, Uid, random};
use crate::telemetry::Metrics;
use crate::telemetry::names::AUDIT;

use gate::{Gate, HangUp};
use kit::Kit;
use line::{Line, Lines, Turn};

pub(crate) use describe::{finding, sights};
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
    book: Arc<Book<L>>,
    ens: Arc<E>,
    budget: Budget,
    /// One Attach call, connect included, takes at most this long.
    attempt_timeout: Duration,
    metrics: Metrics,
    tasks: TaskTracker,
    lines: Lines,
    leaving: CancellationToken,
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Attaches through `ens`, by the rules of `book`; attempts run on `tasks`.
    pub fn new(
        book: Arc<Book<L>>,
        ens: Arc<E>,
        budget: Budget,
        attempt_timeout: Duration,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            book,
            ens,
            budget,
            attempt_timeout,
            metrics,
            tasks,
            lines: Lines::default(),
            leaving: CancellationToken::new(),
        }
    }

    /// This replica ends in a moment: answers everybody who still waits, those whose attach is not sent yet with `DRAINING`. What
    /// was sent goes on to its end on other replicas.
    pub fn turn_away(&self) {
        self.leaving.cancel();
    }

    /// Attaches an ENI: returns when ENS has accepted or refused, or when the deadline strikes. Already attached here is fine
    /// and sends nothing; the same pair in flight is joined.
    ///
    /// # Errors
    /// As the error table says. A failure that says that nothing was sent means: nothing was, and nothing will be.
    pub async fn attach(self: &Arc<Self>, request: Request) -> Result<Attachment, Failure> {
        let (arrived, gate) = (Instant::now(), Gate::new(request.deadline));
        let _hang_up = HangUp(gate.clone());
        let deadline = request.deadline;
        let attempt = Attempting {
            attacher: self.clone(),
            gate: gate.clone(),
            request: request.clone(),
            arrived,
        };
        let attempt = self.tasks.spawn(attempt.run().in_current_span());
        let answer = tokio::select! {
            biased;
            answer = attempt => answer.unwrap_or_else(|panic| {
                tracing::error!(error = %panic, "an attempt ended by a panic");
                Err(gate::outcome_unknown())
            }),
            () = tokio::time::sleep_until(deadline) => gate.close(),
            () = self.leaving.cancelled() => gate.leave(),
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
struct Attempting<L, E> {
    attacher: Arc<Attacher<L, E>>,
    gate: Arc<Gate>,
    request: Request,
    arrived: Instant,
}

/// How far one step came.
enum Step {
    /// To an answer.
    Answered(Box<Attachment>),
    /// To an attempt that is not settled yet: its end is waited for outside the line.
    Unsettled(Unsettled),
    /// To an attachment that ENS no longer shows: for so long, nothing settles which of the two is the past. Waited for outside the line.
    Doubtful(Duration),
    /// To the lock, or to a permit that was missing; nothing is reserved yet. At once once more: once for each grant and each permit.
    Further,
    /// Not far; after a pause, or a change of the record, once more.
    Queued { ahead: usize },
    /// Not far; after this pause once more.
    Again(Duration, Failure),
}

/// An attempt whose end is waited for.
#[derive(Clone, Copy)]
struct Unsettled {
    uid: Uid,
    /// This very call sent it, or may have: whatever becomes of its record, it must not hear that nothing was sent.
    sent: bool,
}

impl<L: Ledger, E: Ens> Attempting<L, E> {
    async fn run(self) -> Result<Attachment, Failure> {
        let _in_flight = self.attacher.metrics.attempt_in_flight();
        let line = self.attacher.lines.of(&self.request.instance);
        loop {
            let step = match line.try_turn() {
                Some(turn) => self.in_turn(turn).await?,
                // Others are before us; what needs no lock need not wait for them.
                None => match self.ask().await? {
                    Some(Step::Again(_, why)) => {
                        self.gate.blocked_by(why);
                        self.in_turn(self.line_up(&line).await?).await?
                    }
                    Some(step) => step,
                    None => self.in_turn(self.line_up(&line).await?).await?,
                },
            };
            match step {
                Step::Answered(attachment) => return Ok(*attachment),
                Step::Unsettled(unsettled) => {
                    if let Some(attachment) = self.settled(unsettled).await? {
                        return Ok(attachment);
                    }
                    // The attempt that was joined is withdrawn: this caller's own begins.
                    self.gate.bound(sleep(LEAST_ROUND)).await?;
                }
                Step::Doubtful(rest) => self.outlast_doubt(rest).await?,
                Step::Further | Step::Queued { .. } | Step::Again(..) => {}
            }
        }
    }

    /// Waits for the turn. Meanwhile the caller hears what keeps the first in line.
    async fn line_up(&self, line: &Arc<Line>) -> Result<Turn, Failure> {
        let turn = line.turn();
        let turn = async {
            tokio::pin!(turn);
            let mut known = None;
            loop {
                self.gate.blocked_by(known.clone().unwrap_or_else(failures::in_line));
                tokio::select! {
                    biased;
                    turn = &mut turn => return turn,
                    told = line.told(known.as_ref()) => known = told,
                }
            }
        };
        let turn = self.gate.bound(turn).await;
        if let (Err(_), Some(mut turn)) = (&turn, line.try_turn()) {
            // Perhaps nobody else is left to whom a lock could pass.
            self.attacher.step_aside(&mut turn, &self.request.instance).await;
        }
        turn
    }

    /// At the head of the line: steps until there is an answer, or the caller's time is over.
    async fn in_turn(&self, mut turn: Turn) -> Result<Step, Failure> {
        let mut kit = Kit::default();
        let mut unreached = 0;
        let mut recovering = false;
        let mut hint = self.attacher.book.ledger().hints().subscribe(&self.request.instance);
        self.gate.lead(Some(turn.line()));
        let ended = loop {
            let paused = match self.step(&mut turn, &mut kit, std::mem::take(&mut recovering)).await {
                Ok(Step::Again(pause, why)) => {
                    recovering = why.reason == Reason::CoordinationRecovering;
                    unreached += u32::from(why.reason == Reason::NotApplied);
                    if unreached == MOST_UNREACHED {
                        break Err(why);
                    }
                    self.attacher.put_down(&mut kit).await;
                    self.gate.pause(pause.max(LEAST_ROUND), why).await
                }
                Ok(Step::Queued { ahead }) => {
                    self.gate.blocked_by(failures::lock_wait(ahead));
                    self.attacher.put_down_probes(&mut kit).await;
                    self.gate.bound(next_round(&mut hint, poll_pause())).await
                }
                Ok(Step::Further) => Ok(()),
                ended => break ended,
            };
            if let Err(failure) = paused {
                break Err(failure);
            }
        };
        self.gate.lead(None);
        self.attacher.put_down(&mut kit).await;
        self.attacher.step_aside(&mut turn, &self.request.instance).await;
        ended
    }

    /// One step: as far as it gets without waiting for anything but the ledger and ENS. `recovering`: the ledger was, a moment ago.
    async fn step(&self, turn: &mut Turn, kit: &mut Kit, recovering: bool) -> Result<Step, Failure> {
        // No permit is taken from the others while it cannot be used.
        if recovering && let Some(step) = self.ask().await? {
            return Ok(step);
        }
        // A permit is had when nobody stands before, not while queueing, and never waited for under the lock.
        if turn.is_next() {
            let equipped = match self.attacher.equip_now(kit).await {
                Ok(Some(equipped)) => equipped,
                // What needs neither permit nor credentials does not fail for them, and does not wait for them.
                missing => {
                    self.attacher.give_up(turn, &self.request.instance).await;
                    if let Some(step) = self.ask().await? {
                        return Ok(step);
                    }
                    missing?;
                    self.attacher.equip(kit, &self.gate).await?
                }
            };
            return self.reserve(turn, equipped, kit).await;
        }
        let enter = self.enter(turn.ticket(), Uid(Uuid::nil()), Reach::Queue);
        match self.attacher.book.execute(&self.request.instance, &enter).await {
            Ok(answer) => {
                self.gate.reached();
                turn.hears(&answer);
                self.without_send(turn, answer).await
            }
            Err(error) => Ok(Step::Again(LEDGER_RETRY, self.gate.unreached(&error)?)),
        }
    }
}

/// How long the lock is not asked for again unless the record changes: a quarter of a second.
fn poll_pause() -> Duration {
    Duration::from_millis(random::between(200..300))
}

/// Pauses until the record is worth asking for again: so long at most, less if it changed, and never less than [`LEAST_ROUND`].
async fn next_round(hint: &mut Hint, most: Duration) {
    sleep(LEAST_ROUND).await;
    // Either way it is asked for again.
    let _ = timeout(most.saturating_sub(LEAST_ROUND), hint.changed()).await;
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
