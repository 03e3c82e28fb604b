//! What the simulator wrote down: every call, and how full each instance ever was. The judge in tests.
//!
//! Times are milliseconds from the beginning of the world.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Most calls that are kept one by one, the newest; the counters count all.
pub const MAX_CALLS: usize = 50_000;
/// Most steps of one instance's occupancy that are kept.
pub const MAX_STEPS: usize = 10_000;

/// The books.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CallJournal {
    /// By instance.
    pub instances: BTreeMap<String, InstanceBook>,
    /// By instance and ENI, as `i-one/eni-one`.
    pub pairs: BTreeMap<String, PairBook>,
    /// By ENI: how often an Attach took effect.
    pub applied: BTreeMap<String, u64>,
    /// By action, as the caller named it.
    pub actions: BTreeMap<String, ActionBook>,
    /// The newest calls in the order in which they ended, at most [`MAX_CALLS`].
    pub calls: VecDeque<Call>,
}

/// One instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct InstanceBook {
    /// Places taken now: every ENI on it that is not `Available`, the primary only if the rules count it.
    pub occupied: usize,
    /// Most places ever taken.
    pub max_occupied: usize,
    /// How many Attach calls took effect.
    pub applied: u64,
    /// Attach calls that named it.
    pub attach_calls: u64,
    /// Attach calls that name it and are in processing now.
    pub attach_processing: u64,
    /// Most Attach calls ever in processing at once.
    pub max_attach_processing: u64,
    /// Each change of `occupied`, at most [`MAX_STEPS`].
    pub occupancy: Vec<JournalStep>,
}

/// An ENI on one instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PairBook {
    /// Attach calls that named both.
    pub attach_calls: u64,
    /// How often an Attach took effect.
    pub applied: u64,
    /// How many of them came to nothing after the attach time.
    pub failed: u64,
}

/// A change of occupancy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalStep {
    /// When.
    pub at_ms: u64,
    /// Places taken from then on.
    pub occupied: usize,
}

/// One action.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ActionBook {
    /// Calls that came.
    pub calls: u64,
    /// Calls in processing now.
    pub processing: u64,
    /// Most calls ever in processing at once.
    pub max_processing: u64,
    /// Ended calls by [`Call::outcome`].
    pub outcomes: BTreeMap<String, u64>,
}

/// One call that ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Call {
    /// `x-acs-action`, as the caller named it.
    pub action: String,
    /// `InstanceId`, where the call had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The ENIs it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enis: Vec<String>,
    /// When it came.
    pub at_ms: u64,
    /// When its processing ended.
    pub until_ms: u64,
    /// What the caller got: `ok`, an error code, or `reset`, `html-502`, `not-json`, `truncated`; `abandoned` where the simulator
    /// was stopped meanwhile.
    pub outcome: String,
    /// Whether it took effect by the time its processing ended.
    pub applied: bool,
    /// `RequestId` of the answer; empty where none was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

impl CallJournal {
    /// One instance's book; an empty one where nothing is known of it.
    #[must_use]
    pub fn instance(&self, id: &str) -> InstanceBook {
        self.instances.get(id).cloned().unwrap_or_default()
    }

    /// How many calls of this action came.
    #[must_use]
    pub fn calls_of(&self, action: super::Action) -> u64 {
        self.actions.get(action.name()).map_or(0, |ledger| ledger.calls)
    }

    /// How often an Attach of this ENI took effect.
    #[must_use]
    pub fn applied_to(&self, eni: &str) -> u64 {
        self.applied.get(eni).copied().unwrap_or_default()
    }

    /// The book of an ENI on one instance; an empty one where nothing is known of it.
    #[must_use]
    pub fn pair(&self, instance: &str, eni: &str) -> PairBook {
        self.pairs.get(&pair(instance, eni)).copied().unwrap_or_default()
    }

    /// The Attach calls that ended, in the order of their ends.
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
            instance.max_attach_processing = instance.max_attach_processing.max(instance.attach_processing);
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

    pub(super) fn applied(&mut self, instance: &str, eni: &str) {
        self.instances.entry(instance.to_owned()).or_default().applied += 1;
        *self.applied.entry(eni.to_owned()).or_default() += 1;
        self.pairs.entry(pair(instance, eni)).or_default().applied += 1;
    }

    pub(super) fn failed(&mut self, instance: &str, eni: &str) {
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

    /// Takes over what is in processing from the books before a reset, so that its end finds its beginning.
    pub(super) fn adopt_processing(&mut self, before: Self) {
        for (name, old) in before.actions.into_iter().filter(|(_, old)| old.processing > 0) {
            let action = self.actions.entry(name).or_default();
            (action.processing, action.max_processing) = (old.processing, old.processing);
        }
        for (id, old) in before
            .instances
            .into_iter()
            .filter(|(_, old)| old.attach_processing > 0)
        {
            let instance = self.instances.entry(id).or_default();
            (instance.attach_processing, instance.max_attach_processing) =
                (old.attach_processing, old.attach_processing);
        }
    }

    fn attached_instance(&mut self, call: &Call) -> Option<&mut InstanceBook> {
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
