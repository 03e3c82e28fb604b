//! The account's budget of calls, shared by all replicas through the ledger's counter. A [`Permit`] is the only way to a call.
//!
//! Within the process permits are handed out first come, first served: whoever is in front asks the counter, the others
//! queue behind, and nobody overtakes. Of each instance only the next in line asks for one (see `attach::line`), so that a crowd
//! at one instance takes turns with the others. Between replicas the counter keeps each token for the asker that has waited longest.
//! The breaker lives in the counter too; this side only reports to it, and reports a success only where
//! something has to be closed, so that an ordinary call costs one trip to the counter and no more.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use breaker::Breaker;

use crate::model::random;

mod breaker;
#[cfg(test)]
mod tests;

/// Shortest pause between two questions to the counter.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Longest wait that is believed: beyond it the counter is asked again anyway.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// How long the rest of a chunk is good for; what is not used by then is a call less in that moment.
const CHUNK_LIFE: Duration = Duration::from_millis(50);
/// A counter that takes longer than this to answer cannot be reached.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// Longest time that an answer of ENS is held up by a report to the counter.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a permit is for. Attach and describe have budgets of their own. Of the describes, attaches get three eighths at most and reads one
/// eighth, so that at least half are the tracker's, and reads take nothing from attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// One `AttachNetworkInterface`.
    Attach,
    /// A describe on behalf of an attach.
    Describe,
    /// A describe on behalf of a call that attaches nothing: Get, List, Watch, `validate_only`.
    Read,
    /// A describe of the tracker.
    Track,
    /// A describe that compares the ledger with ENS.
    Compare,
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
    /// Whether the breaker is open, and this call is its probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }

    /// What it is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }
}

/// How one waits for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// How long it has waited by now.
    pub since: Duration,
    /// How long it can wait from now on.
    pub most: Duration,
}

/// What is asked of the shared counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRequest {
    /// One token, if there is one now, and none who waits for it has waited for longer; `None`: the asker does not wait.
    Take(Purpose, Option<Waits>),
    /// A token that was not used.
    GiveBack {
        /// What it was for.
        purpose: Purpose,
        /// Whether it is the breaker's probe: the next one may be taken at once.
        probe: bool,
    },
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
    /// Yes, and so many more, for use at once.
    Chunk(u32),
    /// Yes, and the breaker is open: this call is its probe, whose success closes it.
    Probe,
    /// Not before this long.
    Wait(Duration),
}

/// The counter cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreachable {
    /// What happened, for people.
    pub why: String,
    /// How long it has been out of reach by now, as far as is known.
    pub down_for: Duration,
}

/// The counter's answer, to come.
type Answer = Pin<Box<dyn Future<Output = Result<TokenAnswer, Unreachable>> + Send>>;

/// The counter, however it is kept.
pub type TokenSource = Arc<dyn Fn(TokenRequest) -> Answer + Send + Sync>;

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
    read: Gate,
    track: Gate,
    compare: Gate,
    attaches: Mutex<Breaker>,
    /// Of all describes: ENS throttles them together.
    describes: Mutex<Breaker>,
    /// Questions whose askers have left.
    leaving: TaskTracker,
}

#[derive(Default)]
struct Gate {
    /// Held by whoever is in front. tokio's mutex is fair: its waiters are the queue.
    front: tokio::sync::Mutex<()>,
    /// When the counter said that the next token is due.
    due: Mutex<Option<Instant>>,
    /// What is left of a chunk, and until when it is good.
    chunk: Mutex<Option<(u32, Instant)>>,
}

impl Gate {
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

impl Gates {
    fn gate(&self, purpose: Purpose) -> &Gate {
        match purpose {
            Purpose::Attach => &self.attach,
            Purpose::Describe => &self.describe,
            Purpose::Read => &self.read,
            Purpose::Track => &self.track,
            Purpose::Compare => &self.compare,
        }
    }

    fn breaker(&self, purpose: Purpose) -> MutexGuard<'_, Breaker> {
        let breaker = match purpose {
            Purpose::Attach => &self.attaches,
            Purpose::Describe | Purpose::Read | Purpose::Track | Purpose::Compare => &self.describes,
        };
        breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those behind the same breaker.
    fn throttled_with(&self, purpose: Purpose) -> Vec<&Gate> {
        match purpose {
            Purpose::Attach => vec![&self.attach],
            Purpose::Describe | Purpose::Read | Purpose::Track | Purpose::Compare => {
                vec![&self.describe, &self.read, &self.track, &self.compare]
            }
        }
    }

