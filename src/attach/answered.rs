//! What the ledger answers to an attach that need not, or cannot yet, be sent: joined, replayed, here already, full, queued.

use std::time::Duration;

use uuid::Uuid;

use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::ledger::command::{Acquire, Command, Mode, Reply};
use crate::ledger::execute::CommandOutcome;
use crate::ledger::record::{RequestEntry, RequestKey};
use crate::model::{Attachment, Failure, State, Ticket, Timestamp, Uid};
use crate::telemetry::context::current_trace;
use crate::telemetry::metrics::RefusedBy;

use super::caller_session::LEDGER_PATIENCE;
use super::lock_queue::QueueGuard;
use super::{
    AttemptStep, AttemptTask, LEAST_ROUND, LEDGER_RETRY, PendingOutcome, Request, caller_session, failures, next_round,
};

/// How often an unsettled attempt is looked at; a hint only makes it faster.
const OUTCOME_POLL: Duration = Duration::from_secs(1);

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// What the ledger answers to those who need no lock; `None`: nothing without it. [`AttemptStep::Retry`] where no lock is granted now.
    pub(super) async fn ask(&self) -> Result<Option<AttemptStep>, Failure> {
        loop {
            let enter = self.enter(Ticket(Uuid::nil()), Uid(Uuid::nil()), Mode::Query);
            let answer = match self.attacher.ledger.execute(&self.request.instance, &enter).await {
                Ok(answer) => {
                    self.session.ledger_reached();
                    answer
                }
                Err(error) => {
                    self.session
                        .pause(LEDGER_RETRY, self.session.ledger_unreached(&error)?)
                        .await?;
                    continue;
                }
            };
            return match answer.reply {
                Reply::Admissible => Ok(None),
                Reply::AlreadyAttached { fresh: false, .. } => {
                    let (pause, why) = self.refresh_eni().await?;
                    self.session.pause(pause, why).await?;
                    continue;
                }
                _ => self.to_step(answer).map(Some),
            };
        }
    }

    /// The reply to an [`Acquire`] that reserved nothing.
    pub(super) async fn without_send(
        &self,
        guard: &mut QueueGuard,
        answer: CommandOutcome,
    ) -> Result<AttemptStep, Failure> {
        if let Reply::AlreadyAttached { fresh: false, .. } = answer.reply {
            // ENS is asked, and its permit waited for, without the lock.
            self.attacher.release(guard, &self.request.instance).await;
            let (pause, why) = self.refresh_eni().await?;
            return Ok(AttemptStep::Retry(pause, why));
        }
        self.to_step(answer)
    }

    fn to_step(&self, answer: CommandOutcome) -> Result<AttemptStep, Failure> {
        let Request { instance, eni, .. } = &self.request;
        match answer.reply {
            Reply::Replayed(RequestEntry { uid, answer, .. }) => match answer {
                // Its RPC was answered with the refusal; one that was accepted first was answered with the attachment.
                Some(Attachment {
                    error: Some(failure),
                    ens_request_id,
                    updated_at,
                    ..
                }) if ens_request_id.is_empty() => Err(failures::replayed(failure, updated_at)),
                Some(attachment) => Ok(AttemptStep::Done(Box::new(attachment))),
                None => Ok(joined(uid)),
            },
            Reply::RequestIdReused(entry) => Err(failures::request_id_reused(&entry.eni)),
            Reply::Joined(attempt) => Ok(joined(attempt.uid())),
            Reply::AlreadyAttached { attempt, .. } if attempt.attachment.state == State::Detaching => {
                Err(failures::detaching(instance, eni))
            }
            Reply::AlreadyAttached { attempt, .. } => Ok(AttemptStep::Done(Box::new(attempt.attachment))),
            Reply::Unconfirmed { until } => Ok(AttemptStep::Doubtful(until.since(answer.now))),
            Reply::CapacityExceeded(fullness) => {
                self.attacher.metrics.limit_rejected(RefusedBy::Ledger);
                Err(failures::capacity_exceeded(&fullness, instance, eni))
            }
            Reply::Recovering(until) => {
                let pause = until.since(answer.now).min(Duration::from_secs(1));
                Ok(AttemptStep::Retry(pause, failures::recovering(until, answer.now)))
            }
            Reply::Queued { ahead } => Ok(AttemptStep::Queued { ahead }),
            Reply::Granted { .. } => Ok(AttemptStep::Continue),
            _ => Ok(AttemptStep::Retry(LEAST_ROUND, failures::lock_wait(0))),
        }
    }

    /// Waits until a describe can settle whether the ENI is attached, and has it described then. Nothing is sent meanwhile.
    pub(super) async fn wait_until_confirmed(&self, rest: Duration) -> Result<(), Failure> {
        self.session.set_pending_error(failures::unsettled_attachment());
        if !rest.is_zero() {
            return self
                .session
                .pause(
                    rest.min(OUTCOME_POLL).max(LEAST_ROUND),
                    failures::unsettled_attachment(),
                )
                .await;
        }
        let (pause, _) = self.refresh_eni().await?;
        self.session.pause(pause, failures::unsettled_attachment()).await
    }

    /// Waits until ENS has accepted or refused the attempt; `None` if it is gone, and this call had no part in it: withdrawn, or
    /// lost.
    pub(super) async fn await_outcome(
        &self,
        PendingOutcome { uid, sent }: PendingOutcome,
    ) -> Result<Option<Attachment>, Failure> {
        let Request { instance, eni, .. } = &self.request;
        self.session.mark_joined();
        let mut changes = self.attacher.ledger.store().changes().subscribe(instance);
        loop {
            let looked = self.attacher.ledger.execute(instance, &Command::Read).await;
            if let Err(error) = &looked
                && error.outage().down_for >= LEDGER_PATIENCE
            {
                return Err(caller_session::outcome_unknown().retry_after(failures::LEDGER_OUTAGE));
            }
            if let Ok(answer) = looked {
                let attempt = answer.record.attempts.get(eni).filter(|attempt| attempt.uid() == uid);
                match attempt.map(|attempt| &attempt.attachment) {
                    // The ledger lost it: only ENS's status can settle it.
                    None if sent => return Err(caller_session::outcome_unknown()),
                    None => {
                        self.session.reopen();
                        return Ok(None);
                    }
                    Some(Attachment {
                        state: State::Pending | State::Verifying | State::Unknown,
                        ..
                    }) => {}
                    Some(Attachment {
                        state: State::Failed,
                        error: Some(failure),
                        ..
                    }) => return Err(failure.clone()),
                    Some(attachment) => return Ok(Some(attachment.clone())),
                }
            }
            self.session
                .until_deadline(next_round(&mut changes, OUTCOME_POLL))
                .await?;
        }
    }

    /// When the call came, by the ledger's clock: what ENS was asked before does not affirm that the ENI is attached.
    pub(super) fn confirmed_since(&self) -> Timestamp {
        let now = self.attacher.ledger.store().now(&self.request.instance);
        now - self.arrived.elapsed()
    }

    pub(super) fn enter(&self, ticket: Ticket, uid: Uid, reach: Mode) -> Command {
        let Request {
            eni,
            request_id,
            caller,
            ..
        } = &self.request;
        Command::Acquire(Acquire {
            ticket,
            uid,
            eni: eni.clone(),
            request: request_id.map(|id| RequestKey::new(caller.clone(), id)),
            trace: current_trace(),
            mode: reach,
            confirmed_since: self.confirmed_since(),
        })
    }
}

/// To the end of an attempt that another call made.
fn joined(uid: Uid) -> AttemptStep {
    AttemptStep::AwaitOutcome(PendingOutcome { uid, sent: false })
}
