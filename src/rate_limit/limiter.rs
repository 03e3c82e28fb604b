//! The rate limiter of this process: permits in the order of arrival. Every call of ENS needs a
//! [`Permit`].
//!
//! Of each class's queue only the first caller sends requests to the store. Of each instance only
//! the first attach takes part, so that busy instances take turns with others. Across replicas the
//! store keeps each token for the longest-waiting request. The breaker is in the store too. The
//! limiter reports throttled calls, and only those successes that close the breaker. So a call
//! usually costs one store request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::Instrument;

use crate::model::{Outage, random};

use super::class_queues::{ClassQueues, MIN_PAUSE};
use super::permit::{Permit, PermitError};
use super::{RateClass, RateLimitDecision, RateLimitRequest, RateLimitStore, Waits};

#[cfg(test)]
mod tests;

/// Maximum wait that is accepted; then the next request follows.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Lifetime of a chunk; unused tokens of it are lost.
const CHUNK_LIFE: Duration = Duration::from_millis(50);
/// Time without an answer after which the store counts as unreachable.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// Maximum delay of ENS's answer by a report to the store.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The store's future decision.
type DecisionFuture = Pin<Box<dyn Future<Output = Result<RateLimitDecision, Outage>> + Send>>;

/// The store as a function; see [`RateLimiter::over`].
pub type StoreFunction = Arc<dyn Fn(RateLimitRequest) -> DecisionFuture + Send + Sync>;

/// A number in `0.0..1.0`, for jitter.
pub type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Hands out permits. Clones share the queues.
#[derive(Clone)]
pub struct RateLimiter {
    source: StoreFunction,
    random: Random,
    queues: Arc<ClassQueues>,
}

/// A request to the store. If the caller leaves before the answer, a granted token is returned,
/// because it may be the breaker's only probe.
struct PendingRequest<'a> {
    answer: Option<DecisionFuture>,
    limiter: &'a RateLimiter,
    class: RateClass,
}

impl Drop for PendingRequest<'_> {
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
        self.limiter.spawn_on(give_back.in_current_span(), &runtime);
    }
}

impl RateLimiter {
    /// A limiter over this store function.
    #[must_use]
    pub fn new(source: StoreFunction) -> Self {
        Self { source, random: Arc::new(random::fraction), queues: Arc::default() }
    }

    /// A limiter over this store.
    #[must_use]
    pub fn over<S: RateLimitStore>(store: Arc<S>) -> Self {
        Self::new(Arc::new(move |request| {
            let store = store.clone();
            Box::pin(async move { store.take(request).await })
        }))
    }

    /// The limiter with another source of jitter, for repeatable runs.
    #[must_use]
    pub fn with_random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// A permit, if one is available and no caller waits. Sends no request while the store's last
    /// answer names a later time.
    ///
    /// # Errors
    /// [`PermitError::DeadlineExceeded`] with the wait, or the store is unreachable.
    pub async fn try_permit(&self, class: RateClass) -> Result<Permit, PermitError> {
        let queue = self.queues.queue(class);
        let is_due = || queue.due().is_none_or(|due| due <= Instant::now());
        if is_due() {
            // It waits for callers being served, not for waiting ones.
            let front = timeout(MIN_PAUSE, queue.callers.first(Instant::now())).await;
            if front.is_ok() && is_due() {
                return self.take(class, None, 0).await;
            }
        }
        Err(PermitError::DeadlineExceeded { wait: queue.wait() })
    }

    /// Whether permits are at hand without a request to the store: the rest of a chunk.
    #[must_use]
    pub fn has_chunk(&self, class: RateClass) -> bool {
        let chunk = *self.queues.queue(class).chunk();
        chunk.is_some_and(|(left, until)| left > 0 && until > Instant::now())
    }

    /// Waits for a permit in the order of arrival, until `deadline`. Fails at once if the store
    /// announces a longer wait.
    ///
    /// # Errors
    /// As [`RateLimiter::try_permit`].
    pub async fn permit(&self, class: RateClass, deadline: Instant) -> Result<Permit, PermitError> {
        self.permit_since(class, Instant::now(), deadline).await
    }

