//! What the ledger answers to an attach that need not, or cannot yet, be sent: joined, replayed, here already, full, queued.

use std::time::Duration;

use uuid::Uuid;

use crate::ens::Ens;
use crate::ledger::Ledger;
use crate::ledger::book::Answer;
use crate::ledger::command::{Command, Enter, Reach, Reply};
use crate::ledger::record::{RequestEntry, RequestKey};
use crate::model::{Attachment, Failure, State, Ticket, Timestamp, Uid};
use crate::telemetry::context::current_trace;
use crate::telemetry::metrics::RefusedBy;

use super::gate::LEDGER_PATIENCE;
use super::line::Turn;
use super::{Attempting, LEAST_ROUND, LEDGER_RETRY, Request, Step, Unsettled, failures, gate, next_round};

/// How often an unsettled attempt is looked at; a hint only makes it faster.
const SETTLED_POLL: Duration = Duration::from_secs(1);

impl<L: Ledger, E: Ens> Attempting<L, E> {
    /// What the ledger answers to those who need no lock; `None`: nothing without it. [`Step::Again`] where nobody gets it now.
    pub(super) async fn ask(&self) -> Result<Option<Step>, Failure> {
        loop {
            let enter = self.enter(Ticket(Uuid::nil()), Uid(Uuid::nil()), Reach::Ask);
            let answer = match self.attacher.book.execute(&self.request.instance, &enter).await {
                Ok(answer) => {
                    self.gate.reached();
                    answer
                }
                Err(error) => {
                    self.gate.pause(LEDGER_RETRY, self.gate.unreached(&error)?).await?;
                    continue;
                }
            };
            return match answer.reply {
                Reply::Open => Ok(None),
                Reply::Present { fresh: false, .. } => {
                    let (pause, why) = self.reread().await?;
                    self.gate.pause(pause, why).await?;
                    continue;
                }
                _ => self.known(answer).map(Some),
            };
        }
    }

    /// The reply to an [`Enter`] that reserved nothing.
    pub(super) async fn without_send(&self, turn: &mut Turn, answer: Answer) -> Result<Step, Failure> {
        if let Reply::Present { fresh: false, .. } = answer.reply {
            // ENS is asked, and its permit waited for, without the lock.
            self.attacher.give_up(turn, &self.request.instance).await;
            let (pause, why) = self.reread().await?;
            return Ok(Step::Again(pause, why));
        }
        self.known(answer)
    }

    fn known(&self, answer: Answer) -> Result<Step, Failure> {
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
                Some(attachment) => Ok(Step::Answered(Box::new(attachment))),
                None => Ok(joined(uid)),
            },
            Reply::RequestIdReused(entry) => Err(failures::request_id_reused(&entry.eni)),
            Reply::Joined(attempt) => Ok(joined(attempt.uid())),
            Reply::Present { attempt, .. } if attempt.attachment.state == State::Detaching => {
                Err(failures::detaching(instance, eni))
            }
            Reply::Present { attempt, .. } => Ok(Step::Answered(Box::new(attempt.attachment))),
            Reply::Doubtful { until } => Ok(Step::Doubtful(until.since(answer.now))),
            Reply::Full(fullness) => {
                self.attacher.metrics.slot_refused(RefusedBy::Ledger);
                Err(failures::full(&fullness, instance, eni))
            }
            Reply::Recovering(until) => {
                let pause = until.since(answer.now).min(Duration::from_secs(1));
                Ok(Step::Again(pause, failures::recovering(until, answer.now)))
            }
            Reply::Queued { ahead } => Ok(Step::Queued { ahead }),
            Reply::Granted { .. } => Ok(Step::Further),
            _ => Ok(Step::Again(LEAST_ROUND, failures::lock_wait(0))),
        }
    }

    /// Waits until a describe can settle whether the ENI is attached, and has it described then. Nothing is sent meanwhile.
    pub(super) async fn outlast_doubt(&self, rest: Duration) -> Result<(), Failure> {
        self.gate.blocked_by(failures::doubtful());
        if !rest.is_zero() {
            return self
                .gate
                .pause(rest.min(SETTLED_POLL).max(LEAST_ROUND), failures::doubtful())
                .await;
        }
        let (pause, _) = self.reread().await?;
        self.gate.pause(pause, failures::doubtful()).await
    }

    /// Waits until ENS has accepted or refused the attempt; `None` if it is gone, and this call had no part in it: withdrawn, or
    /// lost.
    pub(super) async fn settled(&self, Unsettled { uid, sent }: Unsettled) -> Result<Option<Attachment>, Failure> {
        let Request { instance, eni, .. } = &self.request;
        self.gate.join();
        let mut hint = self.attacher.book.ledger().hints().subscribe(instance);
        loop {
            let looked = self.attacher.book.execute(instance, &Command::Look).await;
            if let Err(error) = &looked
                && error.down_for >= LEDGER_PATIENCE
            {
                return Err(gate::outcome_unknown().retry_after(failures::LEDGER_OUTAGE));
            }
            if let Ok(answer) = looked {
                let attempt = answer.record.attempts.get(eni).filter(|attempt| attempt.uid() == uid);
                match attempt.map(|attempt| &attempt.attachment) {
                    // The ledger lost it: ENS's own status is all that is left to say what came of it.
                    None if sent => return Err(gate::outcome_unknown()),
                    None => {
                        self.gate.back();
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
            self.gate.bound(next_round(&mut hint, SETTLED_POLL)).await?;
        }
    }

    /// When the call came, by the ledger's clock: what ENS was asked before does not affirm that the ENI is attached.
    pub(super) fn affirmed_since(&self) -> Timestamp {
        let now = self.attacher.book.ledger().now(&self.request.instance);
        now - self.arrived.elapsed()
    }

    pub(super) fn enter(&self, ticket: Ticket, uid: Uid, reach: Reach) -> Command {
        let Request {
            eni,
            request_id,
            caller,
            ..
        } = &self.request;
        Command::Enter(Enter {
            ticket,
            uid,
            eni: eni.clone(),
            request: request_id.map(|id| RequestKey::new(caller.clone(), id)),
            trace: current_trace(),
            reach,
            affirmed_since: self.affirmed_since(),
        })
    }
}

/// To the end of an attempt that another call made.
fn joined(uid: Uid) -> Step {
    Step::Unsettled(Unsettled { uid, sent: false })
}
