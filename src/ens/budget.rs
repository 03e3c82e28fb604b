//! The account's budget of calls, shared by all replicas through the ledger's counter. A [`Permit`] is the only way to a call.
//!
//! Within the process permits are handed out first come, first served: whoever is in front asks the counter, the others
//! queue behind. The breaker lives in the counter too; this side only reports to it, and reports a success only where
//! something has to be closed, so that an ordinary call costs one trip to the counter and no more.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Shortest pause between two questions to the counter.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Longest time that an answer of ENS is held up by a report to the counter.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// First pause after throttling without `x-acs-retry-after`; doubles with every further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest such pause.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What a permit is for. Attach and describe have budgets of their own; at least half of the describes are the tracker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// One `AttachNetworkInterface`.
    Attach,
    /// A describe on behalf of a caller.
    Describe,
    /// A describe of the tracker.
    Track,
}

impl Purpose {
    /// Those that ENS throttles together: they call the same API.
    const fn throttled_with(self) -> &'static [Self] {
        match self {
            Self::Attach => &[Self::Attach],
            Self::Describe | Self::Track => &[Self::Describe, Self::Track],
        }
    }
}

/// The right to one call of ENS. One that is dropped unused is a call less in that moment and nothing worse: buckets refill,
/// and a breaker's probe expires. To return it at once, use [`Budget::give_back`].
#[derive(Debug)]
#[must_use = "an unused permit is given back with `Budget::give_back`"]
pub struct Permit {
    purpose: Purpose,
    taken: Instant,
    probe: bool,
}

impl Permit {
    /// What it is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }
}

/// What is asked of the shared counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRequest {
    /// One token, if there is one now.
    Take(Purpose),
    /// A token that was not used.
    GiveBack(Purpose),
    /// ENS throttled a call: stop everybody for this long, then let one probe through at a time.
    Trip(Purpose, Duration),
    /// A call went through: the breaker closes.
    Close(Purpose),
}

/// The counter's answer to a [`TokenRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAnswer {
    /// Yes.
    Granted,
    /// Yes, and the breaker is open: this call is its probe, whose success closes it.
    Probe,
    /// Not before this long.
    Wait(Duration),
}

/// The counter, however it is kept. The error is text for people: the counter cannot be reached.
pub type TokenSource =
    Arc<dyn Fn(TokenRequest) -> Pin<Box<dyn Future<Output = Result<TokenAnswer, String>> + Send>> + Send + Sync>;

/// A number in `0.0..1.0`, for jitter.
pub type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Hands out permits.
#[derive(Clone)]
pub struct Budget {
    source: TokenSource,
    random: Random,
    gates: Arc<Gates>,
}

#[derive(Default)]
struct Gates {
    attach: Gate,
    describe: Gate,
    track: Gate,
}

#[derive(Default)]
struct Gate {
    /// Held by whoever is in front. tokio's mutex is fair: its waiters are the queue.
    front: tokio::sync::Mutex<()>,
    state: Mutex<GateState>,
}

#[derive(Default)]
struct GateState {
    /// When the counter said that the next token is due.
    due: Option<Instant>,
    /// Since when the breaker is known to be open.
    tripped: Option<Instant>,
    /// Until when everybody stops, as far as this process knows.
    stopped_until: Option<Instant>,
    /// How often it was tripped in a row.
    trips: u32,
}

