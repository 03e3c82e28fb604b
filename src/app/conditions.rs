//! The log of lasting problems: one line when one begins, one when it ends.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::readiness::Condition;

/// The conditions of the last check, each with its begin.
#[derive(Debug, Default)]
pub(super) struct ConditionLog {
    present: BTreeMap<&'static str, Instant>,
}

impl ConditionLog {
    /// Logs the difference between the last check and `current`.
    pub(super) fn update(&mut self, current: &[Condition]) {
        for condition in current {
            let Condition { part, name, why } = condition;
            if !self.present.contains_key(name) {
                self.present.insert(name, Instant::now());
                tracing::warn!(part, condition = name, why, "a condition began");
            }
        }
        self.present.retain(|name, began| {
            let lasts = current.iter().any(|condition| condition.name == *name);
            if !lasts {
                let seconds = began.elapsed().as_secs();
                tracing::info!(condition = *name, seconds, "a condition ended");
            }
            lasts
        });
    }
}
