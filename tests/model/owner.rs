//! The steps of an attempt's owner, from `attach::steps`. Anything else may happen between two of
//! them.

use std::mem;

use eni_gateway::attach::steps::ReserveRequest;
use eni_gateway::ledger::SafetyCheck;
use eni_gateway::ledger::command::{Command, Reply, SendResult};
use eni_gateway::model::Ticket;
use uuid::Uuid;

use crate::cloud::Place;
use crate::plan::{NEEDED, Plan, Replica};
use crate::task::{Step, Task};
use crate::world::{Flying, SECOND, START, World, stamp};

impl World {
    /// The place in the ledger's queue, or the lock, of a replica; a new one once it was given up.
    fn ticket(&self, replica: Replica) -> Ticket {
        Ticket(Uuid::from_u128((replica as u128) << 64 | u128::from(self.grants[replica])))
    }

    /// Whether it is at the head of its replica's line.
    pub(crate) fn has_turn(&self, index: usize) -> bool {
        let replica = self.tasks[index].replica;
        self.in_line(replica).next() == Some(index)
    }

    /// Who stands in a replica's line.
    pub(crate) fn in_line(&self, replica: Replica) -> impl Iterator<Item = usize> {
        let waits = move |(_, task): &(usize, &Task)| task.replica == replica && !task.is_over();
        self.tasks.iter().enumerate().filter(waits).map(|(index, _)| index)
    }

    pub(crate) fn ask(&mut self, plan: &Plan, index: usize, lost: bool) {
        let task = &self.tasks[index];
        let asking = match &task.step {
            Step::Asking(asking) => asking.clone(),
            _ => task.asking(self.ticket(task.replica)),
        };
        self.asked(plan, index, asking, lost);
    }

    fn asked(&mut self, plan: &Plan, index: usize, mut asking: ReserveRequest, lost: bool) {
        let reply = self.commit(plan, &asking.command());
        if lost {
            self.left.lost_commits -= 1;
            self.tasks[index].step = Step::Asking(asking);
            return;
        }
        self.tasks[index].step = match asking.on_reply(&reply, &self.ledger.record().epoch) {
            // Without replicas to wait for nothing stands between the two.
            Some(reserved) if !plan.synced || plan.unconfirmed => {
                Step::Confirmed(reserved.confirmed(Ok::<_, ()>(())).unwrap())
            }
            Some(reserved) => Step::Reserved(reserved),
            None if asking.needs_observation() => Step::Describing { asking, sent_at: self.now },
            None => match reply {
                // The poll is the acquire.
                Reply::Queued { .. } | Reply::Granted { .. } | Reply::Recovering(_) => {
                    Step::Waiting
                }
                _ => Step::Over,
            },
        };
        match reply {
            // The queue was emptied with it.
            Reply::CapacityExceeded(_) => self.grants[self.tasks[index].replica] += 1,
            _ => self.steps_aside(plan, index),
        }
    }

    /// A task that is over releases the lock or its ticket if no other task in its line uses it.
    fn steps_aside(&mut self, plan: &Plan, index: usize) {
        let Task { replica, step, .. } = &self.tasks[index];
        let replica = *replica;
        if matches!(step, Step::Over) && self.in_line(replica).next().is_none() {
            let ticket = self.ticket(replica);
            self.commit(plan, &Command::Release { ticket });
            self.grants[replica] += 1;
        }
    }

    /// The caller's deadline ends before its send: it receives that nothing was sent.
    pub(crate) fn leave(&mut self, plan: &Plan, index: usize) {
        self.left.left -= 1;
        let task = &mut self.tasks[index];
        task.step = Step::Over;
        let uid = task.uid();
        self.ghosts.report_unsent(uid);
        self.steps_aside(plan, index);
    }

    /// The answer to a describe of the instance arrives and is recorded.
    pub(crate) fn shown(&mut self, plan: &Plan, index: usize, places: &[Place], lost: bool) {
        let Step::Describing { asking, sent_at } = &self.tasks[index].step else {
            return;
        };
        let (mut asking, sent_at) = (asking.clone(), *sent_at);
        let rows = places.iter().enumerate().filter_map(|(eni, place)| place.row(eni));
        asking.on_observation(stamp(sent_at), rows.collect());
        self.asked(plan, index, asking, lost);
    }

    /// The replicas have what was reserved, if the primary is still the one that it was reserved
    /// at; otherwise it is taken back.
    pub(crate) fn confirm(&mut self, index: usize) {
        let Step::Reserved(reserved) = mem::replace(&mut self.tasks[index].step, Step::Over) else {
            return;
        };
        let newest = self.ledger.epoch.to_string();
        let confirmation = if reserved.epoch() == newest { Ok(()) } else { Err(()) };
        self.tasks[index].step = match reserved.confirmed(confirmation) {
            Ok(confirmed) => {
                self.ledger.confirm();
                Step::Confirmed(confirmed)
            }
            Err((answered, ())) => Step::Answered(answered),
        };
    }

    pub(crate) fn send(&mut self, plan: &Plan, index: usize) {
        let Step::Confirmed(confirmed) = mem::replace(&mut self.tasks[index].step, Step::Over)
        else {
            return;
        };
        // A send that a failover lost was written before it.
        let lost = confirmed.reserved().epoch() != self.ledger.epoch.to_string();
        let lasts = stamp(self.now + NEEDED) <= confirmed.reserved().lease().expires_at;
        let under_way =
            match confirmed.check_lease(lasts || !plan.bounds.enabled(SafetyCheck::Lease)) {
                Ok(under_way) => under_way,
                Err(answered) => {
                    self.tasks[index].step = Step::Answered(answered);
                    return;
                }
            };
        let attempt = under_way.attempt();
        if !lasts {
            let eni = &attempt.eni;
            self.record_violation("L4", format_args!("{eni} is sent, and its lease is over"));
        }
        self.check_send(attempt, lost);
        let written = attempt.last_send().map(|send| (send.at.as_micros() - START) / SECOND);
        self.flying.push(Flying {
            eni: self.tasks[index].eni,
            uid: attempt.uid,
            date: written.unwrap_or(self.now),
            task: Some(index),
        });
        self.tasks[index].step = Step::UnderWay(under_way);
    }

    /// The answer reaches the task that waits for it.
    pub(crate) fn answered(&mut self, index: Option<usize>, answer: SendResult) {
        let Some(index) = index else { return };
        let step = &mut self.tasks[index].step;
        if let Step::UnderWay(under_way) = step {
            *step = Step::Answered(under_way.clone().complete(answer));
        }
    }

    /// Writes the answer, and releases the lock or lets the next one in line go on under it.
    pub(crate) fn write(&mut self, plan: &Plan, index: usize, release: bool, lost: bool) {
        let Step::Answered(answered) = self.tasks[index].step.clone() else {
            return;
        };
        let reply = self.commit(plan, &answered.command(release));
        if lost {
            self.left.lost_commits -= 1;
            return;
        }
        // Taken back, and not ended meanwhile: its caller may begin again.
        let gone = !matches!(reply, Reply::Attempts(attempts) if !attempts.is_empty());
        let task = &mut self.tasks[index];
        if *answered.result() == SendResult::NoEffect && task.resends.is_none() && gone {
            task.taken_back += 1;
            task.step = Step::Waiting;
        } else {
            task.step = Step::Over;
        }
        if release {
            self.grants[task.replica] += 1;
        }
    }
}