    /// Whether the success of this call closes its breaker.
    fn close(&self, spent: &Permit) -> bool {
        let closes = self.breaker(spent.purpose).passed(spent.taken, spent.probe);
        if closes {
            self.throttled_with(spent.purpose)
                .iter()
                .for_each(|gate| gate.set_due(None));
        }
        closes
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// The budget was not reached by the deadline.
    #[error("the account's budget of ens calls was not reached in time")]
    DeadlineExceeded {
        /// When the next token is due, as far as is known.
        wait: Duration,
    },
    /// The counter cannot be reached.
    #[error(transparent)]
    CounterUnreachable(Unreachable),
}

impl Unreachable {
    fn just_now(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            down_for: Duration::ZERO,
        }
    }
}

/// A question to the counter. Where the asker leaves before its answer, a token that is granted all the same goes back: it may be the
/// breaker's only probe.
struct Question<'a> {
    answer: Option<Answer>,
    budget: &'a Budget,
    purpose: Purpose,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let (Some(answer), Ok(runtime)) = (self.answer.take(), Handle::try_current()) else {
            return;
        };
        let (source, purpose) = (self.budget.source.clone(), self.purpose);
        let give_back = async move {
            let probe = match answer.await {
                Err(_) | Ok(TokenAnswer::Wait(_)) => return,
                Ok(granted) => granted == TokenAnswer::Probe,
            };
            // As in `give_back`.
            let _ = source(TokenRequest::GiveBack { purpose, probe }).await;
        };
        self.budget
            .gates
            .leaving
            .spawn_on(give_back.in_current_span(), &runtime);
    }
}

impl Budget {
    /// A budget over this counter.
    #[must_use]
    pub fn new(source: TokenSource) -> Self {
        Self {
            source,
            random: Arc::new(random::fraction),
            gates: Arc::default(),
        }
    }

    /// With another source of jitter, so that a run can be repeated.
    #[must_use]
    pub fn with_random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// A permit, if there is one now and nobody waits for it. Does not ask the counter where that has said already when the next
    /// one is due.
    ///
    /// # Errors
    /// [`PermitError::DeadlineExceeded`] with the wait, or the counter cannot be reached.
    pub async fn try_permit(&self, purpose: Purpose) -> Result<Permit, PermitError> {
        let gate = self.gates.gate(purpose);
        let is_due = || gate.due().is_none_or(|due| due <= Instant::now());
        if is_due() {
            // Those who are being served, not those who wait.
            let front = timeout(MIN_PAUSE, gate.front.lock()).await;
            if front.is_ok() && is_due() {
                return self.take(purpose, None, 0).await;
            }
        }
        Err(PermitError::DeadlineExceeded { wait: gate.wait() })
    }

    /// A permit, waited for in the order of arrival until `deadline` at most. Gives up at once when the counter says that
    /// the wait is longer than that.
    ///
    /// # Errors
    /// As [`Budget::try_permit`].
    pub async fn permit(&self, purpose: Purpose, deadline: Instant) -> Result<Permit, PermitError> {
        let (gate, arrived) = (self.gates.gate(purpose), Instant::now());
        if gate.due().is_some_and(|due| due >= deadline) {
            return Err(PermitError::DeadlineExceeded { wait: gate.wait() });
        }
        let Ok(_front) = timeout_at(deadline, gate.front.lock()).await else {
            return Err(PermitError::DeadlineExceeded { wait: gate.wait() });
        };
        for asked in 0.. {
            let waits = Waits {
                since: arrived.elapsed(),
                most: deadline.saturating_duration_since(Instant::now()),
            };
            let began = Instant::now();
            let taken = timeout_at(deadline, self.take(purpose, Some(waits), asked)).await;
            // A counter that was asked only just before the deadline is not silent.
            let silent = |_| match began.elapsed() < SILENT_AFTER {
                true => PermitError::DeadlineExceeded { wait: gate.wait() },
                false => PermitError::CounterUnreachable(Unreachable::just_now(
                    "the budget's counter did not answer in time",
                )),
            };
            match taken.map_err(silent)? {
                Err(PermitError::DeadlineExceeded { wait }) if Instant::now() + wait < deadline => sleep(wait).await,
                other => return other,
            }
        }
        Err(PermitError::DeadlineExceeded { wait: gate.wait() })
    }

