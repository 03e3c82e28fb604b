//! The send itself: under the lock, with the lease checked last, and its answer written whatever it takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ens::{self, Ens, EnsRefusal, NoPermit, Permit, Purpose};
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Command, Reply, SendAnswer};
use crate::ledger::record::Attempt;
use crate::ledger::{Ledger, Rule, Unavailable};
use crate::model::{Attachment, Failure, InstanceId, Reason, State, random};
use crate::telemetry::metrics::RefusedBy;

use super::gate::Gate;
use super::line::Turn;
use super::{Attacher, Attempting, Kit, LEDGER_RETRY, Step, Unsettled, failures};

/// How long the answer of a send is tried to be written: past every bound after which the tracker has settled it from ENS's own
/// status.
const WRITE_FOR: Duration = Duration::from_secs(120);
/// The pause after a throttling answer without a time of its own.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
/// What takes longer than this to have is not at hand: it is not waited for under the lock.
const AT_HAND: Duration = Duration::from_millis(20);
/// How long a resend may wait for its permit and the lock; then the attempt falls due again.
const RESEND_WITHIN: Duration = Duration::from_secs(30);

/// What a send came to, for the ledger and for the caller.
struct Sent {
    answer: SendAnswer,
    /// Why it is as if never sent.
    void: Option<(Duration, Failure)>,
}

impl<L: Ledger, E: Ens> Attempting<L, E> {
    /// Sends what was reserved, and the ledger remembers even if it fails over, and writes the answer.
    pub(super) async fn send(
        &self,
        turn: &mut Turn,
        attempt: &Attempt,
        incarnation: &str,
        kit: Kit,
    ) -> Result<Step, Failure> {
        let Sent { answer, void } = self.attacher.send_once(turn, attempt, incarnation, kit).await;
        self.tell(attempt, &answer);
        let written = self.attacher.write(turn, attempt, answer.clone()).await;
        match (answer, void, written) {
            (SendAnswer::Refused(failure), ..) => Err(failure),
            (SendAnswer::Accepted { .. }, _, Ok(Some(attachment))) => Ok(Step::Answered(Box::new(attachment))),
            (_, Some((pause, why)), Ok(_)) => {
                self.gate.back();
                Ok(Step::Again(pause, why))
            }
            // What the ledger still takes for a send is settled as one: nobody may be told that nothing will be sent.
            _ => Ok(Step::Unsettled(Unsettled {
                uid: attempt.uid(),
                sent: true,
            })),
        }
    }

    /// A definite answer is the caller's even if the ledger cannot be reached before the deadline.
    fn tell(&self, attempt: &Attempt, answer: &SendAnswer) {
        match answer {
            SendAnswer::Accepted { ens_request_id } => {
                let mut attachment = attempt.attachment.clone();
                let (revision, time) = (attachment.revision, attachment.updated_at);
                attachment.ens_request_id.clone_from(ens_request_id);
                attachment.enter(State::Attaching, revision, time);
                self.gate.know(Ok(attachment));
            }
            SendAnswer::Refused(failure) => self.gate.know(Err(failure.clone())),
            SendAnswer::Conflicting(_) | SendAnswer::Void | SendAnswer::Unanswered => {}
        }
    }
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Sends an attempt again that went unanswered and that ENS, asked since, shows free: with permit, lock and lease check as
    /// for a first send. Where that cannot be had in time the attempt falls due again.
    pub async fn resend(self: &Arc<Self>, attempt: &Attempt) {
        let instance = &attempt.attachment.instance;
        let gate = Gate::new(Instant::now() + RESEND_WITHIN);
        let line = self.lines.of(instance);
        let Ok(mut turn) = gate.bound(line.turn()).await else {
            return;
        };
        // What a resend comes to stands in the record.
        let _ = gate.bound(self.try_resend(&gate, &mut turn, attempt)).await;
        self.step_aside(&mut turn, instance).await;
    }

