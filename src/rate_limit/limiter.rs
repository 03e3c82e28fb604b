//! The limiter of this process: it hands out permits, first come, first served. A [`Permit`] is the only way to a call of ENS.
//!
//! The first in each class's queue asks the store; the others wait behind it. Of each instance only the first attach in line asks for
//! a permit, so that a crowd at one instance takes turns with the others. Between replicas the store keeps each token for the
//! request that has waited longest. The breaker is in the store too: the limiter reports throttled calls, and reports a success only
//! where that closes the breaker. So an ordinary call costs one request to the store.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::model::random;

use super::breaker::Breaker;
use super::{RateClass, RateLimitDecision, RateLimitRequest, RateLimitStore, StoreUnreachable, Waits};

#[cfg(test)]
mod tests;

/// Minimum pause between two requests to the store.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Maximum wait that is believed: after it the store is asked again.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// How long the rest of a chunk is good for; what is not used by then is a call less in that moment.
const CHUNK_LIFE: Duration = Duration::from_millis(50);
/// A store that has not answered for this long cannot be reached.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// Maximum time that a report to the store delays ENS's answer.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The right to one call of ENS. One that is dropped unused is a call less in that moment and nothing worse: buckets refill,
/// and a breaker's probe expires. To return it at once, use [`RateLimiter::give_back`].
#[derive(Debug)]
#[must_use = "an unused permit is given back with `RateLimiter::give_back`"]
pub struct Permit {
    class: RateClass,
    taken: Instant,
    probe: bool,
}

impl Permit {
    /// Whether the breaker is open, and this call is its probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }

    /// What it is for.
    #[must_use]
    pub const fn class(&self) -> RateClass {
        self.class
    }
}

/// The store's decision, to come.
type Answer = Pin<Box<dyn Future<Output = Result<RateLimitDecision, StoreUnreachable>> + Send>>;

/// The store as a function; see [`RateLimiter::over`].
pub type Source = Arc<dyn Fn(RateLimitRequest) -> Answer + Send + Sync>;

/// A number in `0.0..1.0`, for jitter.
pub type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Hands out permits; its clones share the queues.
#[derive(Clone)]
pub struct RateLimiter {
    source: Source,
    random: Random,
    queues: Arc<ClassQueues>,
}

#[derive(Default)]
struct ClassQueues {
    attach: ClassQueue,
    describe: ClassQueue,
    read: ClassQueue,
    track: ClassQueue,
    reconcile: ClassQueue,
    attaches: Mutex<Breaker>,
    /// Of all describes: ENS throttles them together.
    describes: Mutex<Breaker>,
    /// Requests whose callers have left.
    leaving: TaskTracker,
}

#[derive(Default)]
struct ClassQueue {
    /// Held by the first in the queue. tokio's mutex is fair: its waiters are the queue.
    front: tokio::sync::Mutex<()>,
    /// When the store said that the next token is due.
    due: Mutex<Option<Instant>>,
    /// What is left of a chunk, and until when it is good.
    chunk: Mutex<Option<(u32, Instant)>>,
}

impl ClassQueue {
    fn chunk(&self) -> MutexGuard<'_, Option<(u32, Instant)>> {
        self.chunk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from the chunk, if something is left of it.
    fn leased(&self, now: Instant) -> bool {
        let mut chunk = self.chunk();
        *chunk = chunk
            .filter(|(left, until)| *left > 0 && *until > now)
            .map(|(left, until)| (left - 1, until));
        chunk.is_some()
    }

