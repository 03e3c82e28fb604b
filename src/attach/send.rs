//! The send, under the lock and after the lease check, and the record of its result.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ens::{Ens, EnsRefusal, Outcome};
use crate::failures::{Operation, attach as failures};
use crate::ledger::command::{Reply, SendResult};
use crate::ledger::record::{Attempt, AttemptState};
use crate::ledger::{LedgerStore, SafetyCheck};
use crate::model::{Attachment, Failure, Reason, SendEffect};
use crate::telemetry::metrics::RefusedBy;

use super::AttemptTask;
use super::flow::{NoEffect, Sent, Step};
use super::retry::{LEDGER_PATIENCE, LEDGER_RETRY, THROTTLE_PAUSE};
use super::send_permit::SendPermit;
use super::steps::{Completed, Reserved};
use super::turn::Turn;

/// How long the gateway tries to record a result. By then the tracker has settled the attempt from
/// ENS's status.
const RECORD_FOR: Duration = Duration::from_secs(120);
/// Pause before a retry with fresh credentials.
const CREDENTIALS_PAUSE: Duration = Duration::from_millis(300);

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Sends what is reserved, and reports a definite answer to the session.
    pub(super) async fn send(&mut self, reserved: Reserved, permit: SendPermit) -> Step {
        let (completed, no_effect) = self.send_once(reserved, permit).await;
        self.report_result(&completed);
        let is_awaited = self.turn.as_ref().is_some_and(Turn::is_awaited);
        let hands_over = self.lock.as_ref().is_some_and(|lock| lock.should_hand_over(is_awaited));
        Step::Record(Box::new(Sent {
            completed,
            no_effect,
            release: !hands_over,
            at: Instant::now(),
        }))
    }

    /// Sends once, if the record is confirmed and the lease lasts. Nothing is awaited between that
    /// check and the signature.
    async fn send_once(
        &mut self,
        reserved: Reserved,
        permit: SendPermit,
    ) -> (Completed, Option<NoEffect>) {
        let backends = self.backends().clone();
        let store = backends.ledger.store();
        let confirmation = store.confirm(&self.request.instance, reserved.epoch()).await;
        let confirmed = match reserved.confirmed(confirmation) {
            Ok(confirmed) => confirmed,
            Err((completed, error)) => {
                return (completed, Some((LEDGER_RETRY, failures::unconfirmed(&error))));
            }
        };
        let lasts = self.lock.as_ref().is_some_and(|lock| lock.lasts_for_send());
        let lasts = lasts || !backends.ledger.bounds().enabled(SafetyCheck::Lease);
        let in_flight = match confirmed.check_lease(lasts) {
            Ok(in_flight) => in_flight,
            Err(completed) => return (completed, Some((LEDGER_RETRY, failures::lock_wait(0)))),
        };
        let SendPermit { permit, prepared } = permit;
        let Attempt { instance, eni, .. } = in_flight.attempt();
        let outcome = backends.ens.attach(&prepared, permit.spend(), instance, eni).await;
        let (result, no_effect) = self.send_result(in_flight.attempt(), outcome);
        (in_flight.complete(result), no_effect)
    }

    /// The ledger's result for ENS's answer and, if the send had no effect, the caller's error.
    fn send_result(
        &mut self,
        attempt: &Attempt,
        outcome: Outcome,
    ) -> (SendResult, Option<NoEffect>) {
        let Attempt { instance, eni, uid, .. } = attempt;
        let refused =
            |refusal: &EnsRefusal| Operation::Attach.refused(refusal).about(instance, eni);
        let no_effect =
            |pause, why: Failure| (SendResult::NoEffect, Some((pause, why.about(instance, eni))));
        match outcome {
            Outcome::Accepted { ens_request_id } => (SendResult::Accepted { ens_request_id }, None),
            Outcome::Refused(refusal)
                if refusal.rejects_the_key() && self.retry.try_refresh_credentials() =>
            {
                no_effect(CREDENTIALS_PAUSE, refused(&refusal))
            }
            Outcome::Refused(refusal) => {
                let mut failure = refused(&refusal);
                if failure.reason == Reason::EniLimitExceeded {
                    self.backends().metrics.limit_rejected(RefusedBy::Ens);
                    failure =
                        failure.with("limit", self.backends().ledger.bounds_of(instance).limit);
                }
                (SendResult::Refused(failure), None)
            }
            Outcome::Conflict(refusal) => (SendResult::StatusConflict(refused(&refusal)), None),
            Outcome::Unproven(refusal) => {
                tracing::warn!(%instance, %eni, %uid, code = refusal.code, message = refusal.message,
                    "ens refused an attach by an unlisted code; the attempt settles from the status in ens");
                (SendResult::Unproven(refused(&refusal)), None)
            }
            Outcome::Throttled { refusal, retry_after } => {
                let pause = retry_after.unwrap_or(THROTTLE_PAUSE);
                no_effect(pause, Operation::Attach.throttled(&refusal, Some(pause)))
            }
            Outcome::NotSent { why } => no_effect(THROTTLE_PAUSE, failures::not_sent(&why)),
            Outcome::Unanswered { why, .. } => {
                tracing::warn!(%instance, %eni, %uid, %why, "an attach was not answered; the attempt settles from the status in ens");
                (SendResult::NoResponse, None)
            }
        }
    }

    /// Reports a definite answer to the session, even if the ledger fails before the deadline.
    fn report_result(&self, completed: &Completed) {
        match completed.result() {
            SendResult::Accepted { ens_request_id } => {
                let mut accepted = completed.attempt().clone();
                accepted.ens_request_id.clone_from(ens_request_id);
                accepted.state.advance(AttemptState::Attaching);
                accepted.stamp(accepted.revision, accepted.updated_at);
                self.session.set_result(Ok(accepted.attachment()));
            }
            SendResult::Refused(failure) => self.session.set_result(Err(failure.clone())),
            SendResult::StatusConflict(_)
            | SendResult::Unproven(_)
            | SendResult::NoEffect
            | SendResult::NoResponse => {}
        }
    }

    /// Records the result of a send. The commit also releases the lock, unless another caller takes
    /// it over.
    pub(super) async fn record(&mut self, sent: Box<Sent>) -> Result<Step, Failure> {
        let command = sent.completed.command(sent.release);
        match self.execute(&command).await {
            Ok(answer) => {
                self.end_of_send(&sent);
                let attachment = match answer.reply {
                    Reply::Attempts(attempts) => {
                        attempts.into_iter().next().map(|update| update.attempt.attachment())
                    }
                    _ => None,
                };
                self.after_record(*sent, attachment).await
            }
            Err(error) if sent.at.elapsed() < RECORD_FOR => {
                // The callers behind cannot reach the ledger either.
                let why = Operation::Attach.ledger_unavailable(&error);
                self.set_pending_error(why);
                if sent.at.elapsed() >= LEDGER_PATIENCE {
                    // The caller does not wait for the record either.
                    let answer = self.session.close_for_outage();
                    self.send_answer(answer);
                }
                sleep(LEDGER_RETRY).await;
                Ok(Step::Record(sent))
            }
            Err(error) => {
                let Attempt { instance, eni, uid, .. } = sent.completed.attempt();
                tracing::error!(%instance, %eni, %uid, %error, "the result of a send was not recorded; the tracker settles the attempt from the status in ens");
                self.end_of_send(&sent);
                match sent.completed.result() {
                    SendResult::Refused(failure) => Err(failure.clone()),
                    _ => Ok(Step::AwaitOutcome(sent.pending(true))),
                }
            }
        }
    }

    fn end_of_send(&self, sent: &Sent) {
        if let Some(lock) = self.lock.as_ref().filter(|_| sent.release) {
            lock.reset();
        }
    }

    /// The step after a recorded result. `attachment` is the attempt's current one, `None` if it is
    /// gone.
    async fn after_record(
        &mut self,
        sent: Sent,
        attachment: Option<Attachment>,
    ) -> Result<Step, Failure> {
        let pending = sent.pending(sent.no_effect.is_none());
        match (sent.completed.result(), sent.no_effect, attachment) {
            (SendResult::Refused(failure), ..) => Err(failure.clone()),
            (SendResult::Accepted { .. }, _, Some(attachment)) => {
                Ok(Step::Done(Box::new(attachment)))
            }
            (_, Some((pause, why)), None) => {
                if why.reason.send_effect() != SendEffect::Nothing {
                    self.session.mark_sent(&why);
                }
                self.session.reopen();
                self.pause(pause, why).await?;
                Ok(Step::Prepare)
            }
            // A send without effect was ended by the tracker, whose result stands. Any other counts
            // as a send, and no caller may receive "nothing was sent".
            _ => Ok(Step::AwaitOutcome(pending)),
        }
    }
}
