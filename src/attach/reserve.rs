//! The way to a reservation: the lock, a slot and a written send, with a describe of the instance between if nobody asked ENS lately.
//! And how the lock is given up again.

use std::time::Duration;

use tokio::time::Instant;

use crate::ens::{Ens, Permit, Purpose};
use crate::ledger::book::Answer;
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Command, Reach, Reply};
use crate::ledger::{BootInstant, Ledger, Unavailable};
use crate::model::{Failure, InstanceId, Uid, random};

use super::describe::DESCRIBE_PAUSE;
use super::gate::{self, Gate};
use super::kit::{Kit, SendKit};
use super::line::Turn;
use super::owner::{Asking, Heard, Reserved};
use super::{Attacher, Attempting, LEDGER_RETRY, Step, failures};

/// How far the way to a reservation led.
pub(super) enum Way {
    /// To its end.
    Reserved(Reserved),
    /// The ledger answered otherwise.
    Otherwise(Box<Answer>),
    /// The instance must be described, and no permit for that is at hand.
    Unpermitted,
    /// The instance could not be described. The inner error is worth another try after a pause.
    Undescribed(Result<(Duration, Failure), Failure>),
    /// The ledger could not be reached.
    Unreached(Unavailable),
    /// The caller left, or has too little time left.
    Closed(Failure),
}

impl<L: Ledger, E: Ens> Attempting<L, E> {
    /// Takes the lock and a slot, asking ENS who is there if nobody did so lately, and sends. What it need not send with stays in the
    /// kit.
    pub(super) async fn reserve(&self, turn: &mut Turn, equipped: SendKit, kit: &mut Kit) -> Result<Step, Failure> {
        let (attacher, instance) = (&self.attacher, &self.request.instance);
        // What was taken back may have been ended meanwhile: it does not come again under its old uid.
        let enter = self.enter(turn.ticket(), Uid(random::uuid()), Reach::Reserve);
        let asking = Asking::new(enter);
        let way = attacher
            .reserve(turn, instance, asking, &mut kit.describe, Some(&self.gate))
            .await;
        if let Way::Reserved(reserved) = way {
            attacher.metrics.lock_waited(self.arrived.elapsed());
            return self.send(turn, reserved, equipped).await;
        }
        kit.send = Some(equipped);
        match way {
            Way::Reserved(_) => Ok(Step::Further),
            Way::Closed(failure) => Err(failure),
            Way::Otherwise(answer) if matches!(answer.reply, Reply::Granted { .. }) => {
                attacher.give_up(turn, instance).await;
                let why = failures::not_sent("its answer came too late to go by");
                Ok(Step::Again(DESCRIBE_PAUSE, why))
            }
            Way::Otherwise(answer) => self.without_send(turn, *answer).await,
            Way::Unpermitted => {
                attacher.give_up(turn, instance).await;
                attacher.put_down_probes(kit).await;
                kit.describe = Some(attacher.permit(Purpose::Describe, &self.gate).await?);
                Ok(Step::Further)
            }
            Way::Undescribed(error) => {
                attacher.give_up(turn, instance).await;
                let (pause, why) = error?;
                Ok(Step::Again(pause, why))
            }
            // If it was written the tracker settles it.
            Way::Unreached(error) if error.maybe_applied => Err(gate::outcome_unknown()),
            Way::Unreached(_) if Instant::now() >= self.gate.deadline() => {
                self.gate.close().map(|known| Step::Answered(Box::new(known)))
            }
            Way::Unreached(error) => Ok(Step::Again(LEDGER_RETRY, self.gate.unreached(&error)?)),
        }
    }
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Asks the ledger until something is reserved or cannot be, for the caller at this gate if there is one. The gate counts as passed
    /// only while a command that may write a send is on its way, and once one is written. For a describe it uses the permit that was
    /// brought along, or one that is at hand.
    pub(super) async fn reserve(
        &self,
        turn: &mut Turn,
        instance: &InstanceId,
        mut asking: Asking,
        describe: &mut Option<Permit>,
        caller: Option<&Gate>,
    ) -> Way {
        loop {
            if let Some(Err(closed)) = caller.map(Gate::pass) {
                return Way::Closed(closed);
            }
            let command = asking.command();
            let answer = match caller {
                Some(gate) => self.execute_surely(instance, &command, gate).await,
                None => self.book.execute(instance, &command).await,
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    if let (Some(gate), false) = (caller, error.maybe_applied) {
                        gate.back();
                    }
                    return Way::Unreached(error);
                }
            };
            if let Some(gate) = caller {
                gate.reached();
            }
            turn.hears(&answer);
            let heard = match asking.hears(&answer.reply, &answer.record.incarnation) {
                Heard::Reserved(reserved) => return Way::Reserved(reserved),
                heard => heard,
            };
            if let Some(gate) = caller {
                gate.back();
            }
            if !matches!(heard, Heard::Describe) {
                return Way::Otherwise(Box::new(answer));
            }
            let permit = match describe.take() {
                Some(permit) => permit,
                None => match self.budget.try_permit(Purpose::Describe).await {
                    Ok(permit) => permit,
                    Err(_) => return Way::Unpermitted,
                },
            };
            if let Some(gate) = caller {
                gate.blocked_by(failures::not_sent("its answer about the instance did not come in time"));
            }
            match self.describe(instance, permit).await {
                Ok((sent_at, rows)) => asking.saw(sent_at, rows),
                Err(error) => return Way::Undescribed(error),
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
                Err(error) if in_doubt || error.maybe_applied => {
                    in_doubt = true;
                    gate.blocked_by(failures::unavailable(&error));
                }
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
