//! Changes whose commit has no known outcome, because its reply was lost. They are reported when a
//! later read shows that they were stored, so that no end of an attempt is missing in metrics and
//! audit lines.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::InstanceId;

use super::command::Change;
use super::record::Record;

/// Maximum number of changes. Beyond it the oldest are not reported.
const MOST: usize = 4096;

/// The changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnreportedChanges(Mutex<VecDeque<Change>>);

impl UnreportedChanges {
    /// Adds those of the changes that lead to another state.
    pub(super) fn add(&self, changes: Vec<Change>) {
        let mut all = self.lock();
        let is_new = |change: &Change| change.from != Some(change.attempt.state.kind());
        all.extend(changes.into_iter().filter(is_new));
        let too_many = all.len().saturating_sub(MOST);
        all.drain(..too_many);
        if too_many > 0 {
            tracing::warn!(changes = too_many, "changes of attempts are not reported");
        }
    }

    /// An instance with such changes.
    pub(super) fn next(&self) -> Option<InstanceId> {
        self.lock().front().map(|change| change.attempt.instance.clone())
    }

    /// Takes all changes of an instance out, and returns those that its record shows.
    pub(super) fn take(&self, instance: &InstanceId, record: &Record) -> Vec<Change> {
        let mut all = self.lock();
        let (of_instance, others) =
            all.drain(..).partition::<Vec<_>, _>(|change| change.attempt.instance == *instance);
        all.extend(others);
        of_instance.into_iter().filter(|change| shows(record, change)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Change>> {
        // No code under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the attempt in the record has gone through this change. Another replica's change to the
/// same state has another time.
fn shows(record: &Record, change: &Change) -> bool {
    let attempt = &change.attempt;
    record.attempts.get(&attempt.eni).is_some_and(|stored| {
        let made = attempt.transitions.last();
        stored.uid == attempt.uid && made.is_some_and(|made| stored.transitions.contains(made))
    })
}
