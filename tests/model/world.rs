//! One situation, and everything that may happen next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use eni_gateway::ledger::apply::{Context, apply};
use eni_gateway::ledger::bounds::OBSERVATION_LIFE;
use eni_gateway::ledger::command::{Command, Reply, SendAnswer};
use eni_gateway::ledger::invariants::{self, world};
use eni_gateway::ledger::{Partition, Record, Rule};
use eni_gateway::model::{State, Timestamp, Uid};

use crate::action::Action;
use crate::canon;
use crate::cloud::{Place, Track};
use crate::plan::{Eni, NEEDED, Plan, Troubles};
use crate::task::{Step, Task, conflict, id, refusal};

pub(crate) const SECOND: u64 = 1_000_000;
/// When a world begins, by the ledger's clock.
pub(crate) const START: u64 = 1_000_000_000_000_000;

/// An attach on its way to ENS.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    pub(crate) eni: Eni,
    pub(crate) uid: Uid,
    /// Its date: ENS takes it for so long, and no longer.
    pub(crate) date: u64,
    /// Who waits for the answer.
    pub(crate) task: usize,
}

/// What no gateway knows, and the judge needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ghosts {
    /// Copies of each attempt that went out.
    sent: BTreeMap<Uid, usize>,
    /// Attempts of which a copy was applied, whatever became of it later.
    applied: BTreeSet<Uid>,
    /// Attempts of which a copy was applied, and is there still.
    there: BTreeMap<Uid, Eni>,
    /// When each attempt took its slot.
    reserved_at: BTreeMap<Uid, u64>,
    /// The newest version of the record that Redis' replicas have.
    pub(crate) confirmed: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) ends: u64,
    pub(crate) record: Record,
    pub(crate) incarnation: u32,
    pub(crate) hold_until: u64,
    /// What a failover may bring back, and until when it was the newest.
    pub(crate) older: Vec<(u64, Record)>,
    pub(crate) cloud: Vec<Track>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) flying: Vec<Flying>,
    /// Describes by id on their way: of which ENI, and when they were sent.
    pub(crate) looks: Vec<(Eni, u64)>,
    /// ENIs that others attached, and when.
    pub(crate) foreign: BTreeMap<Eni, u64>,
    pub(crate) left: Troubles,
    pub(crate) ghosts: Ghosts,
    pub(crate) breach: Option<String>,
    canon: Arc<str>,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.canon == other.canon
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canon.hash(state);
    }
}