    fn due(&self) -> Option<Instant> {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_due(&self, due: Option<Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    fn wait(&self) -> Duration {
        self.due()
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
            .max(MIN_PAUSE)
    }
}

impl ClassQueues {
    fn queue(&self, class: RateClass) -> &ClassQueue {
        match class {
            RateClass::Attach => &self.attach,
            RateClass::Describe => &self.describe,
            RateClass::Read => &self.read,
            RateClass::Track => &self.track,
            RateClass::Reconcile => &self.reconcile,
        }
    }

    fn breaker(&self, class: RateClass) -> MutexGuard<'_, Breaker> {
        let breaker = match class {
            RateClass::Attach => &self.attaches,
            RateClass::Describe | RateClass::Read | RateClass::Track | RateClass::Reconcile => &self.describes,
        };
        breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those behind the same breaker.
    fn throttled_with(&self, class: RateClass) -> Vec<&ClassQueue> {
        match class {
            RateClass::Attach => vec![&self.attach],
            RateClass::Describe | RateClass::Read | RateClass::Track | RateClass::Reconcile => {
                vec![&self.describe, &self.read, &self.track, &self.reconcile]
            }
        }
    }

    /// Whether the success of this call closes its breaker.
    fn close(&self, spent: &Permit) -> bool {
        let closes = self.breaker(spent.class).passed(spent.taken, spent.probe);
        if closes {
            self.throttled_with(spent.class)
                .iter()
                .for_each(|queue| queue.set_due(None));
        }
        closes
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// The limiter was not reached by the deadline.
    #[error("the account's limiter of ens calls was not reached in time")]
    DeadlineExceeded {
        /// When the next token is due, as far as is known.
        wait: Duration,
    },
    /// The store cannot be reached.
    #[error(transparent)]
    CounterUnreachable(StoreUnreachable),
}

impl StoreUnreachable {
    fn just_now(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            down_for: Duration::ZERO,
        }
    }
}

/// A question to the store. Where the asker leaves before its answer, a token that is granted all the same goes back: it may be the
/// breaker's only probe.
struct Question<'a> {
    answer: Option<Answer>,
    limiter: &'a RateLimiter,
    class: RateClass,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let (Some(answer), Ok(runtime)) = (self.answer.take(), Handle::try_current()) else {
            return;
        };
        let (source, class) = (self.limiter.source.clone(), self.class);
        let give_back = async move {
            let probe = match answer.await {
                Err(_) | Ok(RateLimitDecision::Wait(_)) => return,
                Ok(granted) => granted == RateLimitDecision::Probe,
            };
            // As in `give_back`.
            let _ = source(RateLimitRequest::GiveBack { class, probe }).await;
        };
        self.limiter
            .queues
            .leaving
            .spawn_on(give_back.in_current_span(), &runtime);
    }
}