impl Gate {
    fn state(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> Duration {
        let due = self.state().due;
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
            .max(MIN_PAUSE)
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// The budget was not reached by the deadline.
    #[error("the account's budget of ens calls was not reached in time")]
    Late {
        /// When the next token is due, as far as is known.
        wait: Duration,
    },
    /// The counter cannot be reached.
    #[error("{0}")]
    CounterUnreachable(String),
}

impl Budget {
    /// A budget over this counter.
    #[must_use]
    pub fn new(source: TokenSource) -> Self {
        Self {
            source,
            random: Arc::new(rand::random),
            gates: Arc::default(),
        }
    }

    /// With another source of jitter, so that a run can be repeated.
    #[must_use]
    pub fn with_random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// A permit, if there is one now and nobody queues for one.
    ///
    /// # Errors
    /// [`NoPermit::Late`] with the wait, or the counter cannot be reached.
    pub async fn try_permit(&self, purpose: Purpose) -> Result<Permit, NoPermit> {
        let gate = self.gate(purpose);
        let Ok(_front) = gate.front.try_lock() else {
            return Err(NoPermit::Late { wait: gate.wait() });
        };
        self.take(purpose).await
    }

    /// A permit, waited for in the order of arrival until `deadline` at most. Gives up at once when the counter says that
    /// the wait is longer than that.
    ///
    /// # Errors
    /// As [`Budget::try_permit`].
    pub async fn permit(&self, purpose: Purpose, deadline: Instant) -> Result<Permit, NoPermit> {
        let gate = self.gate(purpose);
        if gate.state().due.is_some_and(|due| due >= deadline) {
            return Err(NoPermit::Late { wait: gate.wait() });
        }
        let Ok(_front) = timeout_at(deadline, gate.front.lock()).await else {
            return Err(NoPermit::Late { wait: gate.wait() });
        };
        loop {
            let taken = timeout_at(deadline, self.take(purpose)).await;
            match taken
                .map_err(|_| NoPermit::CounterUnreachable("the budget's counter did not answer in time".into()))?
            {
                Err(NoPermit::Late { wait }) if Instant::now() + wait < deadline => sleep(wait).await,
                other => return other,
            }
        }
    }

    /// Gives an unused permit back.
    pub async fn give_back(&self, permit: Permit) {
        // A token that cannot be given back is only a call less this second.
        let _ = (self.source)(TokenRequest::GiveBack(permit.purpose)).await;
    }

    /// Whether the breaker is open, as far as this process knows.
    #[must_use]
    pub fn breaker_open(&self) -> bool {
        [Purpose::Attach, Purpose::Describe, Purpose::Track]
            .into_iter()
            .any(|purpose| self.gate(purpose).state().tripped.is_some())
    }

    /// The call of this permit was throttled.
    pub(super) async fn throttled(&self, spent: &Permit, retry_after: Option<Duration>) {
        for &purpose in spent.purpose.throttled_with() {
            if let Some(pause) = self.trip(purpose, retry_after) {
                self.report(TokenRequest::Trip(purpose, pause)).await;
            }
        }
    }

    /// The call of this permit was answered, and not throttled.
    pub(super) async fn passed(&self, spent: &Permit) {
        for &purpose in spent.purpose.throttled_with() {
            let closes = {
                let mut state = self.gate(purpose).state();
                // A call that began before the breaker opened proves nothing about it.
                let closes = state
                    .tripped
                    .is_some_and(|tripped| spent.probe || spent.taken > tripped);
                if closes {
                    *state = GateState::default();
                }
                closes
            };
            if closes {
                self.report(TokenRequest::Close(purpose)).await;
            }
        }
    }

    /// Opens the breaker here; how long everybody is to stop, unless a longer stop is under way.
    fn trip(&self, purpose: Purpose, retry_after: Option<Duration>) -> Option<Duration> {
        let now = Instant::now();
        let jitter = (self.random)();
        let mut state = self.gate(purpose).state();
        let stopped = state.stopped_until.filter(|until| *until > now);
        if stopped.is_some() && retry_after.is_none() {
            // Another call of the same burst said so already.
            return None;
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << state.trips.min(5)).min(MAX_BACKOFF);
        let pause = retry_after.unwrap_or_else(|| backoff.mul_f64(1.0 + jitter / 4.0));
        if stopped.is_some_and(|until| until >= now + pause) {
            return None;
        }
        if stopped.is_none() {
            state.trips = state.trips.saturating_add(1);
        }
        state.tripped = Some(now);
        state.stopped_until = Some(now + pause);
        Some(pause)
    }

    async fn report(&self, request: TokenRequest) {
        // A report that is lost costs time, not safety: the next throttled or successful call reports again.
        let answer = timeout(REPORT_TIMEOUT, (self.source)(request)).await;
        if let Ok(Err(why)) = answer {
            tracing::debug!(?request, why, "the budget's counter did not take a report");
        }
    }

    async fn take(&self, purpose: Purpose) -> Result<Permit, NoPermit> {
        let answer = (self.source)(TokenRequest::Take(purpose))
            .await
            .map_err(NoPermit::CounterUnreachable)?;
        let now = Instant::now();
        let mut state = self.gate(purpose).state();
        state.due = None;
        match answer {
            TokenAnswer::Granted => Ok(Permit {
                purpose,
                taken: now,
                probe: false,
            }),
            TokenAnswer::Probe => {
                state.tripped.get_or_insert(now);
                Ok(Permit {
                    purpose,
                    taken: now,
                    probe: true,
                })
            }
            TokenAnswer::Wait(wait) => {
                // Replicas that were told the same wait do not all come back in the same moment.
                let wait = wait.max(MIN_PAUSE).mul_f64(1.0 + (self.random)() / 10.0);
                state.due = Some(now + wait);
                Err(NoPermit::Late { wait })
            }
        }
    }

    fn gate(&self, purpose: Purpose) -> &Gate {
        match purpose {
            Purpose::Attach => &self.gates.attach,
            Purpose::Describe => &self.gates.describe,
            Purpose::Track => &self.gates.track,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A counter that answers from a list, then always yes, and writes down what it was asked.
    #[derive(Clone, Default)]
    struct Counter {
        answers: Arc<Mutex<VecDeque<TokenAnswer>>>,
        asked: Arc<Mutex<Vec<TokenRequest>>>,
    }

    impl Counter {
        fn answering(answers: impl IntoIterator<Item = TokenAnswer>) -> Self {
            let counter = Self::default();
            counter.answers.lock().unwrap().extend(answers);
            counter
        }

        fn budget(&self) -> Budget {
            let counter = self.clone();
            let source: TokenSource = Arc::new(move |request| {
                counter.asked.lock().unwrap().push(request);
                let answer = match request {
                    TokenRequest::Take(_) => counter.answers.lock().unwrap().pop_front(),
                    _ => None,
                };
                Box::pin(async move { Ok(answer.unwrap_or(TokenAnswer::Granted)) })
            });
            Budget::new(source).with_random(Arc::new(|| 0.0))
        }

        fn reports(&self) -> Vec<TokenRequest> {
            let asked = std::mem::take(&mut *self.asked.lock().unwrap());
            asked
                .into_iter()
                .filter(|request| !matches!(request, TokenRequest::Take(_)))
                .collect()
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_is_waited_for_until_the_deadline_and_not_longer() {
        let counter = Counter::answering([
            TokenAnswer::Wait(seconds(2)),
            TokenAnswer::Granted,
            TokenAnswer::Wait(seconds(9)),
        ]);
        let (budget, start) = (counter.budget(), Instant::now());
        let _ = budget
            .permit(Purpose::Attach, start + seconds(5))
            .await
            .expect("a permit after 2 s");
        assert_eq!(start.elapsed(), seconds(2));
        let late = budget.permit(Purpose::Attach, start + seconds(5)).await;
        assert_eq!(late.unwrap_err(), NoPermit::Late { wait: seconds(9) });
        assert_eq!(start.elapsed(), seconds(2), "it gives up at once");
        let known = budget.permit(Purpose::Attach, start + seconds(5)).await;
        assert_eq!(
            known.unwrap_err(),
            NoPermit::Late { wait: seconds(9) },
            "without asking again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn permits_come_in_the_order_of_arrival_and_nobody_overtakes() {
        let counter = Counter::answering([TokenAnswer::Wait(seconds(1))]);
        let (budget, order, deadline) = (counter.budget(), Mutex::new(Vec::new()), Instant::now() + seconds(60));
        let caller = |name: &'static str| {
            let (budget, order) = (&budget, &order);
            async move {
                let _permit = budget.permit(Purpose::Attach, deadline).await.expect("a permit");
                order.lock().unwrap().push(name);
            }
        };
        let in_haste = async {
            tokio::task::yield_now().await;
            budget.try_permit(Purpose::Attach).await
        };
        let (.., hasty) = tokio::join!(biased; caller("first"), caller("second"), caller("third"), in_haste);
        assert_eq!(*order.lock().unwrap(), ["first", "second", "third"]);
        assert_eq!(hasty.unwrap_err(), NoPermit::Late { wait: seconds(1) });
        let _ = budget
            .try_permit(Purpose::Describe)
            .await
            .expect("another purpose has its own queue");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_behind_others_gives_up_at_its_deadline() {
        let counter = Counter::answering([TokenAnswer::Wait(seconds(3))]);
        let (budget, start) = (counter.budget(), Instant::now());
        let (first, second) = tokio::join!(
            biased;
            budget.permit(Purpose::Attach, start + seconds(60)),
            budget.permit(Purpose::Attach, start + seconds(1)),
        );
        let _ = first.expect("a permit");
        assert_eq!(second.unwrap_err(), NoPermit::Late { wait: seconds(3) });
    }

    #[tokio::test(start_paused = true)]
    async fn a_successful_call_reports_nothing_unless_the_breaker_is_open() {
        let counter = Counter::default();
        let budget = counter.budget();
        let permit = budget.try_permit(Purpose::Attach).await.expect("a permit");
        budget.passed(&permit).await;
        assert_eq!(counter.reports(), []);

        budget.throttled(&permit, Some(seconds(7))).await;
        assert_eq!(counter.reports(), [TokenRequest::Trip(Purpose::Attach, seconds(7))]);
        assert!(budget.breaker_open());

        tokio::time::advance(seconds(7)).await;
        budget.passed(&permit).await;
        assert_eq!(counter.reports(), [], "that call began before the breaker opened");
        let probe = budget.try_permit(Purpose::Attach).await.expect("a permit");
        budget.passed(&probe).await;
        budget.passed(&probe).await;
        assert_eq!(counter.reports(), [TokenRequest::Close(Purpose::Attach)]);
        assert!(!budget.breaker_open());
    }

    #[tokio::test(start_paused = true)]
    async fn the_probe_closes_what_another_replica_opened() {
        let counter = Counter::answering([TokenAnswer::Probe]);
        let budget = counter.budget();
        let probe = budget.try_permit(Purpose::Attach).await.expect("a permit");
        assert!(budget.breaker_open());
        budget.passed(&probe).await;
        assert_eq!(counter.reports(), [TokenRequest::Close(Purpose::Attach)]);
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_without_a_time_backs_off_once_per_burst_and_longer_each_time() {
        let counter = Counter::default();
        let budget = counter.budget();
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let permit = budget.try_permit(Purpose::Attach).await.expect("a permit");
            budget.throttled(&permit, None).await;
            budget.throttled(&permit, None).await;
            assert_eq!(
                counter.reports(),
                [TokenRequest::Trip(Purpose::Attach, seconds(expected))]
            );
            tokio::time::advance(seconds(expected)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn both_kinds_of_describe_stop_together() {
        let counter = Counter::default();
        let budget = counter.budget();
        let permit = budget.try_permit(Purpose::Track).await.expect("a permit");
        budget.throttled(&permit, Some(seconds(1))).await;
        let both = [Purpose::Describe, Purpose::Track];
        assert_eq!(
            counter.reports(),
            both.map(|purpose| TokenRequest::Trip(purpose, seconds(1)))
        );
        tokio::time::advance(seconds(1)).await;
        let permit = budget.try_permit(Purpose::Describe).await.expect("a permit");
        budget.passed(&permit).await;
        assert_eq!(counter.reports(), both.map(TokenRequest::Close));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_permit_goes_back() {
        let counter = Counter::default();
        let budget = counter.budget();
        let permit = budget.try_permit(Purpose::Describe).await.expect("a permit");
        budget.give_back(permit).await;
        assert_eq!(counter.reports(), [TokenRequest::GiveBack(Purpose::Describe)]);
    }
}
