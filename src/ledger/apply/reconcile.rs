//! The comparison of the ledger with ENS: what was lost on the way is found, and the record put right. Nothing is settled here:
//! the observation that comes with it has done so by the rules of every observation.

use crate::model::{State, Timestamp};

use super::super::ReconcileSchedule;
use super::super::bounds::OVERDUE;
use super::super::command::ReconcileReport;
use super::super::record::{Attempt, Record};
use super::{RecordUpdate, on_the_second};

impl RecordUpdate<'_> {
    /// Puts what nobody drives back into the queue, and counts what the observation before it changed.
    pub(super) fn reconcile(&mut self) -> ReconcileReport {
        self.compared = true;
        let now = self.now();
        let mut requeued = 0;
        for attempt in self.record.attempts.values_mut() {
            if is_orphaned(attempt, now) {
                attempt.due_at = Some(now);
                requeued += 1;
            }
        }
        let count = |differs: fn(&super::Change) -> bool| self.changes.iter().filter(|change| differs(change)).count();
        ReconcileReport {
            adopted: count(|change| change.from.is_none() && !change.attempt.is_from_gateway()),
            detached: count(|change| {
                change.from == Some(State::Attached) && change.attempt.attachment.state == State::Detached
            }),
            requeued,
        }
    }

    /// An instance that changed is compared anew; one that was compared and agreed, ever more seldom and then no more.
    pub(super) fn next_reconciliation(&self, before: &Record) -> ReconcileSchedule {
        let changed = self.record.revision != before.revision;
        if !changed && !self.compared {
            return ReconcileSchedule::Kept;
        }
        // Revisions are times as long as fewer than a million are given a second.
        let changed_at = if changed {
            self.now()
        } else {
            Timestamp::from_micros(self.record.revision.0).min(self.now())
        };
        let next = self
            .context
            .bounds
            .next_reconciliation(changed_at, self.is_live(), self.now());
        next.map_or(ReconcileSchedule::Done, |at| ReconcileSchedule::At(on_the_second(at)))
    }
}

/// Whether it is under way, and long past the time to look at it, or without one.
fn is_orphaned(attempt: &Attempt, now: Timestamp) -> bool {
    let state = attempt.attachment.state;
    let under_way = !state.is_terminal() && state != State::Unknown;
    under_way && attempt.due_at.is_none_or(|due_at| due_at + OVERDUE < now)
}
