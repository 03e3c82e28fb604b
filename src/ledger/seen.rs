//! The records that this replica saw last, in bounded memory. A step tries them first.

use lru::LruCache;

use crate::model::InstanceId;

use super::Snapshot;

/// Approximate maximum of their total size, in bytes.
const MOST: usize = 64 * 1024 * 1024;

/// Snapshots by last use. Drops the least recently used one first, so a repeated run drops the same
/// ones.
#[derive(Debug)]
pub(super) struct Seen {
    snapshots: LruCache<InstanceId, (Snapshot, usize)>,
    size: usize,
    most: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self::of(MOST)
    }
}

impl Seen {
    fn of(most: usize) -> Self {
        Self { snapshots: LruCache::unbounded(), size: 0, most }
    }

    /// The last snapshot of an instance.
    pub(super) fn get(&mut self, instance: &InstanceId) -> Option<Snapshot> {
        self.snapshots.get(instance).map(|(snapshot, _)| snapshot.clone())
    }

    /// Drops the snapshot of an instance.
    pub(super) fn forget(&mut self, instance: &InstanceId) {
        self.size -= self.snapshots.pop(instance).map_or(0, |(_, size)| size);
    }

    /// Keeps a snapshot, and drops others if there is no room.
    pub(super) fn put(&mut self, instance: &InstanceId, snapshot: Snapshot) {
        let size = snapshot.record.size();
        let before = self.snapshots.put(instance.clone(), (snapshot, size));
        self.size += size;
        self.size -= before.map_or(0, |(_, size)| size);
        while self.size > self.most {
            let Some((_, (_, size))) = self.snapshots.pop_lru() else {
                return;
            };
            self.size -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::record::Attempt;
    use crate::model::{Timestamp, Uid};

    fn id(number: usize) -> InstanceId {
        format!("i-{number}").parse().unwrap()
    }

    fn snapshot(attempts: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for number in 0..attempts {
            let eni = format!("eni-{number}").parse().unwrap();
            let attempt = Attempt::new(&id(1), &eni, Uid(uuid::Uuid::nil()), Timestamp::default());
            Arc::make_mut(&mut snapshot.record).attempts.insert(eni, attempt);
        }
        snapshot
    }

    #[test]
    fn it_takes_no_more_memory_than_it_may_and_drops_what_was_used_longest_ago() {
        let most = 100 * snapshot(1).record.size();
        let mut seen = Seen::of(most);
        for number in 0..1_000 {
            seen.put(&id(number), snapshot(1 + number % 3));
            seen.put(&id(number), snapshot(1));
            assert!(seen.get(&id(0)).is_some(), "in use");
            let counted: usize = seen.snapshots.iter().map(|(_, (_, size))| size).sum();
            assert!(seen.size == counted && seen.size <= most);
        }
        assert_eq!(seen.snapshots.len(), 100);
        assert!(seen.get(&id(901)).is_some() && seen.get(&id(900)).is_none());
        seen.put(&id(0), snapshot(1_000));
        assert!(seen.get(&id(0)).is_none() && seen.size == 0, "larger than all the room");
        seen.put(&id(1), snapshot(1));
        assert!(seen.get(&id(1)).is_some());
    }
}
