//! The queues of the callers in this process, one for each class, and what the store last answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::RateClass;
use super::arrival_queue::ArrivalQueue;
use super::breaker::Breaker;
use super::permit::Permit;

/// Minimum pause between two requests to the store.
pub(super) const MIN_PAUSE: Duration = Duration::from_millis(10);

/// The queues of all classes, and the breakers.
#[derive(Default)]
pub(super) struct ClassQueues {
    attach: ClassQueue,
    describe: ClassQueue,
    read: ClassQueue,
    track: ClassQueue,
    reconcile: ClassQueue,
    attaches: Mutex<Breaker>,
    /// Shared by all describes: ENS throttles them together.
    describes: Mutex<Breaker>,
    /// Requests whose callers have left.
    pub(super) leaving: TaskTracker,
}

/// The callers of one class that wait for a permit.
#[derive(Default)]
pub(super) struct ClassQueue {
    /// The waiting callers. The first one sends requests to the store.
    pub(super) callers: Arc<ArrivalQueue>,
    /// When the next token is due, by the store's last answer.
    due: Mutex<Option<Instant>>,
    /// The rest of a chunk, and its expiry.
    chunk: Mutex<Option<(u32, Instant)>>,
}

impl ClassQueue {
    pub(super) fn chunk(&self) -> MutexGuard<'_, Option<(u32, Instant)>> {
        self.chunk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token from the chunk, if any is left.
    pub(super) fn leased(&self, now: Instant) -> bool {
        let mut chunk = self.chunk();
        *chunk = chunk
            .filter(|(left, until)| *left > 0 && *until > now)
            .map(|(left, until)| (left - 1, until));
        chunk.is_some()
    }

    /// Adds unused tokens to the chunk. Returns whether there is one that has not expired.
    pub(super) fn extend_chunk(&self, unused: u32, now: Instant) -> bool {
        match &mut *self.chunk() {
            Some((left, until)) if *until > now => {
                *left = left.saturating_add(unused);
                true
            }
            _ => false,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_due(&self, due: Option<Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    pub(super) fn wait(&self) -> Duration {
        self.due()
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
            .max(MIN_PAUSE)
    }
}

impl ClassQueues {
    pub(super) fn queue(&self, class: RateClass) -> &ClassQueue {
        match class {
            RateClass::Attach => &self.attach,
            RateClass::Describe => &self.describe,
            RateClass::Read => &self.read,
            RateClass::Track => &self.track,
            RateClass::Reconcile => &self.reconcile,
        }
    }

    pub(super) fn breaker(&self, class: RateClass) -> MutexGuard<'_, Breaker> {
        let breaker = match class {
            RateClass::Attach => &self.attaches,
            RateClass::Describe | RateClass::Read | RateClass::Track | RateClass::Reconcile => {
                &self.describes
            }
        };
        breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues behind the same breaker.
    pub(super) fn throttled_with(&self, class: RateClass) -> Vec<&ClassQueue> {
        match class {
            RateClass::Attach => vec![&self.attach],
            RateClass::Describe | RateClass::Read | RateClass::Track | RateClass::Reconcile => {
                vec![&self.describe, &self.read, &self.track, &self.reconcile]
            }
        }
    }

    /// Whether the success of this call closes its breaker.
    pub(super) fn close(&self, spent: &Permit) -> bool {
        let closes = self.breaker(spent.class).record_passed(spent.taken, spent.probe);
        if closes {
            self.throttled_with(spent.class).iter().for_each(|queue| queue.set_due(None));
        }
        closes
    }
}
