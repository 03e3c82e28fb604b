//! The send itself: under the lock, with the lease checked last, and its answer written whatever it takes.

use std::time::Duration;

use tokio::time::Instant;

use crate::ens::{Ens, EnsRefusal, Outcome};
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Reply, SendAnswer};
use crate::ledger::record::Attempt;
use crate::ledger::{BootInstant, Ledger, Unavailable};
use crate::model::{Attachment, Failure, Reason, Sent, State};
use crate::telemetry::metrics::RefusedBy;

use super::kit::SendKit;
use super::line::Turn;
use super::owner::{Answered, Reserved};
use super::{Attacher, Attempting, LEDGER_RETRY, Step, Unsettled, failures};

/// How long the answer of a send is tried to be written: past every bound after which the tracker has settled it from ENS's own
/// status.
const WRITE_FOR: Duration = Duration::from_secs(120);
/// The pause after a throttling answer without a time of its own.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);

/// The pause before an attach is sent again with fresh credentials.
const CREDENTIALS_PAUSE: Duration = Duration::from_millis(300);

/// Why it is as if never sent, and how long to wait before another try.
type Void = (Duration, Failure);

/// What a send came to, for the ledger and for the caller.
pub(super) struct Dispatched {
    pub(super) answered: Answered,
    void: Option<Void>,
}

impl Dispatched {
    fn void(answered: Answered, pause: Duration, why: Failure) -> Self {
        let void = Some((pause, why));
        Self { answered, void }
    }
}

impl<L: Ledger, E: Ens> Attempting<L, E> {
    /// Sends what was reserved, and the ledger remembers even if it fails over, and writes the answer.
    pub(super) async fn send(&self, turn: &mut Turn, reserved: Reserved, kit: SendKit) -> Result<Step, Failure> {
        let retry = || self.gate.refresh();
        let Dispatched { answered, void } = self.attacher.send_once(turn, reserved, kit, retry).await;
        self.tell(&answered);
        let written = self.attacher.write(turn, &answered).await;
        let uid = answered.attempt().uid();
        match (answered.answer(), void, written) {
            (SendAnswer::Refused(failure), ..) => Err(failure.clone()),
            (SendAnswer::Accepted { .. }, _, Ok(Some(attachment))) => Ok(Step::Answered(Box::new(attachment))),
            (_, Some((pause, why)), Ok(None)) => {
                if why.reason.sent() != Sent::Nothing {
                    self.gate.went_out(&why);
                }
                self.gate.back();
                Ok(Step::Again(pause, why))
            }
            // The tracker was faster, and ended it: that stands.
            (_, Some(_), Ok(Some(_))) => Ok(Step::Unsettled(Unsettled { uid, sent: false })),
            // What the ledger still takes for a send is settled as one: nobody may be told that nothing will be sent.
            _ => Ok(Step::Unsettled(Unsettled { uid, sent: true })),
        }
    }

    /// A definite answer is the caller's even if the ledger cannot be reached before the deadline.
    fn tell(&self, answered: &Answered) {
        match answered.answer() {
            SendAnswer::Accepted { ens_request_id } => {
                let mut attachment = answered.attempt().attachment.clone();
                let (revision, time) = (attachment.revision, attachment.updated_at);
                attachment.ens_request_id.clone_from(ens_request_id);
                attachment.enter(State::Attaching, revision, time);
                self.gate.know(Ok(attachment));
            }
            SendAnswer::Refused(failure) => self.gate.know(Err(failure.clone())),
            SendAnswer::Conflicting(_) | SendAnswer::Unproven(_) | SendAnswer::Void | SendAnswer::Unanswered => {}
        }
    }
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// One send, if the ledger will remember it whatever happens, and the lease lasts for it. Nothing is awaited between this last
    /// check and the signature. `retry`: whether it is sent again with fresh credentials where ENS refuses these.
    pub(super) async fn send_once(
        &self,
        turn: &Turn,
        reserved: Reserved,
        kit: SendKit,
        retry: impl FnOnce() -> bool,
    ) -> Dispatched {
        let instance = &reserved.attempt().attachment.instance;
        let confirmation = self.book.ledger().confirm(instance, reserved.incarnation()).await;
        let confirmed = match reserved.confirmed(confirmation) {
            Ok(confirmed) => confirmed,
            Err((answered, error)) => {
                self.budget.give_back(kit.permit).await;
                return Dispatched::void(answered, LEDGER_RETRY, failures::unconfirmed(&error));
            }
        };
        let needed = self.attempt_timeout + LEASE_MARGIN;
        let lasts = turn.held().is_some_and(|held| BootInstant::now() + needed <= held.ends);
        let under_way = match confirmed.sends(lasts, &self.book.bounds().rules) {
            Ok(under_way) => under_way,
            Err(answered) => {
                self.budget.give_back(kit.permit).await;
                return Dispatched::void(answered, LEDGER_RETRY, failures::lock_wait(0));
            }
        };
        let Attachment { instance, eni, .. } = &under_way.attempt().attachment;
        let outcome = self.ens.attach(&kit.prepared, kit.permit, instance, eni).await;
        let (answer, void) = self.read(under_way.attempt(), outcome, retry);
        let answered = under_way.answered(answer);
        Dispatched { answered, void }
    }

