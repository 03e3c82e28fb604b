//! One state, and the effect of each action on it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use eni_gateway::ledger::command::{Command, Reply, SendResult};
use eni_gateway::model::{Timestamp, Uid};

use crate::action::Action;
use crate::checks::Ghosts;
use crate::cloud::{Place, Track};
use crate::equivalence;
use crate::ledger::Ledger;
use crate::plan::{Eni, Faults, Plan};
use crate::task::{Step, Task, conflict, id, refusal};

pub(crate) const SECOND: u64 = 1_000_000;
/// When a world begins, by the ledger's clock.
pub(crate) const START: u64 = 1_000_000_000_000_000;
/// What is there from the beginning is there for so long.
const BEFORE: u64 = 20;

/// An attach on its way to ENS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flying {
    pub(crate) eni: Eni,
    pub(crate) uid: Uid,
    /// Its date: ENS takes it for so long, and no longer.
    pub(crate) date: u64,
    /// The task that waits for the answer. `None` for another delivery of an answered request.
    pub(crate) task: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) ends: u64,
    pub(crate) ledger: Ledger,
    pub(crate) cloud: Vec<Track>,
    pub(crate) tasks: Vec<Task>,
    /// How many grants each replica gave up.
    pub(crate) grants: Vec<u8>,
    pub(crate) flying: Vec<Flying>,
    /// Describes by id on their way: of which ENI, and when they were sent.
    pub(crate) describes: VecDeque<(Eni, u64)>,
    /// ENIs that others attached, and when.
    pub(crate) external: BTreeMap<Eni, u64>,
    pub(crate) left: Faults,
    pub(crate) ghosts: Ghosts,
    pub(crate) violation: Option<String>,
    /// Equal for situations between which nothing decides.
    key: u64,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

