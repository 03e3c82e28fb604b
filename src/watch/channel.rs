//! The latest value of something, for many who wait for the next. As tokio's `watch`, but whoever waited first is woken first:
//! there the order is drawn at random, and no run could be repeated.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    latest: Mutex<T>,
    changed: Notify,
    /// Nobody publishes any more.
    ended: AtomicBool,
    subscribers: AtomicUsize,
    left: Notify,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        // Whoever changes it replaces whole parts.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes. Dropped, it leaves the last value standing, and nobody waits any longer.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// Sees the latest value.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// Nobody publishes any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended;

/// A value, and who sees it.
pub(super) fn latest<T: Clone>(first: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        latest: Mutex::new(first),
        changed: Notify::new(),
        ended: AtomicBool::new(false),
        subscribers: AtomicUsize::new(1),
        left: Notify::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T: Clone> Sender<T> {
    /// The latest value.
    pub(super) fn get(&self) -> T {
        self.0.lock().clone()
    }

    /// Changes it, and wakes everybody if `change` says that there is something to see.
    pub(super) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let modified = change(&mut self.0.lock());
        if modified {
            self.0.changed.notify_waiters();
        }
    }

    /// Resolves when nobody is left who could see it. Safe to cancel.
    pub(super) async fn closed(&self) {
        until(&self.0.left, || {
            (self.0.subscribers.load(Ordering::Acquire) == 0).then_some(())
        })
        .await;
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T: Clone> Receiver<T> {
    /// The latest value.
    pub(super) fn get(&self) -> T {
        self.0.lock().clone()
    }

    /// The latest value that is as wanted, once there is one. Safe to cancel.
    pub(super) async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> Result<T, Ended> {
        until(&self.0.changed, || {
            // Read before the value: what was published last is seen.
            let ended = self.0.ended.load(Ordering::Acquire);
            let latest = self.0.lock();
            match wanted(&latest) {
                true => Some(Ok(latest.clone())),
                false => ended.then_some(Err(Ended)),
            }
        })
        .await
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.subscribers.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.0.subscribers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_waiters();
        }
    }
}

/// Looks now, and after each notice, until there is something.
async fn until<R>(notices: &Notify, look: impl Fn() -> Option<R>) -> R {
    loop {
        let notice = notices.notified();
        tokio::pin!(notice);
        // What happens between the look and the wait is not missed.
        notice.as_mut().enable();
        match look() {
            Some(found) => return found,
            None => notice.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn everybody_sees_the_latest_in_the_order_in_which_they_came() {
        let (publisher, first) = latest(0);
        let (second, seen) = (first.clone(), Mutex::new(Vec::new()));
        let watch = async |name, latest: &Receiver<u32>| {
            let value = latest.wait_for(|value| *value > 1).await;
            seen.lock().unwrap().push((name, value));
        };
        tokio::join!(watch("first", &first), watch("second", &second), async {
            publisher.send_if_modified(|value| {
                *value = 1;
                true
            });
            tokio::task::yield_now().await;
            publisher.send_if_modified(|value| {
                *value = 2;
                true
            });
        });
        assert_eq!(seen.into_inner().unwrap(), [("first", Ok(2)), ("second", Ok(2))]);
    }

    #[tokio::test]
    async fn each_side_hears_that_the_other_is_gone() {
        let (publisher, first) = latest(0);
        let second = first.clone();
        drop(first);
        assert!(publisher.closed().now_or_never().is_none());
        drop(second);
        publisher.closed().now_or_never().expect("nobody is left");

        let (publisher, seen) = latest(0);
        publisher.send_if_modified(|value| {
            *value = 7;
            false
        });
        assert!(seen.wait_for(|value| *value == 8).now_or_never().is_none());
        drop(publisher);
        assert_eq!(seen.wait_for(|value| *value == 8).await, Err(Ended));
        assert_eq!(seen.wait_for(|value| *value == 7).await, Ok(7), "the last value stands");
    }
}