fn stamp(time: u64) -> Timestamp {
    Timestamp::from_micros(START + time * SECOND)
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let place = |eni| {
            if plan.attached.contains(&eni) {
                Place::Here
            } else {
                Place::Free
            }
        };
        let task = |(number, eni): (usize, &Eni)| Task {
            number: number as u128 + 1,
            eni: *eni,
            resends: None,
            step: Step::Enter,
        };
        let mut world = Self {
            now: 0,
            ends: plan.ticks,
            record: Record::default(),
            incarnation: 1,
            hold_until: 0,
            older: Vec::new(),
            cloud: (0..plan.enis).map(|eni| Track::new(place(eni))).collect(),
            tasks: plan.wanted.iter().enumerate().map(task).collect(),
            flying: Vec::new(),
            looks: Vec::new(),
            foreign: plan.attached.iter().map(|eni| (*eni, 0)).collect(),
            left: plan.troubles,
            ghosts: Ghosts::default(),
            breach: None,
            canon: "".into(),
        };
        // What was there from the beginning was there for long.
        world.now = 20;
        world.ends += 20;
        world.canon = canon::of(&world).into();
        world
    }

    pub(crate) fn ticks_left(&self) -> u64 {
        self.ends - self.now
    }

    pub(crate) fn occupied(&self) -> impl Iterator<Item = Eni> {
        let occupies = |(_, track): &(usize, &Track)| track.now().occupies();
        self.cloud.iter().enumerate().filter(occupies).map(|(eni, _)| eni)
    }

    pub(crate) fn after(&self, plan: &Plan, action: &Action) -> Option<Self> {
        let mut world = self.clone();
        world.perform(plan, action);
        world.canon = canon::of(&world).into();
        (world.canon != self.canon).then_some(world)
    }

    fn perform(&mut self, plan: &Plan, action: &Action) {
        match action {
            Action::Tick => self.tick(plan),
            Action::Ask { task, lost } => {
                let command = self.tasks[*task].command().expect("it asks");
                let reply = self.commit(plan, &command);
                if *lost {
                    self.left.lost_commits -= 1;
                } else {
                    self.hears(*task, &reply);
                }
            }
            Action::Shown { task, places } => self.shown(plan, *task, places),
            Action::Confirm { task } => self.confirm(*task),
            Action::Send { task } => self.send(plan, *task),
            Action::Arrive { flying, answered } => self.arrive(plan, *flying, *answered),
            Action::Refuse { flying } => {
                self.left.refused -= 1;
                let send = self.flying.remove(*flying);
                self.tell(&send, refusal());
            }
            Action::Vanish { flying } => {
                self.left.unanswered -= 1;
                let send = self.flying.remove(*flying);
                self.tell(&send, SendAnswer::Unanswered);
            }
            Action::TimeOut { task } => {
                self.left.unanswered -= 1;
                let task = &mut self.tasks[*task];
                if let Step::Wait { hold, attempt } = task.step.clone() {
                    let answer = SendAnswer::Unanswered;
                    task.step = Step::Answer { hold, attempt, answer };
                }
            }
            Action::Crash { task } => {
                self.left.crashes -= 1;
                self.tasks[*task].step = Step::Over;
            }
            Action::Look { eni } => self.looks.push((*eni, self.now)),
            Action::Seen { look, place } => {
                let (eni, sent_at) = self.looks.remove(*look);
                self.seen(plan, eni, sent_at, *place);
            }
            Action::Settle { eni, place } => {
                if self.cloud[*eni].now() == Place::Attaching && *place == Place::Free {
                    self.left.failed -= 1;
                    self.ghosts.there.retain(|_, there| there != eni);
                }
                self.moves(*eni, *place);
            }
            Action::ForeignAttach { eni, place } => {
                self.left.foreign_attaches -= 1;
                if *place == Place::Here {
                    self.foreign.insert(*eni, self.now);
                }
                self.moves(*eni, *place);
            }
            Action::ForeignDetach { eni } => {
                self.left.foreign_detaches -= 1;
                self.ghosts.there.retain(|_, there| there != eni);
                let place = match self.cloud[*eni].now() {
                    Place::Elsewhere => Place::Free,
                    _ => Place::Detaching,
                };
                self.moves(*eni, place);
            }
            Action::FailOver { without } => {
                self.left.failovers -= 1;
                for _ in 0..*without {
                    self.record = self.older.pop().expect("there are so many").1;
                }
                self.older.clear();
                self.ghosts.confirmed = 0;
                self.incarnation += 1;
                if !plan.synced {
                    self.hold(plan);
                }
            }
            Action::Lose => {
                self.left.losses -= 1;
                self.record = Record::default();
                self.older.clear();
                self.ghosts.confirmed = 0;
                self.incarnation += 1;
                self.hold(plan);
            }
        }
    }

    fn hears(&mut self, task: usize, reply: &Reply) {
        let (incarnation, now) = (self.record.incarnation.clone(), self.now);
        self.tasks[task].hears(reply, &incarnation, now);
    }

    /// The replicas have what was reserved, if the primary is still the one that it was reserved at; otherwise it is taken back.
    fn confirm(&mut self, task: usize) {
        let newest = self.incarnation.to_string();
        let step = &mut self.tasks[task].step;
        let Step::Send {
            lease,
            attempt,
            incarnation,
            confirmed,
        } = step
        else {
            return;
        };
        if *incarnation == newest {
            *confirmed = true;
            self.ghosts.confirmed = self.older.len();
        } else {
            *step = Step::Answer {
                hold: lease.hold,
                attempt: attempt.clone(),
                answer: SendAnswer::Void,
            };
        }
    }

    fn hold(&mut self, plan: &Plan) {
        self.hold_until = self.now + plan.bounds.hold().as_secs();
    }

    fn tick(&mut self, plan: &Plan) {
        self.now += 1;
        // A request whose time is over is no longer on its way.
        let validity = plan.bounds.validity.as_secs();
        let (now, late): (u64, Vec<Flying>) = (
            self.now,
            self.flying
                .extract_if(.., |send| self.now > send.date + validity)
                .collect(),
        );
        for send in late {
            self.tell(&send, SendAnswer::Unanswered);
        }
        let window = plan.bounds.failover_window.as_secs();
        let gone = self.older.iter().take_while(|(until, _)| until + window < now).count();
        self.older.drain(..gone);
        self.ghosts.confirmed = self.ghosts.confirmed.saturating_sub(gone);
        let oldest = self.looks.iter().map(|(_, at)| *at).min().unwrap_or(now);
        let described = self.tasks.iter().filter_map(|task| match task.step {
            Step::Describe { sent_at } => Some(sent_at),
            _ => None,
        });
        let oldest = described.fold(oldest, u64::min).saturating_sub(plan.lag());
        for track in &mut self.cloud {
            track.forget(oldest);
        }
    }

    fn moves(&mut self, eni: Eni, place: Place) {
        if !place.occupies() {
            self.foreign.remove(&eni);
        }
        let now = self.now;
        self.cloud[eni].moves(now, place);
    }

    fn breaks(&mut self, invariant: &str, what: impl fmt::Display) {
        self.breach.get_or_insert(format!("{invariant}: {what}"));
    }

    /// One commit: what `apply` makes of the command, judged.
    fn commit(&mut self, plan: &Plan, command: &Command) -> Reply {
        let partition = Partition {
            incarnation: self.incarnation.to_string(),
            hold_until: stamp(self.hold_until),
        };
        let context = Context {
            bounds: &plan.bounds,
            instance: &"i-1".parse().unwrap(),
            partition: &partition,
            request: None,
            now: stamp(self.now),
        };
        let step = apply(&self.record, command, context);
        if step.changed {
            for breach in invariants::check(&self.record, &step.record, &plan.bounds) {
                self.breaks(breach.id(), format!("{breach:?}"));
            }
            self.judge(plan, &step.record);
            let before = std::mem::replace(&mut self.record, step.record);
            if plan.troubles.failovers > 0 {
                self.older.push((self.now, before));
            }
        }
        step.reply
    }

    /// What a new record must not say, for all that the world knows.
    fn judge(&mut self, plan: &Plan, after: &Record) {
        for (eni, attempt) in &after.attempts {
            let before = self
                .record
                .attempts
                .get(eni)
                .filter(|before| before.uid() == attempt.uid());
            let (state, uid) = (attempt.attachment.state, attempt.uid());
            let was = before.map(|before| before.attachment.state);
            if before.is_none() && attempt.ours && state == State::Pending {
                self.ghosts.reserved_at.insert(uid, self.now);
            }
            if let Some(before) = before.filter(|before| before.sends.len() < attempt.sends.len()) {
                let asked = before.described_at.zip(before.last_send());
                if asked.is_none_or(|(described, send)| described < send.at + plan.bounds.lag) {
                    self.breaks("L6", format_args!("{eni} may be sent again, and ENS was not asked"));
                }
            }
            let ours = attempt.ours && was.is_some_and(|was| was != state);
            let (applied, there) = (self.ghosts.applied.contains(&uid), self.ghosts.there.contains_key(&uid));
            if ours && state == State::Attached && !applied && was != Some(State::Attached) && !self.is_foreign(eni) {
                self.breaks("A1", format_args!("{eni} is called attached, and nothing was applied"));
            }
            if ours && state == State::Failed && !world::agrees(state, there) {
                self.breaks("A1", format_args!("{eni} is called failed, and it is attached"));
            }
        }
    }

    fn is_foreign(&self, eni: &eni_gateway::model::InterfaceId) -> bool {
        self.foreign.keys().any(|foreign| id(*foreign) == *eni)
    }

    fn shown(&mut self, plan: &Plan, task: usize, places: &[Place]) {
        let Step::Describe { sent_at } = self.tasks[task].step else {
            return;
        };
        let rows = places.iter().enumerate().filter_map(|(eni, place)| place.sight(eni));
        let observe = Command::Observe {
            sent_at: stamp(sent_at),
            rows: rows.collect(),
            then: Some(Box::new(self.tasks[task].enter())),
        };
        let reply = self.commit(plan, &observe);
        self.hears(task, &reply);
        // Stale at birth: it enters anew.
        if matches!(
            reply,
            Reply::Granted { .. } | Reply::Queued { .. } | Reply::Recovering(_)
        ) {
            self.tasks[task].step = Step::Enter;
        }
    }

    fn send(&mut self, plan: &Plan, index: usize) {
        let Step::Send { lease, attempt, .. } = self.tasks[index].step.clone() else {
            return;
        };
        let lasts = stamp(self.now + NEEDED) <= lease.expires_at;
        if !lasts && plan.bounds.rules.hold(Rule::Lease) {
            self.tasks[index].step = Step::Answer {
                hold: lease.hold,
                attempt,
                answer: SendAnswer::Void,
            };
            return;
        }
        if !lasts {
            self.breaks(
                "L4",
                format_args!("{} is sent, and its lease is over", attempt.attachment.eni),
            );
        }
        let uid = attempt.uid();
        let sent = self.ghosts.sent.entry(uid).or_default();
        *sent += 1;
        let sent = *sent;
        let written = self.record.attempts.get(&attempt.attachment.eni);
        let written = written
            .filter(|written| written.uid() == uid)
            .map(|written| written.sends.len());
        if written.is_some_and(|written| written < sent) {
            self.breaks(
                "L2",
                format_args!(
                    "{sent} copies of {} went out, and fewer are written",
                    attempt.attachment.eni
                ),
            );
        }
        let date = attempt
            .last_send()
            .map_or(self.now, |send| (send.at.as_micros() - START) / SECOND);
        self.flying.push(Flying {
            eni: self.tasks[index].eni,
            uid,
            date,
            task: index,
        });
        self.tasks[index].step = Step::Wait {
            hold: lease.hold,
            attempt,
        };
    }

    fn arrive(&mut self, plan: &Plan, flying: usize, answered: bool) {
        let send = self.flying.remove(flying);
        let free = self.cloud[send.eni].now() == Place::Free;
        if free {
            self.moves(send.eni, Place::Attaching);
            self.ghosts.applied.insert(send.uid);
            self.ghosts.there.insert(send.uid, send.eni);
            self.count(plan, &send);
        }
        if !answered {
            self.left.unanswered -= 1;
        }
        let answer = match (answered, free) {
            (false, _) => SendAnswer::Unanswered,
            (true, true) => SendAnswer::Accepted {
                ens_request_id: "E".to_owned(),
            },
            (true, false) => conflict(),
        };
        self.tell(&send, answer);
    }

    /// Whether ENS now holds more than the limit because of this send. What others attached so lately that no describe need have
    /// shown it at the reservation is not our doing.
    fn count(&mut self, plan: &Plan, send: &Flying) {
        let reserved_at = self.ghosts.reserved_at.get(&send.uid).copied().unwrap_or_default();
        let hidden = plan.lag() + OBSERVATION_LIFE.as_secs();
        let counts = |eni: &Eni| self.foreign.get(eni).is_none_or(|since| since + hidden < reserved_at);
        let occupied = self.occupied().filter(counts).count();
        if !world::within_limit(occupied, plan.bounds.limit) {
            self.breaks(
                "L1",
                format_args!("ens holds {occupied}, and the limit is {}", plan.bounds.limit),
            );
        }
    }

    /// The answer reaches whoever waits for it.
    fn tell(&mut self, send: &Flying, answer: SendAnswer) {
        let task = &mut self.tasks[send.task];
        if let Step::Wait { hold, attempt } = task.step.clone() {
            task.step = Step::Answer { hold, attempt, answer };
        }
    }

    fn seen(&mut self, plan: &Plan, eni: Eni, sent_at: u64, place: Place) {
        let settle = Command::Settle {
            sent_at: stamp(sent_at),
            findings: vec![(id(eni), place.finding())],
        };
        let Reply::Attempts(attempts) = self.commit(plan, &settle) else {
            return;
        };
        for settled in attempts.into_iter().filter(|settled| settled.resend) {
            let uid = settled.attempt.uid();
            let under_way = self
                .tasks
                .iter()
                .any(|task| task.eni == eni && !matches!(task.step, Step::Over));
            if !under_way {
                let number = 10 + self.tasks.len() as u128;
                self.tasks.push(Task {
                    number,
                    eni,
                    resends: Some(uid),
                    step: Step::Enter,
                });
            }
        }
    }
}
