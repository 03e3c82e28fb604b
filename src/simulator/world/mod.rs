//! The model of ENS: instances, ENIs, and changes in flight.
//!
//! It has no clock, task or I/O. Each call brings its time, and everything due before happens
//! first, in order. So tests run without waiting, and the same calls at the same times give the
//! same result.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::action::Action;
use super::journal::CallJournal;
use super::params::Params;
use super::refusal::Refusal;
use super::reply::HttpReply;
use super::rules::WorldRules;

mod attach;
mod defaults;
mod describe_instances;
mod describe_interfaces;
mod detach;
mod eni;
pub mod file;
mod instance;
mod page;
mod power;

pub use eni::{EniKind, EniSpec, EniStatus, Placement};
pub use file::WorldFile;
pub(in crate::simulator) use instance::status_fault;
pub use instance::{Instance, RUNNING, STOPPED};

use eni::Eni;

/// The course of an accepted attach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Course {
    /// It is `InUse` after the attach time.
    #[default]
    Succeeds,
    /// It is `Available` again after the attach time.
    Fails,
    /// It is `InUse` after this time.
    Takes(Duration),
}

/// A scheduled change.
#[derive(Debug)]
enum Due {
    /// An ENI reaches its final status, unless it was moved since.
    Eni { id: String, generation: u64, placement: Placement },
    /// An instance has stopped or started, unless its status was changed since.
    Power { id: String, from: &'static str, to: &'static str },
    /// An Attach whose answer was lost takes effect.
    Attach { instance: String, eni: String },
}

/// The simulated ENS.
#[derive(Debug)]
pub struct World {
    rules: WorldRules,
    instances: BTreeMap<String, Instance>,
    enis: BTreeMap<String, Eni>,
    due: BTreeMap<(Instant, u64), Due>,
    due_count: u64,
    rng: StdRng,
    journal: CallJournal,
    began: Instant,
    origin: WorldFile,
}

impl World {
    /// The world of a file. An instance without a primary ENI gets one.
    #[must_use]
    pub fn new(file: WorldFile) -> Self {
        let primaries = file.enis.iter().filter(|eni| eni.kind == EniKind::Primary);
        let with_primary: BTreeSet<_> =
            primaries.filter_map(|eni| eni.placement.instance.as_ref()).collect();
        let missing = file
            .instances
            .iter()
            .filter(|instance| !with_primary.contains(&instance.id))
            .map(primary_of);
        let enis = file
            .enis
            .iter()
            .cloned()
            .chain(missing)
            .map(|spec| (spec.id.clone(), Eni::new(spec)))
            .collect();
        let mut world = Self {
            rules: file.rules.clone(),
            instances: file
                .instances
                .iter()
                .map(|instance| (instance.id.clone(), instance.clone()))
                .collect(),
            enis,
            due: BTreeMap::new(),
            due_count: 0,
            rng: StdRng::seed_from_u64(file.rules.seed),
            journal: CallJournal::default(),
            began: Instant::now(),
            origin: file,
        };
        let mut occupied: BTreeMap<_, usize> =
            world.instances.keys().map(|id| (id.clone(), 0)).collect();
        for instance in world.enis.values().filter_map(|eni| world.place_taken(eni)) {
            *occupied.entry(instance.to_owned()).or_default() += 1;
        }
        for (instance, count) in occupied {
            world.journal.occupancy(&instance, count, 0);
        }
        world
    }

    /// Answers one call at `now`, as ENS does. Calls must come in the order of their times.
    pub fn handle(&mut self, action: Action, params: &Params, now: Instant) -> HttpReply {
        self.advance(now);
        let outcome = match action {
            Action::AttachNetworkInterface => self.attach_call(params, Course::default(), now),
            Action::DetachNetworkInterface => self.detach_call(params, now),
            Action::DescribeNetworkInterfaces => self.describe_interfaces(params, now),
            Action::DescribeInstances => self.describe_instances(params, now),
            Action::StopInstance => self.power(params, RUNNING, "Stopping", STOPPED, now),
            Action::StartInstance => self.power(params, STOPPED, "Starting", RUNNING, now),
        };
        self.reply(outcome)
    }

    /// Answers one Attach, which takes `course` if it is accepted.
    pub fn handle_attach(&mut self, params: &Params, course: Course, now: Instant) -> HttpReply {
        self.advance(now);
        let outcome = self.attach_call(params, course, now);
        self.reply(outcome)
    }

    /// Schedules an unanswered Attach for `at`, subject to ENS's rules at that time.
    pub fn attach_at(&mut self, instance: impl Into<String>, eni: impl Into<String>, at: Instant) {
        self.plan(at, Due::Attach { instance: instance.into(), eni: eni.into() });
    }

    /// An answer with the next request id.
    pub fn reply(&mut self, outcome: Result<Value, Refusal>) -> HttpReply {
        let id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
        HttpReply { request_id: id.to_string().to_uppercase(), outcome }
    }

    /// Applies everything due by `now`.
    pub fn advance(&mut self, now: Instant) {
        while let Some(next) = self.due.first_entry().filter(|next| next.key().0 <= now) {
            let ((at, _), due) = next.remove_entry();
            match due {
                Due::Eni { id, generation, placement } => {
                    if self.enis.get(&id).is_some_and(|eni| eni.generation == generation) {
                        self.place(&id, placement, at);
                    }
                }
                Due::Power { id, from, to } => {
                    if let Some(instance) =
                        self.instances.get_mut(&id).filter(|instance| instance.status == from)
                    {
                        to.clone_into(&mut instance.status);
                    }
                }
                // The caller's connection is gone, so there is no answer.
                Due::Attach { instance, eni } => {
                    drop(self.attach(&instance, &eni, Course::default(), at))
                }
            }
        }
    }

