//! The places of a queue's callers in the lines for the account's budget. A caller that leaves
//! without a permit passes its place on: otherwise callers with short deadlines would lose it one
//! after the other.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::rate_limit::RateClass;

/// Since when the callers, one after the other, have been waiting for a permit of a class.
#[derive(Default)]
pub(super) struct BudgetPlaces(BTreeMap<RateClass, Instant>);

impl BudgetPlaces {
    /// The arrival in the line of this class.
    pub(super) fn since(&mut self, class: RateClass) -> Instant {
        *self.0.entry(class).or_insert_with(Instant::now)
    }

    /// Ends the place in the line of this class: the permit has come.
    pub(super) fn leave(&mut self, class: RateClass) {
        self.0.remove(&class);
    }

    /// Ends the places in all lines.
    pub(super) fn leave_all(&mut self) {
        self.0.clear();
    }
}
