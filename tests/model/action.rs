//! Every possible next action in a state.

use std::fmt;

use eni_gateway::model::State;

use crate::cloud::{Place, Track};
use crate::plan::{Eni, Plan, Replica};
use crate::task::{Step, Task, id};
use crate::world::World;

/// Something that may happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A second passes.
    Tick,
    /// An owner asks the ledger for its next step; the reply may be lost.
    Ask { task: usize, lost: bool },
    /// An owner described the instance and receives the answer: each ENI's place is one of those it
    /// had lately. The reply to its recording may be lost.
    Shown { task: usize, places: Vec<Place>, lost: bool },
    /// Redis' replicas confirm a reservation.
    Confirm { task: usize },
    /// An owner sends, if it may.
    Send { task: usize },
    /// An owner writes the answer, and releases the lock or passes it on in its replica; the reply
    /// may be lost.
    Write { task: usize, release: bool, lost: bool },
    /// A caller's deadline ends, and nothing was sent for it.
    Leave { task: usize },
    /// An attach reaches ENS, which does as it can; the answer reaches its owner, or is lost.
    Arrive { flying: usize, answered: bool },
    /// An attach reaches ENS, which applies it if it can, and answers that the ENI's status is
    /// wrong.
    Deny { flying: usize },
    /// An attach reaches ENS, which does as it can, and answers; another delivery of it is on its
    /// way still.
    Replay { flying: usize },
    /// ENS refuses an attach for good.
    Refuse { flying: usize },
    /// ENS throttles an attach.
    Throttle { flying: usize },
    /// An attach never reaches ENS.
    Vanish { flying: usize },
    /// An owner waits for its answer no longer.
    TimeOut { task: usize },
    /// A replica dies.
    Crash { replica: Replica },
    /// The tracker asks ENS for an ENI.
    Describe { eni: Eni },
    /// The tracker receives that it is, or was lately, in this place.
    Seen { describe: usize, place: Place },
    /// ENS finishes what it accepted, or gives it up.
    Settle { eni: Eni, place: Place },
    /// Others attach it, here or elsewhere.
    ExternalAttach { eni: Eni, place: Place },
    /// Others begin to detach it.
    ExternalDetach { eni: Eni },
    /// The ledger fails over to a server that has everything, or only what this older version has.
    FailOver { to: Option<usize> },
    /// The ledger loses everything.
    Lose,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl World {
    pub(crate) fn actions(&self, plan: &Plan, actions: &mut Vec<Action>) {
        for (index, task) in self.tasks.iter().enumerate() {
            self.actions_of(plan, index, task, actions);
        }
        if self.left.crashes > 0 {
            let lives = |replica: &Replica| self.in_line(*replica).next().is_some();
            let replicas = (0..self.grants.len()).filter(lives);
            actions.extend(replicas.map(|replica| Action::Crash { replica }));
        }
        for (flying, send) in self.flying.iter().enumerate() {
            if self.now <= send.date + plan.bounds.validity.as_secs() {
                actions.push(Action::Arrive { flying, answered: true });
                // No task waits for the answer to another delivery.
                if send.task.is_none() {
                    continue;
                }
                if self.left.denied > 0 {
                    actions.push(Action::Deny { flying });
                }
                if self.left.replayed > 0 {
                    actions.push(Action::Replay { flying });
                }
                if self.left.unanswered > 0 {
                    actions.push(Action::Arrive { flying, answered: false });
                }
                if self.left.refused > 0 {
                    actions.push(Action::Refuse { flying });
                }
                if self.left.throttled > 0 {
                    actions.push(Action::Throttle { flying });
                }
            }
            if self.left.unanswered > 0 && send.task.is_some() {
                actions.push(Action::Vanish { flying });
            }
        }
        for (eni, track) in self.cloud.iter().enumerate() {
            self.actions_of_cloud(plan, eni, track, actions);
        }
        for (describe, (eni, sent_at)) in self.describes.iter().enumerate() {
            for place in self.cloud[*eni].shown_since(sent_at.saturating_sub(plan.lag())) {
                actions.push(Action::Seen { describe, place });
            }
        }
        if self.left.failovers > 0 {
            actions.push(Action::FailOver { to: None });
            let older = 0..self.ledger.older.len();
            actions.extend(older.map(|to| Action::FailOver { to: Some(to) }));
        }
        if self.left.losses > 0 {
            actions.push(Action::Lose);
        }
        if self.now < self.ends {
            actions.push(Action::Tick);
        }
    }

    fn actions_of(&self, plan: &Plan, index: usize, task: &Task, actions: &mut Vec<Action>) {
        let may_be_lost: &[bool] = match self.left.lost_commits {
            0 => &[false],
            _ => &[false, true],
        };
        if task.asks() && self.has_turn(index) {
            actions.extend(may_be_lost.iter().map(|lost| Action::Ask { task: index, lost: *lost }));
        }
        match &task.step {
            Step::Waiting if self.left.left > 0 && task.resends.is_none() => {
                actions.push(Action::Leave { task: index })
            }
            Step::Describing { sent_at, .. } => {
                let shown = self.may_be_shown(sent_at.saturating_sub(plan.lag()));
                actions.extend(shown.into_iter().flat_map(|places| {
                    may_be_lost.iter().map(move |lost| Action::Shown {
                        task: index,
                        places: places.clone(),
                        lost: *lost,
                    })
                }));
            }
            Step::Reserved(_) => actions.push(Action::Confirm { task: index }),
            Step::Confirmed(_) => actions.push(Action::Send { task: index }),
            Step::UnderWay(_) if self.left.unanswered > 0 => {
                actions.push(Action::TimeOut { task: index })
            }
            Step::Answered(_) => {
                let passes_on: &[bool] = match self.in_line(task.replica).nth(1) {
                    Some(_) => &[true, false],
                    None => &[true],
                };
                actions.extend(passes_on.iter().flat_map(|release| {
                    may_be_lost.iter().map(move |lost| Action::Write {
                        task: index,
                        release: *release,
                        lost: *lost,
                    })
                }));
            }
            Step::Waiting | Step::Asking(_) | Step::UnderWay(_) | Step::Over => {}
        }
    }

    /// What a describe of the instance may show, of all that was since `from`: each ENI's place by
    /// itself, and as free what has no row.
    fn may_be_shown(&self, from: u64) -> Vec<Vec<Place>> {
        let begin = vec![Vec::new()];
        self.cloud.iter().fold(begin, |all, track| {
            let mut shown = track.shown_since(from);
            for place in shown.iter_mut().filter(|place| !place.occupies()) {
                *place = Place::Free;
            }
            shown.sort_unstable();
            shown.dedup();
            let longer = |places: Vec<Place>| {
                shown.iter().map(move |place| [places.clone(), vec![*place]].concat())
            };
            all.into_iter().flat_map(longer).collect()
        })
    }

    fn actions_of_cloud(&self, plan: &Plan, eni: Eni, track: &Track, actions: &mut Vec<Action>) {
        match track.now() {
            Place::Attaching => {
                actions.push(Action::Settle { eni, place: Place::Here });
                if self.left.failed > 0 {
                    actions.push(Action::Settle { eni, place: Place::Free });
                }
            }
            Place::Detaching => actions.push(Action::Settle { eni, place: Place::Free }),
            Place::Here | Place::Elsewhere if self.left.external_detaches > 0 => {
                actions.push(Action::ExternalDetach { eni });
            }
            Place::Free if self.left.external_attaches > 0 => {
                // One that comes and goes again while we attach it ourselves looks like ours.
                if !plan.wants(eni) {
                    actions.push(Action::ExternalAttach { eni, place: Place::Here });
                }
                actions.push(Action::ExternalAttach { eni, place: Place::Elsewhere });
            }
            _ => {}
        }
        let known = self.ledger.record().attempts.get(&id(eni));
        let interesting = known.is_some_and(|attempt| attempt.state.kind() != State::Failed);
        if interesting
            && self.describes.len() < plan.describes
            && !self.describes.contains(&(eni, self.now))
        {
            actions.push(Action::Describe { eni });
        }
    }
}
