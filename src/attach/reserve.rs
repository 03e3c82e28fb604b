//! The way to a reservation: the lock, a slot and a written send, with a describe of the instance between if nobody asked ENS lately.
//! And how the lock is given up again.

use std::time::Duration;

use tokio::time::Instant;

use crate::ens::Ens;
use crate::ledger::book::Answer;
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Command, Reach, Reply};
use crate::ledger::{BootInstant, Ledger, Unavailable};
use crate::model::{Failure, InstanceId, Uid, random};

use super::describe::DESCRIBE_PAUSE;
use super::gate::{self, Gate};
use super::kit::Kit;
use super::line::Turn;
use super::owner::{Asking, Heard, Reserved};
use super::{Attacher, Attempting, LEDGER_RETRY, Step, failures};

/// How far the way to a reservation led.
pub(super) enum Way {
    /// To its end.
    Reserved(Reserved),
    /// The ledger answered otherwise.
    Otherwise(Box<Answer>),
    /// The instance could not be described. The inner error is worth another try after a pause.
    Undescribed(Result<(Duration, Failure), Failure>),
    /// The ledger could not be reached.
    Unreached(Unavailable),
}

impl<L: Ledger, E: Ens> Attempting<L, E> {
    /// Takes the lock and a slot, asking ENS who is there if nobody did so lately, and sends. What it need not send with goes to `spare`.
    pub(super) async fn reserve(&self, turn: &mut Turn, kit: Kit, spare: &mut Option<Kit>) -> Result<Step, Failure> {
        if let Err(closed) = self.gate.pass() {
            *spare = Some(kit);
            return Err(closed);
        }
        let attacher = &self.attacher;
        // What was taken back may have been ended meanwhile: it does not come again under its old uid.
        let enter = self.enter(turn.ticket(), Uid(random::uuid()), Reach::Reserve);
        let asking = Asking::new(enter);
        let way = attacher
            .reserve(turn, &self.request.instance, asking, Some(&self.gate))
            .await;
        match way {
            Way::Reserved(reserved) => {
                attacher.metrics.lock_waited(self.arrived.elapsed());
                self.send(turn, reserved, kit).await
            }
            Way::Otherwise(answer) => {
                match answer.reply {
                    Reply::Queued { ahead: 1.. } => attacher.budget.give_back(kit.permit).await,
                    _ => *spare = Some(kit),
                }
                self.gate.back();
                if let Reply::Granted { .. } = answer.reply {
                    attacher.give_up(turn, &self.request.instance).await;
                    let why = failures::not_sent("its answer came too late to go by");
                    return Ok(Step::Again(DESCRIBE_PAUSE, why));
                }
                self.without_send(*answer).await
            }
            Way::Undescribed(error) => {
                *spare = Some(kit);
                self.gate.back();
                attacher.give_up(turn, &self.request.instance).await;
                let (pause, why) = error?;
                Ok(Step::Again(pause, why))
            }
            Way::Unreached(error) => {
                *spare = Some(kit);
                if error.maybe_applied {
                    // If it was written the tracker settles it.
                    return Err(gate::outcome_unknown());
                }
                self.gate.back();
                if Instant::now() >= self.gate.deadline() {
                    return self.gate.close().map(|known| Step::Answered(Box::new(known)));
                }
                Ok(Step::Again(LEDGER_RETRY, self.unreached(&error)?))
            }
        }
    }
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Asks the ledger until something is reserved or cannot be, for the caller at this gate if there is one.
    pub(super) async fn reserve(
        &self,
        turn: &mut Turn,
        instance: &InstanceId,
        mut asking: Asking,
        caller: Option<&Gate>,
    ) -> Way {
        loop {
            let command = asking.command();
            let answer = match caller {
                Some(gate) => self.execute_surely(instance, &command, gate).await,
                None => self.book.execute(instance, &command).await,
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Way::Unreached(error),
            };
            turn.hears(&answer);
            match asking.hears(&answer.reply, &answer.record.incarnation) {
                Heard::Reserved(reserved) => return Way::Reserved(reserved),
                Heard::Describe => match self.describe(instance).await {
                    Ok((sent_at, rows)) => asking.saw(sent_at, rows),
                    Err(error) => return Way::Undescribed(error),
                },
                Heard::Nothing => return Way::Otherwise(Box::new(answer)),
            }
        }
    }

    /// Executes a command that may write a send, while the caller waits: one who left, or was told that the outcome is unknown, may call
    /// again, and what he hears then must stay so. An answer that was lost is asked for again until it is known, for the caller may not
    /// be told before that nothing will be sent. What was written all the same the tracker settles.
    async fn execute_surely(
        &self,
        instance: &InstanceId,
        command: &Command,
        gate: &Gate,
    ) -> Result<Answer, Unavailable> {
        let mut in_doubt = false;
        while !gate.is_left() {
            match self.book.execute_until(instance, command, gate.deadline()).await {
                Err(error) if in_doubt || error.maybe_applied => in_doubt = true,
                answer => return answer,
            }
            tokio::time::sleep(LEDGER_RETRY).await;
        }
        Err(match in_doubt {
            true => Unavailable::midway("its answer was lost"),
            false => Unavailable::before("its caller left"),
        })
    }

    /// At the end of a turn: gives up the lock, or the place in the queue, unless somebody in line goes on with it.
    pub(super) async fn step_aside(&self, turn: &mut Turn, instance: &InstanceId) {
        let enough = turn
            .held()
            .is_none_or(|held| BootInstant::now() + self.attempt_timeout + LEASE_MARGIN < held.ends);
        if turn.is_last() || !enough {
            self.give_up(turn, instance).await;
        }
    }

    /// Gives up the lock, or the place in the queue. If the ledger cannot be reached both end by themselves.
    pub(super) async fn give_up(&self, turn: &mut Turn, instance: &InstanceId) {
        if let Some(ticket) = turn.over() {
            // A lease that is not given back lapses.
            let _ = self.book.execute(instance, &Command::Leave { ticket }).await;
        }
    }
}
