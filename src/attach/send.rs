//! The send itself: under the lock, with the lease checked last, and its answer written whatever it takes.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::ens::{Ens, EnsRefusal, Outcome};
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Reply, SendResult};
use crate::ledger::record::Attempt;
use crate::ledger::{BootInstant, LedgerError, LedgerStore};
use crate::model::{Attachment, Failure, Reason, SendEffect, State};
use crate::telemetry::metrics::RefusedBy;

use super::caller_session::LEDGER_PATIENCE;
use super::lock_queue::QueueGuard;
use super::send_permit::SendPermit;
use super::steps::{Completed, Reserved};
use super::{Attacher, AttemptStep, AttemptTask, LEDGER_RETRY, PendingOutcome, failures};

/// How long the answer of a send is tried to be written: past every bound after which the tracker has settled it from ENS's own
/// status.
const WRITE_FOR: Duration = Duration::from_secs(120);
/// The pause after a throttling answer without a time of its own.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);

/// The pause before an attach is sent again with fresh credentials.
const CREDENTIALS_PAUSE: Duration = Duration::from_millis(300);

/// Why it is as if never sent, and how long to wait before another try.
type RetryReason = (Duration, Failure);

/// What a send came to, for the ledger and for the caller.
pub(super) struct SendOutcome {
    pub(super) completed: Completed,
    retry: Option<RetryReason>,
}

impl SendOutcome {
    fn void(answered: Completed, pause: Duration, why: Failure) -> Self {
        let void = Some((pause, why));
        Self {
            completed: answered,
            retry: void,
        }
    }
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Sends what was reserved, and the ledger remembers even if it fails over, and writes the answer.
    pub(super) async fn send(
        &self,
        guard: &mut QueueGuard,
        reserved: Reserved,
        permits: SendPermit,
    ) -> Result<AttemptStep, Failure> {
        let retry = || self.session.try_refresh_credentials();
        let SendOutcome {
            completed: answered,
            retry: void,
        } = self.attacher.send_once(guard, reserved, permits, retry).await;
        self.report_result(&answered);
        let written = {
            let write = self.attacher.write(guard, &answered);
            tokio::pin!(write);
            match timeout(LEDGER_PATIENCE, &mut write).await {
                Ok(written) => written,
                Err(_) => {
                    self.session.report_ledger_lost();
                    write.await
                }
            }
        };
        let uid = answered.attempt().uid();
        match (answered.answer(), void, written) {
            (SendResult::Refused(failure), ..) => Err(failure.clone()),
            (SendResult::Accepted { .. }, _, Ok(Some(attachment))) => Ok(AttemptStep::Done(Box::new(attachment))),
            (_, Some((pause, why)), Ok(None)) => {
                if why.reason.send_effect() != SendEffect::Nothing {
                    self.session.mark_sent(&why);
                }
                self.session.reopen();
                Ok(AttemptStep::Retry(pause, why))
            }
            // The tracker was faster, and ended it: that stands.
            (_, Some(_), Ok(Some(_))) => Ok(AttemptStep::AwaitOutcome(PendingOutcome { uid, sent: false })),
            // The ledger still counts it as a send and settles it as one: no caller may receive "nothing was sent".
            _ => Ok(AttemptStep::AwaitOutcome(PendingOutcome { uid, sent: true })),
        }
    }

    /// A definite answer is the caller's even if the ledger cannot be reached before the deadline.
    fn report_result(&self, answered: &Completed) {
        match answered.answer() {
            SendResult::Accepted { ens_request_id } => {
                let mut attachment = answered.attempt().attachment.clone();
                let (revision, time) = (attachment.revision, attachment.updated_at);
                attachment.ens_request_id.clone_from(ens_request_id);
                attachment.enter(State::Attaching, revision, time);
                self.session.set_result(Ok(attachment));
            }
            SendResult::Refused(failure) => self.session.set_result(Err(failure.clone())),
            SendResult::StatusConflict(_) | SendResult::Unproven(_) | SendResult::NoEffect | SendResult::NoResponse => {
            }
        }
    }
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// One send, if the ledger will remember it whatever happens, and the lease lasts for it. Nothing is awaited between this last
    /// check and the signature. `retry`: whether it is sent again with fresh credentials where ENS refuses these.
    pub(super) async fn send_once(
        &self,
        guard: &QueueGuard,
        reserved: Reserved,
        permits: SendPermit,
        retry: impl FnOnce() -> bool,
    ) -> SendOutcome {
        let instance = &reserved.attempt().attachment.instance;
        let confirmation = self.ledger.store().confirm(instance, reserved.epoch()).await;
        let confirmed = match reserved.confirmed(confirmation) {
            Ok(confirmed) => confirmed,
            Err((answered, error)) => {
                self.limiter.give_back(permits.permit).await;
                return SendOutcome::void(answered, LEDGER_RETRY, failures::unconfirmed(&error));
            }
        };
        let needed = self.attempt_timeout + LEASE_MARGIN;
        let lasts = guard
            .held()
            .is_some_and(|held| BootInstant::now() + needed <= held.ends);
        let under_way = match confirmed.check_lease(lasts, &self.ledger.bounds().checks) {
            Ok(under_way) => under_way,
            Err(answered) => {
                self.limiter.give_back(permits.permit).await;
                return SendOutcome::void(answered, LEDGER_RETRY, failures::lock_wait(0));
            }
        };
        let Attachment { instance, eni, .. } = &under_way.attempt().attachment;
        let outcome = self.ens.attach(&permits.prepared, permits.permit, instance, eni).await;
        let (answer, void) = self.to_send_result(under_way.attempt(), outcome, retry);
        let answered = under_way.complete(answer);
        SendOutcome {
            completed: answered,
            retry: void,
        }
    }

