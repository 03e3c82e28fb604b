//! Everything that may happen next in a situation.

use std::fmt;

use eni_gateway::model::State;

use crate::cloud::{Place, Track};
use crate::plan::{Eni, Plan};
use crate::task::{Step, Task, id};
use crate::world::World;

/// Something that may happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A second passes.
    Tick,
    /// An owner asks the ledger for its next step; the reply may be lost.
    Ask { task: usize, lost: bool },
    /// An owner asked ENS who is on the instance, and hears it: each ENI's place as one of those it had lately.
    Shown { task: usize, places: Vec<Place> },
    /// Redis' replicas confirm a reservation.
    Confirm { task: usize },
    /// An owner sends, if it may.
    Send { task: usize },
    /// An attach reaches ENS, which does as it can; the answer reaches its owner, or is lost.
    Arrive { flying: usize, answered: bool },
    /// ENS refuses an attach for good.
    Refuse { flying: usize },
    /// An attach never reaches ENS.
    Vanish { flying: usize },
    /// An owner waits for its answer no longer.
    TimeOut { task: usize },
    /// An owner dies.
    Crash { task: usize },
    /// The tracker asks ENS for an ENI.
    Look { eni: Eni },
    /// The tracker hears that it is, or was lately, in this place.
    Seen { look: usize, place: Place },
    /// ENS finishes what it accepted, or gives it up.
    Settle { eni: Eni, place: Place },
    /// Others attach it, here or elsewhere.
    ForeignAttach { eni: Eni, place: Place },
    /// Others begin to detach it.
    ForeignDetach { eni: Eni },
    /// The ledger fails over to a server that has all but so many of the last commits.
    FailOver { without: usize },
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
        for (flying, send) in self.flying.iter().enumerate() {
            if self.now <= send.date + plan.bounds.validity.as_secs() {
                actions.push(Action::Arrive { flying, answered: true });
                if self.left.unanswered > 0 {
                    actions.push(Action::Arrive {
                        flying,
                        answered: false,
                    });
                }
                if self.left.refused > 0 {
                    actions.push(Action::Refuse { flying });
                }
            }
            if self.left.unanswered > 0 {
                actions.push(Action::Vanish { flying });
            }
        }
        for (eni, track) in self.cloud.iter().enumerate() {
            self.actions_of_cloud(plan, eni, track, actions);
        }
        for (look, (eni, sent_at)) in self.looks.iter().enumerate() {
            for place in self.cloud[*eni].shown_since(sent_at.saturating_sub(plan.lag())) {
                actions.push(Action::Seen { look, place });
            }
        }
        if self.left.failovers > 0 {
            let newest = self.older.len();
            let least = if plan.synced { self.ghosts.confirmed } else { 0 };
            actions.extend((1..=newest.saturating_sub(least)).map(|without| Action::FailOver { without }));
            actions.push(Action::FailOver { without: 0 });
        }
        if self.left.losses > 0 {
            actions.push(Action::Lose);
        }
        if self.now < self.ends {
            actions.push(Action::Tick);
        }
    }

    fn actions_of(&self, plan: &Plan, index: usize, task: &Task, actions: &mut Vec<Action>) {
        if task.command().is_some() {
            actions.push(Action::Ask {
                task: index,
                lost: false,
            });
            if self.left.lost_commits > 0 {
                actions.push(Action::Ask {
                    task: index,
                    lost: true,
                });
            }
        }
        match &task.step {
            Step::Describe { sent_at } => {
                let from = sent_at.saturating_sub(plan.lag());
                let mut all: Vec<Vec<Place>> = vec![Vec::new()];
                for track in &self.cloud {
                    let shown = track.shown_since(from);
                    all = all
                        .into_iter()
                        .flat_map(|places| shown.iter().map(move |place| [places.clone(), vec![*place]].concat()))
                        .collect();
                }
                actions.extend(all.into_iter().map(|places| Action::Shown { task: index, places }));
            }
            Step::Send { confirmed, .. } => {
                if plan.synced && !confirmed && !plan.unconfirmed {
                    actions.push(Action::Confirm { task: index });
                } else {
                    actions.push(Action::Send { task: index });
                }
            }
            Step::Wait { .. } if self.left.unanswered > 0 => actions.push(Action::TimeOut { task: index }),
            _ => {}
        }
        if self.left.crashes > 0 && !matches!(task.step, Step::Over) {
            actions.push(Action::Crash { task: index });
        }
    }

    fn actions_of_cloud(&self, plan: &Plan, eni: Eni, track: &Track, actions: &mut Vec<Action>) {
        match track.now() {
            Place::Attaching => {
                actions.push(Action::Settle {
                    eni,
                    place: Place::Here,
                });
                if self.left.failed > 0 {
                    actions.push(Action::Settle {
                        eni,
                        place: Place::Free,
                    });
                }
            }
            Place::Detaching => actions.push(Action::Settle {
                eni,
                place: Place::Free,
            }),
            Place::Here | Place::Elsewhere if self.left.foreign_detaches > 0 => {
                actions.push(Action::ForeignDetach { eni });
            }
            Place::Free if self.left.foreign_attaches > 0 => {
                // Whoever attaches beside us looks whether there is room, and leaves us what we have reserved.
                let reserved = self.record.attempts.values().filter(|attempt| attempt.reserved).count();
                // One that comes and goes again while we attach it ourselves looks like ours.
                let ours = plan.wanted.contains(&eni);
                if !ours && self.occupied().count() + reserved + self.flying.len() < plan.bounds.limit {
                    actions.push(Action::ForeignAttach {
                        eni,
                        place: Place::Here,
                    });
                }
                actions.push(Action::ForeignAttach {
                    eni,
                    place: Place::Elsewhere,
                });
            }
            _ => {}
        }
        let known = self.record.attempts.get(&id(eni));
        let interesting = known.is_some_and(|attempt| attempt.attachment.state != State::Failed);
        if interesting && self.looks.len() < plan.looks && !self.looks.contains(&(eni, self.now)) {
            actions.push(Action::Look { eni });
        }
    }
}
