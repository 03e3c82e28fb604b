//! Counters of a run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::episode::{End, Episode, ReportedOutcome};
use crate::faults::Kind;

/// The counts of one ledger's callers.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Counts>);

#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Attempts that came to ENS, once or more often.
    pub(crate) reached: u64,
    /// Attempts that were shown an end.
    pub(crate) shown: u64,
    /// Attempts that were lost with the ledger's data, and that ENS alone knows of.
    pub(crate) with_the_data: u64,
    /// Attempts that ended with a refusal.
    pub(crate) refused: u64,
    /// Reads that had to show an ENI.
    pub(crate) reads: u64,
    /// Answers by what they said.
    pub(crate) answers: BTreeMap<String, u64>,
    /// How soon everybody who had waited was served, for each fault of a kind.
    pub(crate) recoveries: BTreeMap<Kind, Vec<Duration>>,
}

impl Counters {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap()
    }

    pub(crate) fn answered(&self, answer: &ReportedOutcome) {
        *self.counts().answers.entry(answer.to_string()).or_default() += 1;
    }

    pub(crate) fn read(&self) {
        self.counts().reads += 1;
    }

    pub(crate) fn ended(&self, episode: &Episode) {
        let mut counts = self.counts();
        counts.reached += u64::from(episode.arrived > 0);
        match episode.end {
            End::Shown { .. } => counts.shown += 1,
            End::Refused => counts.refused += 1,
            End::Unknown if episode.lossy => counts.with_the_data += 1,
            End::Unknown | End::Open(_) => {}
        }
    }

    pub(crate) fn recovered(&self, kind: Kind, took: Duration) {
        self.counts().recoveries.entry(kind).or_default().push(took);
    }

    pub(crate) fn so_far(&self) -> Counts {
        self.counts().clone()
    }
}