    /// What ENS's answer is to the ledger; and, where it is as if nothing had been sent, to the caller.
    fn to_send_result(
        &self,
        attempt: &Attempt,
        outcome: Outcome,
        retry: impl FnOnce() -> bool,
    ) -> (SendResult, Option<RetryReason>) {
        let Attachment { instance, eni, uid, .. } = &attempt.attachment;
        match outcome {
            Outcome::Accepted { ens_request_id } => (SendResult::Accepted { ens_request_id }, None),
            Outcome::Refused(refusal) if refusal.rejects_the_key() && retry() => {
                let why = failures::refused(&refusal).about(instance, eni);
                (SendResult::NoEffect, Some((CREDENTIALS_PAUSE, why)))
            }
            Outcome::Refused(refusal) => (self.refused(attempt, &refusal), None),
            Outcome::Conflict(refusal) => (
                SendResult::StatusConflict(failures::refused(&refusal).about(instance, eni)),
                None,
            ),
            Outcome::Unproven(refusal) => {
                tracing::warn!(%instance, %eni, %uid, code = refusal.code, message = refusal.message,
                    "ens refused an attach by an unknown code; settling it from ens's own status");
                (
                    SendResult::Unproven(failures::refused(&refusal).about(instance, eni)),
                    None,
                )
            }
            Outcome::Throttled { refusal, retry_after } => {
                let pause = retry_after.unwrap_or(THROTTLE_PAUSE);
                let why = failures::throttled(&refusal).about(instance, eni).retry_after(pause);
                (SendResult::NoEffect, Some((pause, why)))
            }
            Outcome::NotSent { why } => {
                let why = failures::not_sent(&why).about(instance, eni);
                (SendResult::NoEffect, Some((THROTTLE_PAUSE, why)))
            }
            Outcome::Unanswered { why, .. } => {
                tracing::warn!(%instance, %eni, %uid, %why, "an attach went unanswered; settling it from ens's own status");
                (SendResult::NoResponse, None)
            }
        }
    }

    fn refused(&self, attempt: &Attempt, refusal: &EnsRefusal) -> SendResult {
        let mut failure = failures::refused(refusal).about(&attempt.attachment.instance, &attempt.attachment.eni);
        if failure.reason == Reason::EniLimitExceeded {
            self.metrics.limit_rejected(RefusedBy::Ens);
            failure = failure.with("limit", self.ledger.bounds_of(&attempt.attachment.instance).limit);
        }
        SendResult::Refused(failure)
    }

    /// Records the result of a send, and releases the lock with it unless another caller takes the lock over. The attachment
    /// as it stands then; `None` if it is gone; an error if the ledger could not be reached for two minutes.
    pub(super) async fn write(
        &self,
        guard: &mut QueueGuard,
        answered: &Completed,
    ) -> Result<Option<Attachment>, LedgerError> {
        let release = !guard.should_hand_over(self.attempt_timeout + LEASE_MARGIN * 2);
        let command = answered.command(release);
        let Attachment { instance, eni, uid, .. } = &answered.attempt().attachment;
        let until = Instant::now() + WRITE_FOR;
        let reply = loop {
            match self.ledger.execute(instance, &command).await {
                Ok(answer) => break Ok(answer.reply),
                Err(error) if Instant::now() < until => {
                    // The callers behind wait for this one and cannot reach the ledger themselves.
                    guard.line().set_blocked_by(&failures::unavailable(&error));
                    sleep(LEDGER_RETRY).await;
                }
                Err(error) => {
                    tracing::error!(%instance, %eni, %uid, %error, "the answer of a send could not be written; the tracker settles it from ens's own status");
                    break Err(error);
                }
            }
        };
        if reply.is_ok() {
            guard.line().set_blocked_by(&failures::queue_wait());
        }
        if release {
            guard.reset();
        }
        Ok(match reply? {
            Reply::Attempts(attempts) => attempts.into_iter().next().map(|settled| settled.attempt.attachment),
            _ => None,
        })
    }
}