    /// As [`RateLimiter::permit`], in the place of a caller that arrived at `arrived` and left.
    ///
    /// # Errors
    /// As [`RateLimiter::try_permit`].
    pub async fn permit_since(
        &self,
        class: RateClass,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Permit, PermitError> {
        let queue = self.queues.queue(class);
        if queue.due().is_some_and(|due| due >= deadline) {
            return Err(PermitError::DeadlineExceeded { wait: queue.wait() });
        }
        let Ok(_first) = timeout_at(deadline, queue.callers.first(arrived)).await else {
            return Err(PermitError::DeadlineExceeded { wait: queue.wait() });
        };
        for earlier_waits in 0.. {
            let waits = Waits {
                since: arrived.elapsed(),
                most: deadline.saturating_duration_since(Instant::now()),
            };
            let began = Instant::now();
            let taken = timeout_at(deadline, self.take(class, Some(waits), earlier_waits)).await;
            // A request just before the deadline does not count the store as unreachable.
            let silent = |_| {
                if began.elapsed() < SILENT_AFTER {
                    PermitError::DeadlineExceeded { wait: queue.wait() }
                } else {
                    let why = "the store of the account's budget did not answer in time";
                    PermitError::CounterUnreachable(Outage::just_now(why))
                }
            };
            match taken.map_err(silent)? {
                Err(PermitError::DeadlineExceeded { wait }) if Instant::now() + wait < deadline => {
                    sleep(wait).await
                }
                other => return other,
            }
        }
        Err(PermitError::DeadlineExceeded { wait: queue.wait() })
    }

    /// Time until the next token, if the store announced one.
    #[must_use]
    pub fn wait(&self, class: RateClass) -> Option<Duration> {
        let wait = self.queues.queue(class).due()?.saturating_duration_since(Instant::now());
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// Returns an unused permit: to this process's chunk while it lasts, or else to the store.
    pub async fn give_back(&self, permit: Permit) {
        if self.return_to_chunk(&permit) {
            return;
        }
        let Permit { class, probe, further, .. } = permit;
        for _ in 0..=further {
            // A token that cannot be returned is only lost.
            let _ = (self.source)(RateLimitRequest::GiveBack { class, probe }).await;
        }
    }

    /// Returns an unused permit to this process's chunk. False if the chunk has expired: the permit
    /// is then still to be returned to the store.
    pub(super) fn return_to_chunk(&self, permit: &Permit) -> bool {
        let queue = self.queues.queue(permit.class);
        queue.set_due(None);
        !permit.probe && queue.extend_chunk(permit.further + 1, Instant::now())
    }

    /// Whether the breaker is open, as far as this process knows.
    #[must_use]
    pub fn breaker_open(&self) -> bool {
        [RateClass::Attach, RateClass::Describe]
            .into_iter()
            .any(|class| self.queues.breaker(class).is_open())
    }

    /// Reports that ENS throttled the permit's call, perhaps with a time.
    pub async fn record_throttled(&self, spent: &Permit, retry_after: Option<Duration>) {
        let jitter = (self.random)();
        let pause = self.queues.breaker(spent.class).trip(Instant::now(), retry_after, jitter);
        if let Some(pause) = pause {
            for queue in self.queues.throttled_with(spent.class) {
                *queue.chunk() = None;
            }
            self.report(RateLimitRequest::Trip(spent.class, pause)).await;
        }
    }

    /// Reports that ENS answered the permit's call without throttling.
    pub async fn record_passed(&self, spent: &Permit) {
        if self.queues.close(spent) {
            self.report(RateLimitRequest::Close(spent.class)).await;
        }
    }

    /// Runs work that outlives its caller.
    pub(super) fn spawn_on(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
        runtime: &Handle,
    ) {
        self.queues.leaving.spawn_on(work, runtime);
    }

    async fn report(&self, request: RateLimitRequest) {
        // A lost report costs time, not safety: the next call reports again.
        let answer = timeout(REPORT_TIMEOUT, (self.source)(request)).await;
        if let Ok(Err(why)) = answer {
            tracing::debug!(?request, %why, "the store of the account's budget did not accept a report");
        }
    }

    /// Requests a token from the store.
    async fn request(
        &self,
        class: RateClass,
        waits: Option<Waits>,
    ) -> Result<RateLimitDecision, Outage> {
        let mut pending = PendingRequest {
            answer: Some((self.source)(RateLimitRequest::Take(class, waits))),
            limiter: self,
            class,
        };
        let answer = match &mut pending.answer {
            Some(answer) => answer.await,
            None => {
                return Err(Outage::just_now("no request to the store of the account's budget"));
            }
        };
        pending.answer = None;
        answer
    }

    /// Requests a token. `earlier_waits` counts the waits that this caller has received before.
    async fn take(
        &self,
        class: RateClass,
        waits: Option<Waits>,
        earlier_waits: u32,
    ) -> Result<Permit, PermitError> {
        let queue = self.queues.queue(class);
        let granted = |taken: Instant, probe: bool| Permit { class, taken, probe, further: 0 };
        if queue.leased(Instant::now()) {
            return Ok(granted(Instant::now(), false));
        }
        let answer = self.request(class, waits).await.map_err(PermitError::CounterUnreachable)?;
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
                // Spreads replicas that received the same wait. A caller that lost before comes
                // sooner.
                let late =
                    (self.random)() / 10.0 / f64::from(earlier_waits.saturating_add(1)).powi(2);
                let wait = wait.clamp(MIN_PAUSE, MAX_PAUSE).mul_f64(1.0 + late);
                queue.set_due(Some(now + wait));
                Err(PermitError::DeadlineExceeded { wait })
            }
        }
    }
}
