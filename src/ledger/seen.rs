//! The records that this replica saw last, in bounded memory. A step tries them first.

use std::sync::Arc;

use lru::LruCache;

use crate::model::{InstanceId, Timestamp};

use super::{Record, Snapshot};

/// Approximate maximum of their total size, in bytes.
const MOST: usize = 64 * 1024 * 1024;

/// A record as this replica saw it last. A whole snapshot would take three times the memory of
/// most records.
#[derive(Debug, Clone)]
pub(super) struct SeenRecord {
    pub(super) record: Arc<Record>,
    pub(super) version: u64,
    /// The epoch of its partition then.
    pub(super) epoch: Arc<str>,
    pub(super) now: Timestamp,
}

/// Records by last use. Drops the least recently used one first, so a repeated run drops the same
/// ones.
#[derive(Debug)]
pub(super) struct Seen {
    records: LruCache<InstanceId, (SeenRecord, usize)>,
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
        Self { records: LruCache::unbounded(), size: 0, most }
    }

    /// The last record of an instance.
    pub(super) fn get(&mut self, instance: &InstanceId) -> Option<&SeenRecord> {
        self.records.get(instance).map(|(seen, _)| seen)
    }

    /// Drops the record of an instance.
    pub(super) fn forget(&mut self, instance: &InstanceId) {
        self.size -= self.records.pop(instance).map_or(0, |(_, size)| size);
    }

    /// Whether this is the record that is kept. Its time is then the snapshot's.
    pub(super) fn refresh(&mut self, instance: &InstanceId, snapshot: &Snapshot) -> bool {
        let Some((seen, _)) = self.records.get_mut(instance) else {
            return false;
        };
        let is_same = Arc::ptr_eq(&seen.record, &snapshot.record)
            && (seen.version, &seen.epoch) == (snapshot.version, &snapshot.partition.epoch);
        if is_same {
            seen.now = snapshot.now;
        }
        is_same
    }

    /// Keeps the record of a snapshot, and drops others if there is no room.
    pub(super) fn put(&mut self, instance: &InstanceId, snapshot: &Snapshot) {
        let Snapshot { record, version, partition, now, .. } = snapshot;
        let size = record.size();
        let (record, epoch) = (record.clone(), partition.epoch.clone());
        let seen = SeenRecord { record, version: *version, epoch, now: *now };
        let before = self.records.put(instance.clone(), (seen, size));
        self.size += size;
        self.size -= before.map_or(0, |(_, size)| size);
        while self.size > self.most {
            let Some((_, (_, size))) = self.records.pop_lru() else {
                return;
            };
            self.size -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::Attempt;
    use crate::model::Uid;

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
            seen.put(&id(number), &snapshot(1 + number % 3));
            seen.put(&id(number), &snapshot(1));
            assert!(seen.get(&id(0)).is_some(), "in use");
            let counted: usize = seen.records.iter().map(|(_, (_, size))| size).sum();
            assert!(seen.size == counted && seen.size <= most);
        }
        assert_eq!(seen.records.len(), 100);
        assert!(seen.get(&id(901)).is_some() && seen.get(&id(900)).is_none());
        seen.put(&id(0), &snapshot(1_000));
        assert!(seen.get(&id(0)).is_none() && seen.size == 0, "larger than all the room");
        let mut one = snapshot(1);
        seen.put(&id(1), &one);
        assert!(seen.get(&id(1)).is_some());
        one.now = Timestamp::from_micros(7);
        assert!(seen.refresh(&id(1), &one) && !seen.refresh(&id(2), &one));
        assert_eq!(seen.get(&id(1)).map(|seen| seen.now), Some(one.now));
        one.version += 1;
        assert!(!seen.refresh(&id(1), &one) && !seen.refresh(&id(1), &snapshot(1)));
    }
}
