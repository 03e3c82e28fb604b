//! The simulator's journal: every call, and the occupancy of each instance. Tests judge by it.
//!
//! Times are milliseconds from the beginning of the world.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Maximum number of kept calls, the newest; the counters count all.
pub const MAX_CALLS: usize = 50_000;
/// Maximum number of kept steps of an instance's occupancy.
pub const MAX_STEPS: usize = 10_000;

/// The journal.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CallJournal {
    /// By instance.
    pub instances: BTreeMap<String, InstanceJournal>,
    /// By instance and ENI, as `i-one/eni-one`.
    pub pairs: BTreeMap<String, PairJournal>,
    /// Attaches that took effect, by ENI.
    pub applied: BTreeMap<String, u64>,
    /// By action, with the caller's spelling.
    pub actions: BTreeMap<String, ActionJournal>,
    /// The newest calls in the order of their ends, at most [`MAX_CALLS`].
    pub calls: VecDeque<Call>,
}

/// One instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct InstanceJournal {
    /// Used slots: every ENI that is not `Available`; the primary only if the rules count it.
    pub occupied: usize,
    /// Maximum of used slots.
    pub max_occupied: usize,
    /// Attach calls that took effect.
    pub applied: u64,
    /// Attach calls that named it.
    pub attach_calls: u64,
    /// Attach calls that name it and are in processing.
    pub attach_processing: u64,
    /// Maximum of concurrent Attach calls.
    pub max_attach_processing: u64,
    /// Each change of `occupied`, at most [`MAX_STEPS`].
    pub occupancy: Vec<JournalStep>,
}

/// An ENI and an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PairJournal {
    /// Attach calls that named both.
    pub attach_calls: u64,
    /// Attaches that took effect.
    pub applied: u64,
    /// Attaches that failed after the attach time.
    pub failed: u64,
}

/// A change of occupancy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalStep {
    /// The time.
    pub at_ms: u64,
    /// Used slots from then on.
    pub occupied: usize,
}

/// One action.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ActionJournal {
    /// All calls.
    pub calls: u64,
    /// Calls in processing.
    pub processing: u64,
    /// Maximum of concurrent calls.
    pub max_processing: u64,
    /// Ended calls, by [`Call::outcome`].
    pub outcomes: BTreeMap<String, u64>,
}

/// An ended call.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Call {
    /// `x-acs-action`, with the caller's spelling.
    pub action: String,
    /// `InstanceId`, if present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The ENIs it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enis: Vec<String>,
    /// Its arrival.
    pub at_ms: u64,
    /// The end of its processing.
    pub until_ms: u64,
    /// The caller's answer: `ok`, an error code, or `reset`, `html-502`, `not-json`, `truncated`.
    /// `abandoned` if the simulator stopped first.
    pub outcome: String,
    /// Whether it took effect before its processing ended.
    pub applied: bool,
    /// `RequestId` of the answer; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

impl CallJournal {
    /// The entries of one instance; empty if unknown.
    #[must_use]
    pub fn instance(&self, id: &str) -> InstanceJournal {
        self.instances.get(id).cloned().unwrap_or_default()
    }

    /// The number of calls of this action.
    #[must_use]
    pub fn calls_of(&self, action: super::Action) -> u64 {
        self.actions.get(action.name()).map_or(0, |ledger| ledger.calls)
    }

    /// The number of Attaches of this ENI that took effect.
    #[must_use]
    pub fn applied_to(&self, eni: &str) -> u64 {
        self.applied.get(eni).copied().unwrap_or_default()
    }

    /// The entries of a pair; empty if unknown.
    #[must_use]
    pub fn pair(&self, instance: &str, eni: &str) -> PairJournal {
        self.pairs.get(&pair(instance, eni)).copied().unwrap_or_default()
    }

    /// The ended Attach calls, in the order of their ends.
    pub fn attaches(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| is_attach(call))
    }

    pub(super) fn begin(&mut self, call: &Call) {
        let action = self.actions.entry(call.action.clone()).or_default();
        action.calls += 1;
        action.processing += 1;
        action.max_processing = action.max_processing.max(action.processing);
        if let (true, Some(instance), [eni]) = (is_attach(call), &call.instance, &call.enis[..]) {
            self.pairs.entry(pair(instance, eni)).or_default().attach_calls += 1;
        }
        if let Some(instance) = self.attached_instance(call) {
            instance.attach_calls += 1;
            instance.attach_processing += 1;
            instance.max_attach_processing =
                instance.max_attach_processing.max(instance.attach_processing);
        }
    }

    pub(super) fn end(&mut self, call: Call) {
        let action = self.actions.entry(call.action.clone()).or_default();
        action.processing = action.processing.saturating_sub(1);
        *action.outcomes.entry(call.outcome.clone()).or_default() += 1;
        if let Some(instance) = self.attached_instance(&call) {
            instance.attach_processing = instance.attach_processing.saturating_sub(1);
        }
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    pub(super) fn record_applied(&mut self, instance: &str, eni: &str) {
        self.instances.entry(instance.to_owned()).or_default().applied += 1;
        *self.applied.entry(eni.to_owned()).or_default() += 1;
        self.pairs.entry(pair(instance, eni)).or_default().applied += 1;
    }

    pub(super) fn record_failed(&mut self, instance: &str, eni: &str) {
        self.pairs.entry(pair(instance, eni)).or_default().failed += 1;
    }

    pub(super) fn occupancy(&mut self, instance: &str, occupied: usize, at_ms: u64) {
        let ledger = self.instances.entry(instance.to_owned()).or_default();
        if ledger.occupied == occupied && !ledger.occupancy.is_empty() {
            return;
        }
        ledger.occupied = occupied;
        ledger.max_occupied = ledger.max_occupied.max(occupied);
        if ledger.occupancy.len() < MAX_STEPS {
            ledger.occupancy.push(JournalStep { at_ms, occupied });
        }
    }

    /// Takes over the calls in processing from the journal before a reset, so that their ends
    /// match.
    pub(super) fn adopt_processing(&mut self, before: Self) {
        for (name, old) in before.actions.into_iter().filter(|(_, old)| old.processing > 0) {
            let action = self.actions.entry(name).or_default();
            (action.processing, action.max_processing) = (old.processing, old.processing);
        }
        for (id, old) in before.instances.into_iter().filter(|(_, old)| old.attach_processing > 0) {
            let instance = self.instances.entry(id).or_default();
            (instance.attach_processing, instance.max_attach_processing) =
                (old.attach_processing, old.attach_processing);
        }
    }

    fn attached_instance(&mut self, call: &Call) -> Option<&mut InstanceJournal> {
        let id = call.instance.as_ref().filter(|_| is_attach(call))?;
        Some(self.instances.entry(id.clone()).or_default())
    }
}

fn pair(instance: &str, eni: &str) -> String {
    format!("{instance}/{eni}")
}

fn is_attach(call: &Call) -> bool {
    call.action == super::Action::AttachNetworkInterface.name()
}
