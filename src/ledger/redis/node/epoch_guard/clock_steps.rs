//! The steps of a server's clock, as this replica saw them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::ledger::ClockSteps;
use crate::ledger::keys::PartitionId;
use crate::ledger::redis::clock::ClockStep;
use crate::model::Timestamp;

/// How long a step is reported.
const REPORTED: Duration = Duration::from_secs(600);

/// The steps that were seen, and what the last one made stale.
#[derive(Debug, Default)]
pub(super) struct StepHistory(Mutex<Steps>);

#[derive(Debug, Default)]
struct Steps {
    counts: ClockSteps,
    last: Option<LastStep>,
}

#[derive(Debug)]
struct LastStep {
    at: Instant,
    step: ClockStep,
    /// The epochs that were in force then: their times are by the old clock.
    stale: BTreeMap<PartitionId, Arc<str>>,
}

impl StepHistory {
    /// Notes a step, and the epochs that were in force.
    pub(super) fn record(&self, step: ClockStep, stale: BTreeMap<PartitionId, Arc<str>>) {
        warn!(
            seconds = step.by as f64 / 1e6,
            "redis' clock was set: locks and observations are void, and protective times restart"
        );
        let mut steps = self.steps();
        match step.by {
            ..0 => steps.counts.back += 1,
            0.. => steps.counts.forward += 1,
        }
        let at = Instant::now();
        steps.last = Some(LastStep { at, step, stale });
    }

    /// How often the clock was seen to be set.
    pub(super) fn counts(&self) -> ClockSteps {
        self.steps().counts
    }

    /// The time that the clock would have shown at the last step, if this epoch was in force then.
    pub(super) fn old_clock(&self, partition: PartitionId, epoch: &str) -> Option<Timestamp> {
        let steps = self.steps();
        let last = steps.last.as_ref()?;
        (**last.stale.get(&partition)? == *epoch).then_some(last.step.before)
    }

    /// Warnings for operators. A step is reported for a while.
    pub(super) fn warning(&self) -> Option<String> {
        let steps = self.steps();
        let last = steps.last.as_ref().filter(|last| last.at.elapsed() < REPORTED)?;
        let seconds = (last.step.by as f64 / 1e6).abs();
        let side = if last.step.by < 0 { "back" } else { "forward" };
        Some(format!(
            "redis' clock was set {side} by {seconds:.1} s, {} s ago: synchronise it without steps (ntp)",
            last.at.elapsed().as_secs()
        ))
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
