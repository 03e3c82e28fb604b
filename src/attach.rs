//! One attach, from admission to its result.
//!
//! ```text
//!  enter ─► prepare ─► reserve ─► [observe] ─► send ─► record ─► outcome
//!    │  │      └► [await permit]     └► reserve
//!    │  └ [discover]: an instance that the ledger does not know is described first
//!    └ joined, replayed, attached already, no capacity: answered without the lock
//! ```
//!
//! The attempt runs on its own task, which a cancelled or expired call does not stop. Until the
//! send is recorded the caller's deadline decides; afterwards only ENS does.

mod batch;
mod budget_places;
mod caller_session;
mod capacity;
mod discover;
mod discovery;
mod flow;
mod instance_lock;
mod lock_queue;
mod prepare;
mod refresh;
mod reply;
mod resend;
mod reserve;
mod retry;
mod send;
mod send_permit;
pub mod steps;
mod turn;
mod validate;
mod wait;
mod waiting_caller;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::admission::{ConcurrencyLimit, Peer};
use crate::backends::Backends;
use crate::drain;
use crate::ens::Ens;
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Command, Mode};
use crate::ledger::execute::CommandOutcome;
use crate::ledger::{ChangeSubscription, LedgerError, LedgerStore};
use crate::model::{Attachment, Caller, Failure, InstanceId, InterfaceId, RequestId, Uid};
use crate::observe::SingleFlight;
use crate::telemetry::context::emit_lock_wait_span;

use caller_session::{Answer, CallerSession};
use discovery::Discovery;
use flow::Step;
use instance_lock::InstanceLock;
use lock_queue::{InstanceQueue, InstanceQueues, QueueGuard};
use retry::RetryPolicy;
use send_permit::KeptPermits;
use turn::Turn;

pub use batch::BatchRequest;
pub use retry::LEAST_ROUND;
pub use validate::Check;

/// Maximum number of ledger calls of one round: permits, lock, a describe's record. Retries of
/// conflicting commits are extra.
pub const MOST_CALLS_PER_ROUND: u32 = 16;

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
    /// The caller's connection.
    pub peer: Peer,
    /// Deadline of the call.
    pub deadline: Instant,
}

/// Attaches ENIs.
pub struct Attacher<L, E> {
    backends: Backends<L, E>,
    /// Timeout of one Attach call, connect included.
    attempt_timeout: Duration,
    tasks: TaskTracker,
    queues: InstanceQueues,
    /// The running refreshes, shared by the callers of one ENI. The result: whether the ENI is
    /// confirmed as attached.
    refreshes: SingleFlight<(InstanceId, InterfaceId), bool>,
    /// Attaches to instances that the ledger does not know.
    discoveries: ConcurrencyLimit,
    /// `validate_only` calls, which wait for permits without a place in a queue.
    validations: ConcurrencyLimit,
    drain: drain::Watch,
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// An attacher over these backends. `attempt_timeout` bounds one Attach call. Attempts run on
    /// `tasks`. At [`drain::Phase::Closing`] the remaining callers are answered, with `DRAINING`
    /// before a send. Other replicas settle what was sent.
    pub fn new(
        backends: Backends<L, E>,
        attempt_timeout: Duration,
        tasks: TaskTracker,
        drain: drain::Watch,
    ) -> Self {
        Self {
            backends,
            attempt_timeout,
            tasks,
            queues: InstanceQueues::default(),
            refreshes: SingleFlight::default(),
            discoveries: discovery::limit("attaches to unknown instances"),
            validations: discovery::limit("validations"),
            drain,
        }
    }

    /// Attaches an ENI. Returns when ENS has accepted or refused, or at the deadline. An ENI that
    /// is already attached succeeds without a send. The same pair in flight is joined.
    ///
    /// # Errors
    /// As the error table says. "Nothing was sent" is final: nothing will be sent later either.
    pub async fn attach(self: &Arc<Self>, request: Request) -> Result<Attachment, Failure> {
        let (attempt, caller) = self.attempt(request);
        self.tasks.spawn(attempt.run_for_caller().in_current_span());
        self.answer(caller).await
    }

    /// Records the caller's wait for the lock, successful or not.
    fn record_lock_wait(&self, arrived: Instant) {
        self.backends.metrics.lock_waited(arrived.elapsed());
        emit_lock_wait_span(arrived.elapsed());
    }
}

/// An attempt in progress: an attach, or a resend.
struct AttemptTask<L: LedgerStore, E> {
    attacher: Arc<Attacher<L, E>>,
    session: Arc<CallerSession>,
    /// The channel for the caller's answer, until it is sent.
    answer: Option<oneshot::Sender<Answer>>,
    request: Request,
    /// The attempt that is resent. A resend has no query, retry or caller.
    resends: Option<Uid>,
    arrived: Instant,
    queue: Arc<InstanceQueue>,
    /// Held while the attempt is the first in its queue.
    lock: Option<InstanceLock<L>>,
    permits: KeptPermits,
    /// The describe that showed an unknown instance.
    discovery: Option<Discovery>,
    /// The attempt's turn, if it is one of a batch.
    turn: Option<Turn<L>>,
    changes: ChangeSubscription,
    retry: RetryPolicy,
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    fn new(attacher: &Arc<Attacher<L, E>>, session: Arc<CallerSession>, request: Request) -> Self {
        Self {
            queue: attacher.queues.of(&request.instance),
            attacher: attacher.clone(),
            session,
            answer: None,
            resends: None,
            arrived: Instant::now(),
            lock: None,
            permits: KeptPermits::default(),
            discovery: None,
            turn: None,
            changes: attacher.backends.ledger.store().changes().subscribe(&request.instance),
            request,
            retry: RetryPolicy::default(),
        }
    }