    async fn try_resend(&self, gate: &Gate, turn: &mut Turn, attempt: &Attempt) -> Result<(), Failure> {
        let instance = &attempt.attachment.instance;
        loop {
            let kit = match self.equip_now(None).await? {
                Some(kit) => kit,
                None => {
                    self.give_up(turn, instance).await;
                    self.equip(gate).await?
                }
            };
            let resend = Command::Resend {
                ticket: turn.ticket(),
                uid: attempt.uid(),
                eni: attempt.attachment.eni.clone(),
            };
            let mut answer = self.book.execute(instance, &resend).await;
            if let Ok(granted) = &answer
                && let Reply::Granted { grant, room, .. } = granted.reply
            {
                turn.granted(grant, granted.deadline(grant.expires_at), room);
                let Ok((sent_at, rows)) = self.describe(instance).await else {
                    self.budget.give_back(kit.permit).await;
                    return Ok(());
                };
                let then = Some(Box::new(resend));
                answer = self
                    .book
                    .execute(instance, &Command::Observe { sent_at, rows, then })
                    .await;
            }
            match answer.as_ref().map(|answer| (&answer.reply, answer)) {
                Ok((Reply::Reserved { grant, attempt, room }, answer)) => {
                    turn.granted(*grant, answer.deadline(grant.expires_at), room + 1);
                    let incarnation = &answer.record.incarnation;
                    let sent = self.send_once(turn, attempt, incarnation, kit).await;
                    // Written or not: the tracker goes on from the record.
                    let _ = self.write(turn, attempt, sent.answer).await;
                    return Ok(());
                }
                Ok((Reply::Queued { ahead }, _)) => {
                    turn.queued(*ahead);
                    self.budget.give_back(kit.permit).await;
                    self.poll_pause(instance).await;
                }
                _ => {
                    self.budget.give_back(kit.permit).await;
                    return Ok(());
                }
            }
        }
    }

    /// What one send needs, if it can be had now: the permit of `before`, if there is one, and a date that is new, for a request
    /// grows old from it.
    pub(super) async fn equip_now(&self, before: Option<Kit>) -> Result<Option<Kit>, Failure> {
        let permit = match before {
            Some(Kit { permit, .. }) => permit,
            None => match self.budget.try_permit(Purpose::Attach).await {
                Ok(permit) => permit,
                Err(_) => return Ok(None),
            },
        };
        let missing = match tokio::time::timeout(AT_HAND, self.ens.prepare()).await {
            Ok(Ok(prepared)) => return Ok(Some(Kit { permit, prepared })),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Ok(None),
        };
        self.budget.give_back(permit).await;
        missing
    }

    /// What one send needs, waited for in the order of arrival; never under the lock.
    pub(super) async fn equip(&self, gate: &Gate) -> Result<Kit, Failure> {
        loop {
            let permit = gate.bound(self.budget.permit(Purpose::Attach, gate.deadline())).await?;
            match permit {
                Ok(permit) => return self.prepare(gate, permit).await,
                Err(missing @ NoPermit::Late { .. }) => return Err(failures::no_permit(&missing)),
                Err(missing) => gate.pause(LEDGER_RETRY, failures::no_permit(&missing)).await?,
            }
        }
    }

    async fn prepare(&self, gate: &Gate, permit: Permit) -> Result<Kit, Failure> {
        match gate.bound(self.ens.prepare()).await {
            Ok(Ok(prepared)) => Ok(Kit { permit, prepared }),
            Ok(Err(failure)) | Err(failure) => {
                self.budget.give_back(permit).await;
                Err(failure)
            }
        }
    }