pub(crate) fn stamp(time: u64) -> Timestamp {
    Timestamp::from_micros(START + time * SECOND)
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let place = |eni| {
            if plan.attached.contains(&eni) { Place::Here } else { Place::Free }
        };
        let wanted = plan.wanted.iter().enumerate();
        let wanted = wanted.flat_map(|(replica, enis)| enis.iter().map(move |eni| (replica, *eni)));
        let task = |(number, (replica, eni))| Task {
            number: number as u128 + 1,
            eni,
            replica,
            resends: None,
            taken_back: 0,
            step: Step::Waiting,
        };
        let mut world = Self {
            now: BEFORE,
            ends: BEFORE + plan.ticks,
            ledger: Ledger::new(),
            cloud: (0..plan.enis).map(|eni| Track::new(place(eni))).collect(),
            tasks: wanted.enumerate().map(task).collect(),
            grants: vec![0; plan.wanted.len()],
            flying: Vec::new(),
            describes: VecDeque::new(),
            external: plan.attached.iter().map(|eni| (*eni, 0)).collect(),
            left: plan.faults,
            ghosts: Ghosts::default(),
            violation: None,
            key: 0,
        };
        world.key = equivalence::of(&world);
        world
    }

    pub(crate) fn occupied(&self) -> impl Iterator<Item = Eni> {
        let occupies = |(_, track): &(usize, &Track)| track.now().occupies();
        self.cloud.iter().enumerate().filter(occupies).map(|(eni, _)| eni)
    }

    pub(crate) fn after(&self, plan: &Plan, action: &Action) -> Option<Self> {
        let mut world = self.clone();
        world.perform(plan, action);
        world.forget(plan);
        world.key = equivalence::of(&world);
        (world.key != self.key).then_some(world)
    }

    fn perform(&mut self, plan: &Plan, action: &Action) {
        match action {
            Action::Tick => self.tick(plan),
            Action::Ask { task, lost } => self.ask(plan, *task, *lost),
            Action::Shown { task, places, lost } => self.shown(plan, *task, places, *lost),
            Action::Confirm { task } => self.confirm(*task),
            Action::Send { task } => self.send(plan, *task),
            Action::Write { task, release, lost } => self.write(plan, *task, *release, *lost),
            Action::Leave { task } => self.leave(plan, *task),
            Action::TimeOut { task } => {
                self.left.unanswered -= 1;
                self.answered(Some(*task), SendResult::NoResponse);
            }
            Action::Crash { replica } => {
                self.left.crashes -= 1;
                for task in self.tasks.iter_mut().filter(|task| task.replica == *replica) {
                    task.step = Step::Over;
                }
            }
            Action::Arrive { flying, answered } => {
                let send = self.flying.remove(*flying);
                self.arrive(plan, &send, *answered);
            }
            Action::Deny { flying } => {
                self.left.denied -= 1;
                let send = self.flying.remove(*flying);
                self.applies(plan, &send);
                self.answered(send.task, conflict());
            }
            Action::Replay { flying } => {
                self.left.replayed -= 1;
                let send = self.flying.remove(*flying);
                self.arrive(plan, &send, true);
                self.flying.push(Flying { task: None, ..send });
            }
            Action::Refuse { flying } => {
                self.left.refused -= 1;
                let send = self.flying.remove(*flying);
                self.answered(send.task, refusal());
            }
            Action::Throttle { flying } => {
                self.left.throttled -= 1;
                let send = self.flying.remove(*flying);
                self.ghosts.throttled(send.uid);
                self.answered(send.task, SendResult::NoEffect);
            }
            Action::Vanish { flying } => {
                self.left.unanswered -= 1;
                let send = self.flying.remove(*flying);
                self.answered(send.task, SendResult::NoResponse);
            }
            Action::Describe { eni } => self.describes.push_back((*eni, self.now)),
            Action::Seen { describe, place } => {
                if let Some((eni, sent_at)) = self.describes.remove(*describe) {
                    self.seen(plan, eni, sent_at, *place);
                }
            }
            Action::Settle { eni, place } => {
                if self.cloud[*eni].now() == Place::Attaching && *place == Place::Free {
                    self.left.failed -= 1;
                    self.ghosts.forget(*eni);
                }
                self.moves(*eni, *place);
            }
            Action::ExternalAttach { eni, place } => {
                self.left.external_attaches -= 1;
                if *place == Place::Here {
                    self.external.insert(*eni, self.now);
                }
                self.moves(*eni, *place);
            }
            Action::ExternalDetach { eni } => {
                self.left.external_detaches -= 1;
                self.ghosts.forget(*eni);
                let place = match self.cloud[*eni].now() {
                    Place::Elsewhere => Place::Free,
                    _ => Place::Detaching,
                };
                self.moves(*eni, place);
            }
            Action::FailOver { to } => {
                self.left.failovers -= 1;
                self.ledger.fail_over(plan, self.now, *to);
            }
            Action::Lose => {
                self.left.losses -= 1;
                self.ledger.lose(plan, self.now);
            }
        }
    }

    fn tick(&mut self, plan: &Plan) {
        self.now += 1;
        // A request whose time is over is no longer on its way.
        let (now, validity) = (self.now, plan.bounds.validity.as_secs());
        // Another delivery of an answered one comes soon: ENS remembers what it has answered.
        let ends = |send: &Flying| send.date + send.task.map_or(0, |_| validity);
        let late: Vec<Flying> = self.flying.extract_if(.., |send| now > ends(send)).collect();
        for send in late {
            self.answered(send.task, SendResult::NoResponse);
        }
        self.ledger.forget(plan, now);
    }

    /// Forgets what no describe can show any more, of those on their way and those to come.
    fn forget(&mut self, plan: &Plan) {
        let now = self.now;
        let described = self.tasks.iter().filter_map(|task| match task.step {
            Step::Describing { sent_at, .. } => Some(sent_at),
            _ => None,
        });
        let asked = described.chain(self.describes.iter().map(|(_, at)| *at));
        let oldest = asked.fold(now, u64::min).saturating_sub(plan.lag());
        for track in &mut self.cloud {
            track.forget(oldest);
        }
    }

    fn moves(&mut self, eni: Eni, place: Place) {
        if !place.occupies() {
            self.external.remove(&eni);
        }
        let now = self.now;
        self.cloud[eni].moves(now, place);
    }

    /// An attach reaches ENS, which does as it can.
    fn arrive(&mut self, plan: &Plan, send: &Flying, answered: bool) {
        let free = self.applies(plan, send);
        if !answered {
            self.left.unanswered -= 1;
        }
        let answer = match (answered, free) {
            (false, _) => SendResult::NoResponse,
            (true, true) => SendResult::Accepted { ens_request_id: "E".to_owned() },
            (true, false) => conflict(),
        };
        self.answered(send.task, answer);
    }

    /// Whether an attach that has reached ENS takes effect.
    fn applies(&mut self, plan: &Plan, send: &Flying) -> bool {
        let free = self.cloud[send.eni].now() == Place::Free;
        if free {
            self.moves(send.eni, Place::Attaching);
            self.check_effect(plan, send);
        }
        free
    }

    /// The tracker receives an ENI's place. What may be sent again is sent by a task on a new
    /// replica.
    fn seen(&mut self, plan: &Plan, eni: Eni, sent_at: u64, place: Place) {
        let settle = Command::RecordStatuses {
            sent_at: stamp(sent_at),
            observations: vec![(id(eni), place.observation())],
        };
        let Reply::Attempts(attempts) = self.commit(plan, &settle) else {
            return;
        };
        for settled in attempts.into_iter().filter(|settled| settled.resend) {
            let stands_still =
                |task: &Task| plan.stand_still && task.resends.is_none() && task.has_sent();
            let is_active = |task: &Task| task.eni == eni && !task.is_over() && !stands_still(task);
            if !self.tasks.iter().any(is_active) {
                self.tasks.push(Task {
                    number: 10 + self.tasks.len() as u128,
                    eni,
                    replica: self.grants.len(),
                    resends: Some(settled.attempt.uid),
                    taken_back: 0,
                    step: Step::Waiting,
                });
                self.grants.push(0);
            }
        }
    }
}