    /// Places an ENI as another party would, without rules. Its changes in flight are cancelled.
    ///
    /// # Errors
    /// `InvalidEniId.NotFound`, or `InstanceNotFound` for an unknown instance.
    pub fn force(&mut self, eni: &str, placement: Placement, now: Instant) -> Result<(), Refusal> {
        self.advance(now);
        if !self.enis.contains_key(eni) {
            return Err(Refusal::ENI_NOT_FOUND);
        }
        if placement
            .instance
            .as_ref()
            .is_some_and(|instance| !self.instances.contains_key(instance))
        {
            return Err(Refusal::INSTANCE_NOT_FOUND);
        }
        self.place(eni, placement, now);
        Ok(())
    }

    /// Sets an instance's status.
    ///
    /// # Errors
    /// `InstanceNotFound` for an unknown instance.
    pub fn force_status(
        &mut self,
        instance: &str,
        status: &str,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let instance = self.instances.get_mut(instance).ok_or(Refusal::INSTANCE_NOT_FOUND)?;
        status.clone_into(&mut instance.status);
        Ok(())
    }

    /// The number of used slots of `instance`.
    #[must_use]
    pub fn occupied(&self, instance: &str) -> usize {
        let counts = |eni: &&Eni| self.rules.count_primary || eni.spec.kind == EniKind::Secondary;
        self.enis.values().filter(counts).filter(|eni| eni.placement().occupies(instance)).count()
    }

    /// An ENI's placement; `None` for an unknown one.
    #[must_use]
    pub fn placement(&self, eni: &str) -> Option<&Placement> {
        self.enis.get(eni).map(Eni::placement)
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &WorldRules {
        &self.rules
    }

    /// Replaces the rules. Calls in flight keep the old ones.
    pub fn set_rules(&mut self, rules: WorldRules) {
        self.rules = rules;
    }

    /// The journal; call [`World::advance`] before to update it.
    #[must_use]
    pub fn journal(&self) -> &CallJournal {
        &self.journal
    }

    pub(super) fn journal_mut(&mut self) -> &mut CallJournal {
        &mut self.journal
    }

    /// The current state as a world file.
    #[must_use]
    pub fn snapshot(&self) -> WorldFile {
        let now = |eni: &Eni| EniSpec { placement: eni.placement().clone(), ..eni.spec.clone() };
        WorldFile {
            rules: self.rules.clone(),
            instances: self.instances.values().cloned().collect(),
            enis: self.enis.values().map(now).collect(),
        }
    }

    /// Resets to the initial world with a new journal. Calls in processing stay counted.
    pub fn reset(&mut self) {
        let journal = std::mem::take(&mut self.journal);
        *self = Self::new(self.origin.clone());
        self.journal.adopt_processing(journal);
    }

    /// Milliseconds since the beginning of this world.
    #[must_use]
    pub fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn plan(&mut self, at: Instant, due: Due) {
        self.due_count += 1;
        self.due.insert((at, self.due_count), due);
    }

    /// Moves an ENI, and records the occupancy of the affected instances.
    fn place(&mut self, id: &str, placement: Placement, at: Instant) {
        let memory = self.rules.lag_by_id.longest().max(self.rules.lag_by_instance.longest());
        let Some(eni) = self.enis.get_mut(id) else {
            return;
        };
        let touched = [eni.placement().instance.clone(), placement.instance.clone()];
        eni.enter(placement, at, memory);
        for instance in touched.into_iter().flatten().collect::<BTreeSet<_>>() {
            self.note_occupancy(&instance, at);
        }
    }

    /// Moves an ENI now, and to `then` after `duration`.
    fn move_through(
        &mut self,
        id: &str,
        now: (Placement, Instant),
        then: Placement,
        duration: Duration,
    ) {
        let (placement, at) = now;
        self.place(id, placement, at);
        let Some(eni) = self.enis.get(id) else { return };
        let due = Due::Eni { id: id.to_owned(), generation: eni.generation, placement: then };
        self.plan(at + duration, due);
    }

    /// The instance on which this ENI uses a slot.
    fn place_taken<'a>(&self, eni: &'a Eni) -> Option<&'a str> {
        let counts = self.rules.count_primary || eni.spec.kind == EniKind::Secondary;
        let placement = eni.placement();
        placement.instance.as_deref().filter(|_| counts && placement.status.occupies())
    }

    fn note_occupancy(&mut self, instance: &str, at: Instant) {
        let (count, at_ms) = (self.occupied(instance), self.millis(at));
        self.journal.occupancy(instance, count, at_ms);
    }
}

/// A success with only the request id.
fn accepted() -> Value {
    json!({})
}

fn primary_of(instance: &Instance) -> EniSpec {
    EniSpec {
        kind: EniKind::Primary,
        network: instance.network.clone(),
        region: instance.region.clone(),
        ..EniSpec::available(format!("eni-primary-{}", instance.id)).on(instance.id.clone())
    }
}

#[cfg(test)]
mod tests;
