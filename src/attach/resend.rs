//! Another send of an attempt that went unanswered, on the tracker's behalf: the steps of a first one, under the same reservation.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ens::{Ens, Purpose};
use crate::ledger::Ledger;
use crate::ledger::command::{Command, Reply};
use crate::ledger::record::Attempt;
use crate::model::Failure;

use super::gate::Gate;
use super::kit::Kit;
use super::line::Turn;
use super::owner::Asking;
use super::reserve::Way;
use super::{Attacher, next_round, poll_pause};

/// How long it may wait for its permit and the lock; then the attempt falls due again.
const WITHIN: Duration = Duration::from_secs(30);

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Sends an attempt again that went unanswered and that ENS, asked since, shows free: with permit, lock and lease check as
    /// for a first send. Where that cannot be had in time the attempt falls due again.
    pub async fn resend(self: &Arc<Self>, attempt: &Attempt) {
        let instance = &attempt.attachment.instance;
        let gate = Gate::new(Instant::now() + WITHIN);
        let line = self.lines.of(instance);
        let Ok(mut turn) = gate.bound(line.turn()).await else {
            return;
        };
        let mut kit = Kit::default();
        // What a resend comes to stands in the record.
        let _ = self.try_resend(&gate, &mut turn, &mut kit, attempt).await;
        self.put_down(&mut kit).await;
        self.step_aside(&mut turn, instance).await;
    }

    /// Every wait ends with the gate; what is reserved is sent.
    async fn try_resend(&self, gate: &Gate, turn: &mut Turn, kit: &mut Kit, attempt: &Attempt) -> Result<(), Failure> {
        let instance = &attempt.attachment.instance;
        let mut hint = self.book.ledger().hints().subscribe(instance);
        loop {
            let equipped = match self.equip_now(kit).await? {
                Some(equipped) => equipped,
                None => {
                    self.give_up(turn, instance).await;
                    self.equip(kit, gate).await?
                }
            };
            let asking = Asking::new(Command::Resend {
                ticket: turn.ticket(),
                uid: attempt.uid(),
                eni: attempt.attachment.eni.clone(),
            });
            let way = self.reserve(turn, instance, asking, &mut kit.describe, None).await;
            if let Way::Reserved(reserved) = way {
                let sent = self.send_once(turn, reserved, equipped, || false).await;
                // Written or not: the tracker goes on from the record.
                let _ = self.write(turn, &sent.answered).await;
                return Ok(());
            }
            kit.send = Some(equipped);
            match way {
                Way::Otherwise(answer) if matches!(answer.reply, Reply::Queued { .. }) => {
                    self.put_down_probes(kit).await;
                    gate.bound(next_round(&mut hint, poll_pause())).await?;
                }
                Way::Unpermitted => {
                    self.give_up(turn, instance).await;
                    self.put_down_probes(kit).await;
                    kit.describe = Some(self.permit(Purpose::Describe, gate).await?);
                }
                _ => return Ok(()),
            }
        }
    }
}
