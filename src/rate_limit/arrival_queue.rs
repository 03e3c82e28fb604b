//! A queue in the order of arrival. A caller may have an earlier arrival than its call: that of a
//! caller whose place it took over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

/// The callers. One at a time is the first.
#[derive(Default)]
pub(super) struct ArrivalQueue {
    state: Mutex<State>,
}

/// A place in the queue: the arrival, and the order of simultaneous ones.
type Arrival = (Instant, u64);

#[derive(Default)]
struct State {
    /// Whether there is a first caller. Without one, none waits.
    has_first: bool,
    waiting: BTreeMap<Arrival, oneshot::Sender<First>>,
    last_waiter: u64,
}

/// The front of the queue, until it is dropped.
pub(super) struct First(Arc<ArrivalQueue>);

/// A waiting caller's entry, until it is dropped.
struct Waiter<'a> {
    queue: &'a ArrivalQueue,
    place: Arrival,
}

impl ArrivalQueue {
    /// Waits for the front, behind all that arrived before.
    pub(super) async fn first(self: &Arc<Self>, arrived: Instant) -> First {
        loop {
            let (_waiter, turn) = {
                let mut state = self.state();
                if !state.has_first {
                    state.has_first = true;
                    return First(self.clone());
                }
                state.last_waiter += 1;
                let (place, (sender, turn)) = ((arrived, state.last_waiter), oneshot::channel());
                state.waiting.insert(place, sender);
                (Waiter { queue: self, place }, turn)
            };
            if let Ok(first) = turn.await {
                return first;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No critical section leaves the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting.remove(&self.place);
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.state();
            let next = state.waiting.pop_first();
            state.has_first = next.is_some();
            next
        };
        if let Some((_, turn)) = next {
            // A caller that has just left passes it on.
            let _ = turn.send(Self(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_earlier_arrival_comes_first_and_a_caller_that_leaves_is_passed_over() {
        let (queue, start) = (Arc::new(ArrivalQueue::default()), Instant::now());
        let first = queue.first(start).await;
        let after = |seconds| Box::pin(queue.first(start + Duration::from_secs(seconds)));
        let (mut late, mut gone, mut early, mut same) = (after(3), after(2), after(1), after(3));
        for waiter in [&mut late, &mut gone, &mut early, &mut same] {
            assert!(poll!(waiter).is_pending());
        }
        drop(first);
        let early = early.await;
        drop(gone);
        drop(early);
        let late = late.await;
        assert!(poll!(&mut same).is_pending());
        drop(late);
        // It received the front and never learnt of it.
        drop(same);
        drop(queue.first(start).await);
    }
}