impl RateLimiter {
    /// A limiter over this counter.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            random: Arc::new(random::fraction),
            queues: Arc::default(),
        }
    }

    /// A limiter over this store.
    #[must_use]
    pub fn over<S: RateLimitStore>(store: Arc<S>) -> Self {
        Self::new(Arc::new(move |request| {
            let store = store.clone();
            Box::pin(async move { store.take(request).await })
        }))
    }

    /// With another source of jitter, so that a run can be repeated.
    #[must_use]
    pub fn with_random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// A permit, if there is one now and nobody waits for it. Does not ask the store where that has said already when the next
    /// one is due.
    ///
    /// # Errors
    /// [`PermitError::DeadlineExceeded`] with the wait, or the store cannot be reached.
    pub async fn try_permit(&self, class: RateClass) -> Result<Permit, PermitError> {
        let queue = self.queues.queue(class);
        let is_due = || queue.due().is_none_or(|due| due <= Instant::now());
        if is_due() {
            // Those who are being served, not those who wait.
            let front = timeout(MIN_PAUSE, queue.front.lock()).await;
            if front.is_ok() && is_due() {
                return self.take(class, None, 0).await;
            }
        }
        Err(PermitError::DeadlineExceeded { wait: queue.wait() })
    }

    /// A permit, waited for in the order of arrival until `deadline` at most. Gives up at once when the store says that
    /// the wait is longer than that.
    ///
    /// # Errors
    /// As [`RateLimiter::try_permit`].
    pub async fn permit(&self, class: RateClass, deadline: Instant) -> Result<Permit, PermitError> {
        let (queue, arrived) = (self.queues.queue(class), Instant::now());
        if queue.due().is_some_and(|due| due >= deadline) {
            return Err(PermitError::DeadlineExceeded { wait: queue.wait() });
        }
        let Ok(_front) = timeout_at(deadline, queue.front.lock()).await else {
            return Err(PermitError::DeadlineExceeded { wait: queue.wait() });
        };
        for asked in 0.. {
            let waits = Waits {
                since: arrived.elapsed(),
                most: deadline.saturating_duration_since(Instant::now()),
            };
            let began = Instant::now();
            let taken = timeout_at(deadline, self.take(class, Some(waits), asked)).await;
            // A counter that was asked only just before the deadline is not silent.
            let silent = |_| match began.elapsed() < SILENT_AFTER {
                true => PermitError::DeadlineExceeded { wait: queue.wait() },
                false => PermitError::CounterUnreachable(StoreUnreachable::just_now(
                    "the limiter's counter did not answer in time",
                )),
            };
            match taken.map_err(silent)? {
                Err(PermitError::DeadlineExceeded { wait }) if Instant::now() + wait < deadline => sleep(wait).await,
                other => return other,
            }
        }
        Err(PermitError::DeadlineExceeded { wait: queue.wait() })
    }

    /// How long the store said that the next token is away; `None` if it said nothing of the kind.
    #[must_use]
    pub fn wait(&self, class: RateClass) -> Option<Duration> {
        let wait = self
            .queues
            .queue(class)
            .due()?
            .saturating_duration_since(Instant::now());
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// Gives an unused permit back.
    pub async fn give_back(&self, permit: Permit) {
        let Permit { class, probe, .. } = permit;
        self.queues.queue(class).set_due(None);
        // A token that cannot be given back is only a call less this second.
        let _ = (self.source)(RateLimitRequest::GiveBack { class, probe }).await;
    }

    /// Whether the breaker is open, as far as this process knows.
    #[must_use]
    pub fn breaker_open(&self) -> bool {
        [RateClass::Attach, RateClass::Describe]
            .into_iter()
            .any(|class| self.queues.breaker(class).is_open())
    }

    /// Whoever made the call of this permit says that ENS throttled it, and perhaps for how long.
    pub async fn throttled(&self, spent: &Permit, retry_after: Option<Duration>) {
        let jitter = (self.random)();
        let pause = self
            .queues
            .breaker(spent.class)
            .trip(Instant::now(), retry_after, jitter);
        if let Some(pause) = pause {
            for queue in self.queues.throttled_with(spent.class) {
                *queue.chunk() = None;
            }
            self.report(RateLimitRequest::Trip(spent.class, pause)).await;
        }
    }

    /// Whoever made the call of this permit says that it was answered, and not throttled.
    pub async fn passed(&self, spent: &Permit) {
        if self.queues.close(spent) {
            self.report(RateLimitRequest::Close(spent.class)).await;
        }
    }

    async fn report(&self, request: RateLimitRequest) {
        // A report that is lost costs time, not safety: the next throttled or successful call reports again.
        let answer = timeout(REPORT_TIMEOUT, (self.source)(request)).await;
        if let Ok(Err(why)) = answer {
            tracing::debug!(?request, %why, "the limiter's counter did not take a report");
        }
    }

    /// Asks the store for a token.
    async fn ask(&self, class: RateClass, waits: Option<Waits>) -> Result<RateLimitDecision, StoreUnreachable> {
        let mut question = Question {
            answer: Some((self.source)(RateLimitRequest::Take(class, waits))),
            limiter: self,
            class,
        };
        let answer = match &mut question.answer {
            Some(answer) => answer.await,
            None => return Err(StoreUnreachable::just_now("the limiter's counter was not asked")),
        };
        question.answer = None;
        answer
    }

    /// `asked`: how often the same waiter was told to wait before.
    async fn take(&self, class: RateClass, waits: Option<Waits>, asked: u32) -> Result<Permit, PermitError> {
        let queue = self.queues.queue(class);
        let granted = |taken: Instant, probe: bool| Permit { class, taken, probe };
        if queue.leased(Instant::now()) {
            return Ok(granted(Instant::now(), false));
        }
        let answer = self.ask(class, waits).await.map_err(PermitError::CounterUnreachable)?;
        let now = Instant::now();
        queue.set_due(None);
        match answer {
            RateLimitDecision::Granted => Ok(granted(now, false)),
            RateLimitDecision::Chunk(further) => {
                *queue.chunk() = Some((further, now + CHUNK_LIFE));
                Ok(granted(now, false))
            }
            RateLimitDecision::Probe => {
                self.queues.breaker(class).probe(now);
                Ok(granted(now, true))
            }
            RateLimitDecision::Wait(wait) => {
                // Replicas that were told the same wait do not all come back in the same moment; who lost before, comes sooner.
                let late = (self.random)() / 10.0 / f64::from(asked.saturating_add(1)).powi(2);
                let wait = wait.clamp(MIN_PAUSE, MAX_PAUSE).mul_f64(1.0 + late);
                queue.set_due(Some(now + wait));
                Err(PermitError::DeadlineExceeded { wait })
            }
        }
    }
}