    async fn run_for_caller(mut self) {
        let outcome = {
            let _in_flight = self.backends().metrics.attempt_in_flight();
            self.run().await
        };
        if let Some(turn) = &mut self.turn {
            turn.record_outcome(&outcome);
        }
        self.leave_queue();
        self.send_answer(outcome);
    }

    /// Runs steps until there is an answer, or the deadline passes.
    async fn run(&mut self) -> Answer {
        let mut step = Step::Enter;
        loop {
            step = match step {
                Step::Enter => self.enter().await?,
                Step::AwaitPlace => self.await_place().await?,
                Step::Discover(place) => self.discover(place).await?,
                Step::Prepare => self.prepare().await?,
                Step::AwaitPermit(missing) => self.await_permit(missing).await?,
                Step::Reserve(reserving) => self.reserve(reserving).await?,
                Step::Observe(reserving) => self.observe(reserving).await?,
                Step::Send(reserved, permit) => self.send(*reserved, permit).await,
                Step::Record(sent) => self.record(sent).await?,
                Step::Refresh => self.refresh().await?,
                Step::AwaitOutcome(pending) => self.await_outcome(pending).await?,
                Step::Done(attachment) => return Ok(*attachment),
            };
        }
    }

    /// Answers what needs no lock. Otherwise waits for the head of the queue.
    async fn enter(&mut self) -> Result<Step, Failure> {
        if let Some(refusal) = self.turn.as_ref().and_then(Turn::refusal) {
            return self.query().await?.ok_or(refusal);
        }
        if self.lock.is_none() {
            self.lock = self.lock_of(self.queue.try_lock());
            if self.lock.is_some() && self.knows_instance() {
                // The first command queries and acquires at once.
                return Ok(Step::Prepare);
            }
            // A reply that needs no describe does not wait long for a place.
            if self.lock.is_some()
                && self.describes_unqueried()
                && let Some(place) = self.try_place().await?
            {
                return Ok(Step::Discover(place));
            }
        }
        if let Some(step) = self.query().await? {
            return Ok(step);
        }
        if self.lock.is_none() {
            let head = self.session.head_of(&self.queue).await;
            if head.is_err() {
                // No other caller may be left to take the lock over.
                drop(self.lock_of(self.queue.try_lock()));
            }
            self.lock = self.lock_of(Some(head?));
        }
        Ok(if self.knows_instance() { Step::Prepare } else { Step::AwaitPlace })
    }

    /// Takes permit and credentials if no other ticket is ahead. They are never awaited under the
    /// lock.
    async fn prepare(&mut self) -> Result<Step, Failure> {
        let Some(lock) = &self.lock else {
            return Ok(Step::Enter);
        };
        let ticket = lock.ticket();
        if lock.is_next() || self.resends.is_some() {
            return Ok(match self.try_prepare_send().await {
                Ok(Some(permit)) => Step::Reserve(self.reserving(ticket, permit)),
                Ok(None) => Step::AwaitPermit(None),
                Err(failure) => Step::AwaitPermit(Some(Box::new(failure))),
            });
        }
        let enqueue = self.request.acquire_command(
            ticket,
            Uid(Uuid::nil()),
            Mode::Enqueue,
            self.confirmed_since(),
        );
        match self.execute(&enqueue).await {
            Ok(answer) => {
                if let Some(lock) = &self.lock {
                    lock.apply_reply(&answer);
                }
                self.follow_reply(answer).await
            }
            Err(error) => {
                self.pause_for_ledger(&error).await?;
                Ok(Step::Prepare)
            }
        }
    }

    fn lock_of(&self, head: Option<QueueGuard>) -> Option<InstanceLock<L>> {
        let Attacher { backends, attempt_timeout, tasks, .. } = &*self.attacher;
        let (ledger, instance) = (backends.ledger.clone(), self.request.instance.clone());
        let send_time = *attempt_timeout + LEASE_MARGIN;
        Some(InstanceLock::new(head?, ledger, instance, send_time, tasks.clone()))
    }

    /// Leaves the queue. The next attempt of a batch takes the place over. Otherwise lock and
    /// permits return on drop.
    fn leave_queue(&mut self) {
        self.permits = KeptPermits::default();
        let (lock, discovery) = (self.lock.take(), self.discovery.take());
        // An instance that is known by now needs no place among the unknown ones.
        let discovery = discovery.filter(|_| !self.backends().ledger.knows(&self.request.instance));
        if let Some(turn) = &mut self.turn {
            turn.hand_on(lock, discovery);
        }
    }

    /// Releases the lock, and stays the first in the queue.
    async fn release_lock(&self) {
        if let Some(lock) = &self.lock {
            lock.release().await;
        }
    }

    fn backends(&self) -> &Backends<L, E> {
        &self.attacher.backends
    }

    async fn execute(&mut self, command: &Command) -> Result<CommandOutcome, LedgerError> {
        let answer = self.backends().ledger.execute(&self.request.instance, command).await?;
        self.record_ledger_reached();
        Ok(answer)
    }

    /// Sends the caller its answer, unless it has one.
    fn send_answer(&mut self, answer: Answer) {
        if let Some(sender) = self.answer.take() {
            // The caller may have left.
            let _ = sender.send(answer);
        }
    }
}