    /// One send, if the ledger will remember it whatever happens, and the lease lasts for it. Nothing is awaited between this last
    /// check and the signature.
    async fn send_once(&self, turn: &Turn, attempt: &Attempt, incarnation: &str, kit: Kit) -> Sent {
        let confirmed = self
            .book
            .ledger()
            .confirm(&attempt.attachment.instance, incarnation)
            .await;
        if let Err(error) = confirmed {
            self.budget.give_back(kit.permit).await;
            return Sent {
                answer: SendAnswer::Void,
                void: Some((LEDGER_RETRY, failures::unconfirmed(&error))),
            };
        }
        let needed = self.attempt_timeout + LEASE_MARGIN;
        let lasts = turn.held().is_some_and(|held| Instant::now() + needed <= held.ends);
        if !lasts && self.book.bounds().rules.hold(Rule::Lease) {
            self.budget.give_back(kit.permit).await;
            return Sent {
                answer: SendAnswer::Void,
                void: Some((Duration::ZERO, failures::lock_wait(0))),
            };
        }
        let (instance, eni) = (&attempt.attachment.instance, &attempt.attachment.eni);
        match self.ens.attach(&kit.prepared, kit.permit, instance, eni).await {
            ens::Outcome::Accepted { ens_request_id } => Sent {
                answer: SendAnswer::Accepted { ens_request_id },
                void: None,
            },
            ens::Outcome::Refused(refusal) => self.refused(attempt, &refusal),
            ens::Outcome::Throttled { refusal, retry_after } => {
                let pause = retry_after.unwrap_or(THROTTLE_PAUSE);
                let why = failures::throttled(&refusal).about(instance, eni).retry_after(pause);
                Sent {
                    answer: SendAnswer::Void,
                    void: Some((pause, why)),
                }
            }
            ens::Outcome::NotSent { why } => {
                let why = failures::not_sent(&why).about(instance, eni);
                Sent {
                    answer: SendAnswer::Void,
                    void: Some((THROTTLE_PAUSE, why)),
                }
            }
            ens::Outcome::Unanswered { why, .. } => {
                tracing::warn!(%instance, %eni, uid = %attempt.uid(), %why, "an attach went unanswered; settling it from ens's own status");
                Sent {
                    answer: SendAnswer::Unanswered,
                    void: None,
                }
            }
        }
    }

    fn refused(&self, attempt: &Attempt, refusal: &EnsRefusal) -> Sent {
        let mut failure = failures::refused(refusal).about(&attempt.attachment.instance, &attempt.attachment.eni);
        if refusal.code == "InvalidSecurityToken.Expired" {
            return Sent {
                answer: SendAnswer::Void,
                void: Some((Duration::ZERO, failure)),
            };
        }
        if failure.reason == Reason::EniLimitExceeded {
            self.metrics.slot_refused(RefusedBy::Ens);
            failure = failure.with("limit", self.book.bounds().limit);
        }
        let answer = if failure.reason == Reason::EniNotAvailable {
            SendAnswer::Conflicting(failure)
        } else {
            SendAnswer::Refused(failure)
        };
        Sent { answer, void: None }
    }

    /// Writes how a send was answered, and releases the lock with it unless somebody in line may go on under it. The attachment
    /// as it stands then; `None` if it is gone; an error if the ledger could not be reached for two minutes.
    async fn write(
        &self,
        turn: &mut Turn,
        attempt: &Attempt,
        answer: SendAnswer,
    ) -> Result<Option<Attachment>, Unavailable> {
        let Some(held) = turn.held() else { return Ok(None) };
        let release = !turn.passes_on(self.attempt_timeout + LEASE_MARGIN * 2);
        let command = Command::Answer {
            attempt: Box::new(attempt.clone()),
            grant: held.hold,
            answer,
            release,
        };
        let instance = &attempt.attachment.instance;
        let until = Instant::now() + WRITE_FOR;
        let reply = loop {
            match self.book.execute(instance, &command).await {
                Ok(answer) => break Ok(answer.reply),
                Err(_) if Instant::now() < until => tokio::time::sleep(LEDGER_RETRY).await,
                Err(error) => {
                    let (eni, uid) = (&attempt.attachment.eni, attempt.uid());
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

    /// Pauses until the lock is worth asking for again: a quarter of a second, or less if the record changed.
    pub(super) async fn poll_pause(&self, instance: &InstanceId) {
        let mut hint = self.book.ledger().hints().subscribe(instance);
        let pause = Duration::from_millis(random::between(200..300));
        // Either way it is asked for again.
        let _ = tokio::time::timeout(pause, hint.changed()).await;
    }

    /// At the end of a turn: gives up the lock, or the place in the queue, unless somebody in line goes on with it.
    pub(super) async fn step_aside(&self, turn: &mut Turn, instance: &InstanceId) {
        let enough = turn
            .held()
            .is_none_or(|held| Instant::now() + self.attempt_timeout + LEASE_MARGIN < held.ends);
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

/// How long to wait for a permit, and what the caller hears if that is too long.
pub(super) fn wait_for(missing: &NoPermit) -> (Duration, Failure) {
    let pause = match missing {
        NoPermit::Late { wait } => *wait,
        NoPermit::CounterUnreachable(_) => LEDGER_RETRY,
    };
    (pause, failures::no_permit(missing))
}
