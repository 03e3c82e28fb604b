//! A table of things in use, by age, so that the oldest can be closed for a new one.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The table. Clones share it.
#[derive(Debug)]
pub struct ByAge<T>(Arc<Mutex<Entries<T>>>);

/// The entries of a table, oldest first.
#[derive(Debug)]
pub struct Entries<T> {
    next_id: u64,
    entries: BTreeMap<u64, Arc<Entry<T>>>,
}

/// One thing, which any task can close. The task that uses it is woken.
#[derive(Debug)]
pub struct Entry<T> {
    id: u64,
    value: T,
    closed: AtomicBool,
    user: AtomicWaker,
}

/// An entry's place in its table, until it is dropped.
#[derive(Debug)]
pub struct Place<T> {
    entry: Arc<Entry<T>>,
    table: ByAge<T>,
}

impl<T> ByAge<T> {
    /// Adds a value. `make_room` may take other entries out first.
    pub fn insert(&self, value: T, make_room: impl FnOnce(&mut Entries<T>)) -> Place<T> {
        let mut table = self.lock();
        make_room(&mut table);
        self.place(table, value)
    }

    /// Adds a value if `admit` permits it, which may take other entries out first.
    pub fn insert_if(
        &self,
        value: T,
        admit: impl FnOnce(&mut Entries<T>) -> bool,
    ) -> Option<Place<T>> {
        let mut table = self.lock();
        admit(&mut table).then(|| self.place(table, value))
    }

    fn place(&self, mut table: MutexGuard<'_, Entries<T>>, value: T) -> Place<T> {
        let id = table.next_id;
        table.next_id += 1;
        let (closed, user) = (AtomicBool::new(false), AtomicWaker::new());
        let entry = Arc::new(Entry { id, value, closed, user });
        table.entries.insert(id, entry.clone());
        Place { entry, table: self.clone() }
    }

    /// Runs `with` on the entries, under the table's lock.
    pub fn with<R>(&self, with: impl FnOnce(&mut Entries<T>) -> R) -> R {
        with(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        // No code under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for ByAge<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for ByAge<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Entries { next_id: 0, entries: BTreeMap::new() })))
    }
}

impl<T> Entries<T> {
    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry<T>>> {
        self.entries.values()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes out the oldest entry that is `wanted`.
    pub fn take_oldest(&mut self, wanted: impl Fn(&Entry<T>) -> bool) -> Option<Arc<Entry<T>>> {
        let id = self.iter().find(|entry| wanted(entry))?.id;
        self.entries.remove(&id)
    }

    /// Takes out the oldest entry that `may_close` permits and closes it; whether there was one.
    pub fn close_oldest(&mut self, may_close: impl Fn(&Entry<T>) -> bool) -> bool {
        let oldest = self.take_oldest(may_close);
        oldest.inspect(|entry| entry.close()).is_some()
    }
}

impl<T> Entry<T> {
    /// Number of the entry in its table.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Closes the entry.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.user.wake();
    }

    /// Wakes the task that uses the entry, which stays open.
    pub fn wake(&self) {
        self.user.wake();
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Place<T> {
    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> &Arc<Entry<T>> {
        &self.entry
    }

    /// Ready when the entry is closed. The task that polled last is woken.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.entry.user.register(cx.waker());
        if self.entry.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Resolves when the entry is closed.
    pub async fn closed(&self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.table.lock().entries.remove(&self.entry.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_may_close_is_closed_and_its_place_is_free() {
        let table = ByAge::default();
        let places: Vec<_> = (0..3).map(|number| table.insert(number, |_| {})).collect();
        assert!(table.with(|entries| entries.close_oldest(|number| **number > 0)));
        let closed: Vec<_> = places.iter().map(|place| place.entry().is_closed()).collect();
        assert_eq!((closed, table.with(|entries| entries.len())), (vec![false, true, false], 2));
        assert!(table.insert_if(3, |_| false).is_none());
        drop(places);
        assert!(table.with(|entries| entries.is_empty()));
        assert!(!table.with(|entries| entries.close_oldest(|_| true)));
    }

    #[tokio::test]
    async fn the_user_of_an_entry_is_woken_when_it_closes() {
        let table = ByAge::default();
        let place = table.insert((), |_| {});
        let entry = place.entry().clone();
        tokio::join!(place.closed(), async { entry.close() });
    }
}
