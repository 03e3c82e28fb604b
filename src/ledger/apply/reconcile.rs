//! Compares the ledger with ENS, finds what was lost and corrects the record. Settles nothing
//! itself. The observation in the same commit has done so by the usual rules.

use crate::model::{State, Timestamp};

use super::super::ReconcileSchedule;
use super::super::bounds::OVERDUE;
use super::super::command::ReconcileReport;
use super::super::record::{Attempt, Record};
use super::{RecordUpdate, on_the_second};

impl RecordUpdate<'_> {
    /// Schedules attempts that are missing from the due queue, and counts what the preceding
    /// observation changed.
    pub(super) fn reconcile(&mut self) -> ReconcileReport {
        self.compared = true;
        let now = self.now();
        let mut requeued = 0;
        let is_missing = |attempt: &Attempt| {
            let is_overdue = attempt.state.due_at().is_some_and(|due_at| due_at + OVERDUE < now);
            !attempt.state.kind().is_terminal() && is_overdue
        };
        for attempt in self.record.attempts.values_mut_where(is_missing) {
            if let Some(due_at) = attempt.state.due_at_mut() {
                *due_at = now;
                requeued += 1;
            }
        }
        let count = |differs: fn(&super::Change) -> bool| {
            self.changes.iter().filter(|change| differs(change)).count()
        };
        ReconcileReport {
            adopted: count(|change| change.from.is_none() && !change.attempt.is_from_gateway()),
            detached: count(|change| {
                change.from == Some(State::Attached)
                    && change.attempt.state.kind() == State::Detached
            }),
            requeued,
        }
    }

    /// The next reconciliation. A changed instance starts from the first delay. After each
    /// agreement the delay grows, until none follows.
    pub(super) fn next_reconciliation(&self, before: &Record) -> ReconcileSchedule {
        let changed = self.record.revision != before.revision;
        if !changed && !self.compared {
            return ReconcileSchedule::Kept;
        }
        // Revisions are times while fewer than a million are given per second.
        let changed_at = if changed {
            self.now()
        } else {
            Timestamp::from_micros(self.record.revision.0).min(self.now())
        };
        let next = self.context.bounds.next_reconciliation(changed_at, self.is_live(), self.now());
        next.map_or(ReconcileSchedule::Done, |at| ReconcileSchedule::At(on_the_second(at)))
    }
}
