//! Another send of an attempt that went unanswered, on the tracker's behalf: the steps of a first one, under the same reservation.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::ledger::command::{Command, Reply};
use crate::ledger::record::Attempt;
use crate::model::Failure;
use crate::rate_limit::RateClass;

use super::caller_session::CallerSession;
use super::lock_queue::QueueGuard;
use super::reserve::ReserveOutcome;
use super::send_permit::SendPermits;
use super::steps::ReserveRequest;
use super::{Attacher, next_round, poll_pause};

/// How long it may wait for its permit and the lock; then the attempt falls due again.
const WITHIN: Duration = Duration::from_secs(30);

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Sends an attempt again that went unanswered and that ENS, asked since, shows free: with permit, lock and lease check as
    /// for a first send. Where that cannot be had in time the attempt falls due again.
    pub async fn resend(self: &Arc<Self>, attempt: &Attempt) {
        let instance = &attempt.attachment.instance;
        let session = CallerSession::new(Instant::now() + WITHIN);
        let line = self.queues.of(instance);
        let Ok(mut guard) = session.until_deadline(line.lock()).await else {
            return;
        };
        let mut permits = SendPermits::default();
        // What a resend comes to stands in the record.
        let _ = self.try_resend(&session, &mut guard, &mut permits, attempt).await;
        self.return_permits(&mut permits).await;
        self.release_if_idle(&mut guard, instance).await;
    }

    /// Every wait ends with the session; what is reserved is sent.
    async fn try_resend(
        &self,
        session: &CallerSession,
        guard: &mut QueueGuard,
        permits: &mut SendPermits,
        attempt: &Attempt,
    ) -> Result<(), Failure> {
        let instance = &attempt.attachment.instance;
        let mut changes = self.ledger.store().changes().subscribe(instance);
        loop {
            let permit_for_send = match self.try_prepare_send(permits).await? {
                Some(permit_for_send) => permit_for_send,
                None => {
                    self.release(guard, instance).await;
                    self.prepare_send(permits, session).await?
                }
            };
            let reserving = ReserveRequest::new(Command::Resend {
                ticket: guard.ticket(),
                uid: attempt.uid(),
                eni: attempt.attachment.eni.clone(),
            });
            let outcome = self
                .reserve(guard, instance, reserving, &mut permits.describe, None)
                .await;
            if let ReserveOutcome::Reserved(reserved) = outcome {
                let sent = self.send_once(guard, reserved, permit_for_send, || false).await;
                // Recorded or not: the tracker continues from the record.
                let _ = self.write(guard, &sent.completed).await;
                return Ok(());
            }
            permits.send = Some(permit_for_send);
            match outcome {
                ReserveOutcome::Denied(answer) if matches!(answer.reply, Reply::Queued { .. }) => {
                    self.return_probes(permits).await;
                    session.until_deadline(next_round(&mut changes, poll_pause())).await?;
                }
                ReserveOutcome::NoDescribePermit => {
                    self.release(guard, instance).await;
                    self.return_probes(permits).await;
                    permits.describe = Some(self.permit(RateClass::Describe, session).await?);
                }
                _ => return Ok(()),
            }
        }
    }
}