    /// How long the counter said that the next token is away; `None` if it said nothing of the kind.
    #[must_use]
    pub fn wait(&self, purpose: Purpose) -> Option<Duration> {
        let wait = self
            .gates
            .gate(purpose)
            .due()?
            .saturating_duration_since(Instant::now());
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// Gives an unused permit back.
    pub async fn give_back(&self, permit: Permit) {
        let Permit { purpose, probe, .. } = permit;
        self.gates.gate(purpose).set_due(None);
        // A token that cannot be given back is only a call less this second.
        let _ = (self.source)(TokenRequest::GiveBack { purpose, probe }).await;
    }

    /// Whether the breaker is open, as far as this process knows.
    #[must_use]
    pub fn breaker_open(&self) -> bool {
        [Purpose::Attach, Purpose::Describe]
            .into_iter()
            .any(|purpose| self.gates.breaker(purpose).is_open())
    }

    /// Whoever made the call of this permit says that ENS throttled it, and perhaps for how long.
    pub async fn throttled(&self, spent: &Permit, retry_after: Option<Duration>) {
        let jitter = (self.random)();
        let pause = self
            .gates
            .breaker(spent.purpose)
            .trip(Instant::now(), retry_after, jitter);
        if let Some(pause) = pause {
            for gate in self.gates.throttled_with(spent.purpose) {
                *gate.chunk() = None;
            }
            self.report(TokenRequest::Trip(spent.purpose, pause)).await;
        }
    }

    /// Whoever made the call of this permit says that it was answered, and not throttled.
    pub async fn passed(&self, spent: &Permit) {
        if self.gates.close(spent) {
            self.report(TokenRequest::Close(spent.purpose)).await;
        }
    }

    async fn report(&self, request: TokenRequest) {
        // A report that is lost costs time, not safety: the next throttled or successful call reports again.
        let answer = timeout(REPORT_TIMEOUT, (self.source)(request)).await;
        if let Ok(Err(why)) = answer {
            tracing::debug!(?request, %why, "the budget's counter did not take a report");
        }
    }

    /// Asks the counter for a token.
    async fn ask(&self, purpose: Purpose, waits: Option<Waits>) -> Result<TokenAnswer, Unreachable> {
        let mut question = Question {
            answer: Some((self.source)(TokenRequest::Take(purpose, waits))),
            budget: self,
            purpose,
        };
        let answer = match &mut question.answer {
            Some(answer) => answer.await,
            None => return Err(Unreachable::just_now("the budget's counter was not asked")),
        };
        question.answer = None;
        answer
    }

    /// `asked`: how often the same waiter was told to wait before.
    async fn take(&self, purpose: Purpose, waits: Option<Waits>, asked: u32) -> Result<Permit, PermitError> {
        let gate = self.gates.gate(purpose);
        let granted = |taken: Instant, probe: bool| Permit { purpose, taken, probe };
        if gate.leased(Instant::now()) {
            return Ok(granted(Instant::now(), false));
        }
        let answer = self
            .ask(purpose, waits)
            .await
            .map_err(PermitError::CounterUnreachable)?;
        let now = Instant::now();
        gate.set_due(None);
        match answer {
            TokenAnswer::Granted => Ok(granted(now, false)),
            TokenAnswer::Chunk(further) => {
                *gate.chunk() = Some((further, now + CHUNK_LIFE));
                Ok(granted(now, false))
            }
            TokenAnswer::Probe => {
                self.gates.breaker(purpose).probe(now);
                Ok(granted(now, true))
            }
            TokenAnswer::Wait(wait) => {
                // Replicas that were told the same wait do not all come back in the same moment; who lost before, comes sooner.
                let late = (self.random)() / 10.0 / f64::from(asked.saturating_add(1)).powi(2);
                let wait = wait.clamp(MIN_PAUSE, MAX_PAUSE).mul_f64(1.0 + late);
                gate.set_due(Some(now + wait));
                Err(PermitError::DeadlineExceeded { wait })
            }
        }
    }
}
