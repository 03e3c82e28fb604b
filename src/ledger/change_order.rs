//! The instances of one partition in the order of their last changes, in memory. It matches the
//! sorted sets in Redis.

use std::collections::BTreeMap;

use crate::model::{InstanceId, Position, Timestamp};

use super::queue::DueQueue;

/// Maximum number of ended records that one commit removes. A commit adds one at most.
const REMOVED_AT_ONCE: usize = 2;

/// Instances by the position of their last change.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeOrder {
    positions: BTreeMap<InstanceId, Position>,
    order: BTreeMap<Position, InstanceId>,
    last: Position,
    ends: DueQueue<InstanceId>,
}

impl ChangeOrder {
    /// Records a commit whose record ends at `end`; `None` means without end.
    pub(super) fn commit(
        &mut self,
        instance: &InstanceId,
        is_change: bool,
        end: Option<Timestamp>,
        now: Timestamp,
    ) {
        if is_change || !self.positions.contains_key(instance) {
            self.last = self.last.next(now);
            if let Some(before) = self.positions.insert(instance.clone(), self.last) {
                self.order.remove(&before);
            }
            self.order.insert(self.last, instance.clone());
        }
        self.ends.set(instance.clone(), end);
        for gone in self.ends.due(REMOVED_AT_ONCE, now) {
            self.ends.set(gone.clone(), None);
            if let Some(position) = self.positions.remove(&gone) {
                self.order.remove(&position);
            }
        }
    }

    /// The position of the last change.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// At most `most` instances whose last change is after this position.
    pub(super) fn after(&self, position: Position, most: usize) -> Vec<(Position, InstanceId)> {
        let later = self.order.iter().skip_while(|(at, _)| **at <= position);
        later.take(most).map(|(at, instance)| (*at, instance.clone())).collect()
    }
}