    /// What ENS's answer is to the ledger; and, where it is as if nothing had been sent, to the caller.
    fn read(&self, attempt: &Attempt, outcome: Outcome, retry: impl FnOnce() -> bool) -> (SendAnswer, Option<Void>) {
        let Attachment { instance, eni, uid, .. } = &attempt.attachment;
        match outcome {
            Outcome::Accepted { ens_request_id } => (SendAnswer::Accepted { ens_request_id }, None),
            Outcome::Refused(refusal) if refusal.rejects_the_key() && retry() => {
                let why = failures::refused(&refusal).about(instance, eni);
                (SendAnswer::Void, Some((CREDENTIALS_PAUSE, why)))
            }
            Outcome::Refused(refusal) => (self.refused(attempt, &refusal), None),
            Outcome::Conflict(refusal) => (
                SendAnswer::Conflicting(failures::refused(&refusal).about(instance, eni)),
                None,
            ),
            Outcome::Unproven(refusal) => {
                tracing::warn!(%instance, %eni, %uid, code = refusal.code, message = refusal.message,
                    "ens refused an attach by an unknown code; settling it from ens's own status");
                (
                    SendAnswer::Unproven(failures::refused(&refusal).about(instance, eni)),
                    None,
                )
            }
            Outcome::Throttled { refusal, retry_after } => {
                let pause = retry_after.unwrap_or(THROTTLE_PAUSE);
                let why = failures::throttled(&refusal).about(instance, eni).retry_after(pause);
                (SendAnswer::Void, Some((pause, why)))
            }
            Outcome::NotSent { why } => {
                let why = failures::not_sent(&why).about(instance, eni);
                (SendAnswer::Void, Some((THROTTLE_PAUSE, why)))
            }
            Outcome::Unanswered { why, .. } => {
                tracing::warn!(%instance, %eni, %uid, %why, "an attach went unanswered; settling it from ens's own status");
                (SendAnswer::Unanswered, None)
            }
        }
    }

    fn refused(&self, attempt: &Attempt, refusal: &EnsRefusal) -> SendAnswer {
        let mut failure = failures::refused(refusal).about(&attempt.attachment.instance, &attempt.attachment.eni);
        if failure.reason == Reason::EniLimitExceeded {
            self.metrics.slot_refused(RefusedBy::Ens);
            failure = failure.with("limit", self.book.bounds_of(&attempt.attachment.instance).limit);
        }
        SendAnswer::Refused(failure)
    }

    /// Writes how a send was answered, and releases the lock with it unless somebody in line may go on under it. The attachment
    /// as it stands then; `None` if it is gone; an error if the ledger could not be reached for two minutes.
    pub(super) async fn write(&self, turn: &mut Turn, answered: &Answered) -> Result<Option<Attachment>, Unavailable> {
        let release = !turn.passes_on(self.attempt_timeout + LEASE_MARGIN * 2);
        let command = answered.command(release);
        let Attachment { instance, eni, uid, .. } = &answered.attempt().attachment;
        let until = Instant::now() + WRITE_FOR;
        let reply = loop {
            match self.book.execute(instance, &command).await {
                Ok(answer) => break Ok(answer.reply),
                Err(_) if Instant::now() < until => tokio::time::sleep(LEDGER_RETRY).await,
                Err(error) => {
                    tracing::error!(%instance, %eni, %uid, %error, "the answer of a send could not be written; the tracker settles it from ens's own status");
                    break Err(error);
                }
            }
        };
        if release {
            turn.over();
        }
        Ok(match reply? {
            Reply::Attempts(attempts) => attempts.into_iter().next().map(|settled| settled.attempt.attachment),
            _ => None,
        })
    }
}
