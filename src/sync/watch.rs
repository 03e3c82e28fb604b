//! A watch channel: the latest value, and a wait for a condition.
//!
//! Unlike `tokio::sync::watch`, it wakes waiters in the order in which they began to wait. tokio's
//! order is random, so a simulated run could not be repeated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    latest: Mutex<T>,
    changed: Notify,
    closed: AtomicBool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        // Senders replace whole parts of the value.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending half. Its drop leaves the last value in place and ends every wait.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// A receiving half.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

/// The sender is gone, and the last value is not a wanted one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct Closed;

/// A channel that holds `first`.
pub fn channel<T>(first: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        latest: Mutex::new(first),
        changed: Notify::new(),
        closed: AtomicBool::new(false),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Another receiving half.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver(self.0.clone())
    }

    /// The latest value. The channel is locked while the guard lives.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }

    /// Changes the value and wakes every waiter.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value, and wakes every waiter if `change` returns true.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let modified = change(&mut self.0.lock());
        if modified {
            self.0.changed.notify_waiters();
        }
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        channel(T::default()).0
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// The latest value. The channel is locked while the guard lives.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits until the latest value satisfies `wanted`, and returns it. Safe to cancel.
    ///
    /// # Errors
    /// [`Closed`]: the sender is gone.
    pub async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> Result<T, Closed> {
        loop {
            // It begins before the check, so that no change in between is missed.
            let changed = self.0.changed.notified();
            // It is read before the value, so that the last value sent is seen.
            let closed = self.0.closed.load(Ordering::Acquire);
            {
                let latest = self.borrow();
                if wanted(&latest) {
                    return Ok(latest.clone());
                }
            }
            if closed {
                return Err(Closed);
            }
            changed.await;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn everybody_sees_the_latest_in_the_order_in_which_they_came() {
        let (sender, first) = channel(0);
        let (second, seen) = (first.clone(), Mutex::new(Vec::new()));
        let watch = async |name, latest: &Receiver<u32>| {
            let value = latest.wait_for(|value| *value > 1).await;
            seen.lock().unwrap().push((name, value));
        };
        tokio::join!(watch("first", &first), watch("second", &second), async {
            sender.send_modify(|value| *value = 1);
            tokio::task::yield_now().await;
            sender.send_modify(|value| *value = 2);
        });
        assert_eq!(seen.into_inner().unwrap(), [("first", Ok(2)), ("second", Ok(2))]);
    }

    #[tokio::test]
    async fn each_waiter_wakes_in_its_turn() {
        let sender = Sender::<bool>::default();
        let (tasks, woken) =
            (tokio_util::task::TaskTracker::new(), Arc::new(Mutex::new(Vec::new())));
        for waiter in 0..20 {
            let (receiver, woken) = (sender.subscribe(), woken.clone());
            tasks.spawn(async move {
                receiver.wait_for(|ready| *ready).await.unwrap();
                woken.lock().unwrap().push(waiter);
            });
        }
        tokio::task::yield_now().await;
        sender.send_modify(|ready| *ready = true);
        tasks.close();
        tasks.wait().await;
        assert!(woken.lock().unwrap().is_sorted(), "{woken:?}");
    }

    #[tokio::test]
    async fn the_last_value_outlives_its_sender() {
        let (sender, seen) = channel(0);
        sender.send_if_modified(|value| {
            *value = 7;
            false
        });
        assert!(seen.wait_for(|value| *value == 8).now_or_never().is_none());
        drop(sender);
        assert_eq!(seen.wait_for(|value| *value == 8).await, Err(Closed));
        assert_eq!(seen.wait_for(|value| *value == 7).await, Ok(7), "the last value stands");
    }
}
