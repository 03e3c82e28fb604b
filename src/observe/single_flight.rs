//! Shared observations: concurrent callers of the same key join one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::rate_limit::{Permit, PermitError};

use super::ObserveError;

/// The result to come.
type ResultReceiver<T> = oneshot::Receiver<Result<T, ObserveError>>;

/// The running observations, by key. Clones share them.
pub(crate) struct SingleFlight<K, T>(Arc<Mutex<BTreeMap<K, WeakShared<ResultReceiver<T>>>>>);

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Ord + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the running observation of `key`, or starts one on `tasks`. It waits for its permit
    /// only while a caller waits for its result. Once it has the permit it no longer needs callers.
    pub(crate) fn join<F>(
        &self,
        key: &K,
        tasks: &TaskTracker,
        permit: impl Future<Output = Result<Permit, PermitError>> + Send + 'static,
        observe: impl FnOnce(Permit) -> F + Send + 'static,
    ) -> Joined<T>
    where
        F: Future<Output = Result<T, ObserveError>> + Send + 'static,
    {
        let mut flights = self.lock();
        if let Some(answer) = flights.get(key).and_then(WeakShared::upgrade) {
            return Joined(answer);
        }
        flights.retain(|_, answer| answer.upgrade().is_some());
        let (sender, answer) = oneshot::channel();
        let answer = answer.shared();
        flights.extend(answer.downgrade().map(|weak| (key.clone(), weak)));
        let flight = self.clone().fly(key.clone(), sender, permit, observe);
        tasks.spawn(flight.in_current_span());
        Joined(answer)
    }

    async fn fly<F>(
        self,
        key: K,
        mut answer: oneshot::Sender<Result<T, ObserveError>>,
        permit: impl Future<Output = Result<Permit, PermitError>>,
        observe: impl FnOnce(Permit) -> F,
    ) where
        F: Future<Output = Result<T, ObserveError>>,
    {
        let permit = tokio::select! {
            biased;
            permit = permit => permit,
            () = answer.closed() => return,
        };
        // From here on callers may join it although the others have left.
        let _joinable = self.lock().get(&key).and_then(WeakShared::upgrade);
        let result = match permit {
            Ok(permit) => observe(permit).await,
            Err(missing) => Err(missing.into()),
        };
        // Later callers start a new one.
        self.lock().remove(&key);
        let _ = answer.send(result);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, WeakShared<ResultReceiver<T>>>> {
        // No critical section leaves the map inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's share of an observation.
pub(crate) struct Joined<T: Clone>(Shared<ResultReceiver<T>>);

impl<T: Clone> Joined<T> {
    /// The result.
    pub(crate) async fn result(self) -> Result<T, ObserveError> {
        // A missing answer means a panic, which was logged.
        let lost = |_| Err(ObserveError::unanswered("its answer was lost"));
        self.0.await.unwrap_or_else(lost)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::rate_limit::{RateClass, RateLimitDecision, RateLimitRequest, RateLimiter};

    const PERMIT: Duration = Duration::from_secs(1);
    const DESCRIBE: Duration = Duration::from_secs(1);

    /// Observations that count how many were made.
    #[derive(Clone, Default)]
    struct Observations {
        flights: SingleFlight<u8, u32>,
        tasks: TaskTracker,
        made: Arc<AtomicU32>,
    }

    impl Observations {
        /// An observation whose permit takes a second, and whose describe takes another one.
        fn join(&self) -> Joined<u32> {
            let made = self.made.clone();
            let permit = async {
                sleep(PERMIT).await;
                let granted =
                    |_: RateLimitRequest| async { Ok(RateLimitDecision::Granted) }.boxed();
                RateLimiter::new(Arc::new(granted))
                    .permit(RateClass::Read, Instant::now() + PERMIT)
                    .await
            };
            self.flights.join(&0, &self.tasks, permit, async move |_permit| {
                let number = made.fetch_add(1, Ordering::Relaxed);
                sleep(DESCRIBE).await;
                Ok(number)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_an_observation_and_a_later_one_begins_another() {
        let observations = Observations::default();
        let (first, second) = (observations.join(), observations.join());
        assert_eq!((first.result().await, second.result().await), (Ok(0), Ok(0)));
        assert_eq!(observations.join().result().await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_callers_until_it_has_a_permit() {
        let observations = Observations::default();
        assert!(timeout(PERMIT / 2, observations.join().result()).await.is_err());
        sleep(2 * PERMIT + DESCRIBE).await;
        assert_eq!(observations.made.load(Ordering::Relaxed), 0, "no caller waited for it");

        assert!(timeout(PERMIT + DESCRIBE / 2, observations.join().result()).await.is_err());
        assert_eq!(
            observations.join().result().await,
            Ok(0),
            "it is joined although the first caller left"
        );
        assert_eq!(observations.made.load(Ordering::Relaxed), 1);
    }
}
