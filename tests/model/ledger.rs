//! The ledger of the model: `apply` itself, its versions, and its losses.

use std::sync::Arc;

use eni_gateway::ledger::apply::{Context, apply};
use eni_gateway::ledger::command::{Command, Reply};
use eni_gateway::ledger::{Partition, Record};

use crate::equivalence;
use crate::plan::Plan;
use crate::world::{World, stamp};

/// One version of the record.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) record: Arc<Record>,
    /// Equal for records between which nothing decides.
    pub(crate) key: u64,
}

impl From<Record> for Version {
    fn from(record: Record) -> Self {
        Self { key: equivalence::of_record(&record), record: Arc::new(record) }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) newest: Version,
    /// What a failover may bring back, and until when it was the newest: each once, and nothing
    /// that equals the newest.
    pub(crate) older: Vec<(u64, Version)>,
    pub(crate) epoch: u32,
    pub(crate) hold_down_until: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { newest: Record::default().into(), older: Vec::new(), epoch: 1, hold_down_until: 0 }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.newest.record
    }

    /// A commit is made; if failovers are to come, one may bring back the version before it.
    fn commit(&mut self, now: u64, record: Record, may_fail_over: bool) {
        let before = std::mem::replace(&mut self.newest, record.into());
        if may_fail_over {
            self.older.push((now, before));
            // A failover forgets all versions but one. So their order decides nothing, and each is
            // kept once: reads that change nothing would add to them without end.
            let newest = self.newest.key;
            self.older.retain(|(_, older)| older.key != newest);
        }
    }

    /// Redis' replicas have the newest: no failover loses it.
    pub(crate) fn confirm(&mut self) {
        self.older.clear();
    }

    /// What was written since this version is lost, or nothing is.
    pub(crate) fn fail_over(&mut self, plan: &Plan, now: u64, to: Option<usize>) {
        if let Some(to) = to {
            self.newest = self.older.swap_remove(to).1;
        }
        self.start_epoch(now, (!plan.synced).then_some(plan));
    }

    /// Everything is lost.
    pub(crate) fn lose(&mut self, plan: &Plan, now: u64) {
        self.newest = Record::default().into();
        self.start_epoch(now, Some(plan));
    }

    fn start_epoch(&mut self, now: u64, holds: Option<&Plan>) {
        self.older.clear();
        self.epoch += 1;
        if let Some(plan) = holds {
            self.hold_down_until = now + plan.bounds.recovery_hold_down().as_secs();
        }
    }

    /// What is older than the failover window no failover brings back.
    pub(crate) fn forget(&mut self, plan: &Plan, now: u64) {
        let window = plan.bounds.failover_window.as_secs();
        self.older.retain(|(until, _)| until + window >= now);
    }
}

impl World {
    /// One commit: what `apply` makes of the command, checked.
    pub(crate) fn commit(&mut self, plan: &Plan, command: &Command) -> Reply {
        let partition = Partition {
            epoch: self.ledger.epoch.to_string().into(),
            hold_down_until: stamp(self.ledger.hold_down_until),
            shared: None,
            freeze: None,
        };
        let context = Context {
            bounds: &plan.bounds,
            instance: &"i-1".parse().unwrap(),
            partition: &partition,
            request: None,
            now: stamp(self.now),
        };
        let step = apply(self.ledger.record(), command, context);
        if step.changed {
            self.check_commit(plan, &context, &step.record);
            self.ledger.commit(self.now, step.record, self.left.failovers > 0);
        }
        step.reply
    }
}
