//! Ledger replies to an attach without a send: joined, replayed, already attached, full, queued.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::ens::Ens;
use crate::failures::{LEDGER_OUTAGE, attach as failures};
use crate::ledger::LedgerStore;
use crate::ledger::command::{Acquire, Command, Mode, Reply};
use crate::ledger::execute::CommandOutcome;
use crate::ledger::record::{Attempt, RequestEntry, RequestKey};
use crate::model::{Attachment, Failure, State, Ticket, Timestamp, Uid, random};
use crate::telemetry::context::current_trace;
use crate::telemetry::metrics::RefusedBy;

use super::flow::{PendingOutcome, Step};
use super::retry::{LEAST_ROUND, LEDGER_PATIENCE};
use super::{AttemptTask, Request};

/// Interval between readings of an unsettled attempt. Change notifications only shorten it.
const OUTCOME_POLL: Duration = Duration::from_secs(1);

impl Request {
    /// The command that acquires ticket, lock and slot as far as `mode` allows.
    pub(super) fn acquire_command(
        &self,
        ticket: Ticket,
        uid: Uid,
        mode: Mode,
        confirmed_since: Timestamp,
    ) -> Command {
        Command::Acquire(Acquire {
            ticket,
            uid,
            eni: self.eni.clone(),
            request: self.request_id.map(|id| RequestKey::new(self.caller.clone(), id)),
            caller: self.request_id.is_none().then(|| self.caller.clone()),
            trace: current_trace(),
            mode,
            confirmed_since,
        })
    }

    /// The read-only command for replies that need no lock.
    pub(super) fn query_command(&self, confirmed_since: Timestamp) -> Command {
        self.acquire_command(Ticket(Uuid::nil()), Uid(Uuid::nil()), Mode::Query, confirmed_since)
    }
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Queries the ledger without the lock. Returns the next step, or `None` if the reply needs the
    /// lock.
    pub(super) async fn query(&mut self) -> Result<Option<Step>, Failure> {
        if self.resends.is_some() {
            return Ok(None);
        }
        let query = self.request.query_command(self.confirmed_since());
        let answer = match self.execute(&query).await {
            Ok(answer) => answer,
            Err(error) => {
                self.pause_for_ledger(&error).await?;
                return Ok(Some(Step::Enter));
            }
        };
        match answer.reply {
            Reply::Admissible => Ok(None),
            // Only the queue's first caller polls.
            Reply::Recovering(until) if self.lock.is_none() => {
                self.set_pending_error(failures::recovering(until, answer.now));
                Ok(None)
            }
            _ => self.follow_reply(answer).await.map(Some),
        }
    }

    /// The step after a reply that reserved nothing.
    pub(super) async fn follow_reply(&mut self, answer: CommandOutcome) -> Result<Step, Failure> {
        let now = answer.now;
        match answer.reply {
            Reply::Replayed(RequestEntry { uid, answer, .. }) => {
                match answer {
                    // This attempt's own RPC returned the refusal, or the attachment if ENS
                    // accepted first.
                    Some(Attachment { error: Some(error), ens_request_id, updated_at, .. })
                        if ens_request_id.is_empty() =>
                    {
                        Err(failures::replayed(error, updated_at))
                    }
                    Some(attachment) => Ok(Step::Done(Box::new(attachment))),
                    None => Ok(Step::AwaitOutcome(PendingOutcome { uid, sent: false })),
                }
            }
            Reply::RequestIdReused(entry) => Err(failures::request_id_reused(&entry.eni)),
            // ENS accepted it, which is the answer of a first call too. A resend leaves its attempt
            // to the tracker.
            Reply::Joined(attempt)
                if attempt.state.kind() == State::Attaching && self.resends.is_none() =>
            {
                Ok(Step::Done(Box::new(attempt.attachment())))
            }
            Reply::Joined(attempt) => {
                Ok(Step::AwaitOutcome(PendingOutcome { uid: attempt.uid, sent: false }))
            }
            Reply::AlreadyAttached { fresh: false, .. } => Ok(Step::Refresh),
            Reply::AlreadyAttached { attempt, .. } if attempt.state.kind() == State::Detaching => {
                Err(failures::detaching(&self.request.instance, &self.request.eni))
            }
            Reply::AlreadyAttached { attempt, .. } => {
                Ok(Step::Done(Box::new(attempt.attachment())))
            }
            Reply::Unconfirmed { until } => {
                // Nothing is sent until a describe settles it, and no caller waits behind it.
                self.leave_queue();
                let rest = until.since(now);
                if rest.is_zero() {
                    return Ok(Step::Refresh);
                }
                self.pause(rest.min(OUTCOME_POLL), failures::unsettled_attachment()).await?;
                Ok(Step::Enter)
            }
            Reply::CapacityExceeded(exceeded) => {
                self.backends().metrics.limit_rejected(RefusedBy::Ledger);
                let Request { instance, eni, .. } = &self.request;
                Err(failures::capacity_exceeded(&exceeded, instance, eni))
            }
            Reply::Frozen(freeze) => Err(failures::frozen(&freeze)),
            Reply::Recovering(until) => {
                let pause = until.since(now).min(Duration::from_secs(1));
                self.pause(pause, failures::recovering(until, now)).await?;
                // The ledger is queried first, so that no other caller's permit is taken in vain.
                Ok(Step::Enter)
            }
            Reply::Queued { ahead } => {
                self.set_pending_error(failures::lock_wait(ahead));
                self.permits.return_probes();
                // A quarter of a second, jittered.
                self.next_round(Duration::from_millis(random::between(200..300))).await?;
                Ok(Step::Prepare)
            }
            Reply::Granted { .. } => Ok(Step::Prepare),
            _ => {
                self.pause(LEAST_ROUND, failures::lock_wait(0)).await?;
                Ok(Step::Prepare)
            }
        }
    }

    /// Waits until ENS has accepted or refused the attempt, outside the queue.
    pub(super) async fn await_outcome(&mut self, pending: PendingOutcome) -> Result<Step, Failure> {
        let PendingOutcome { uid, sent } = pending;
        self.leave_queue();
        if self.resends.is_some() {
            // The tracker settles it.
            return Err(failures::outcome_unknown());
        }
        self.session.mark_joined();
        match self.execute(&Command::Read).await {
            Err(error) if error.outage().down_for >= LEDGER_PATIENCE => {
                return Err(failures::outcome_unknown().retry_after(LEDGER_OUTAGE));
            }
            Err(_) => {}
            Ok(answer) => {
                let attempt = answer.record.attempts.get(&self.request.eni);
                let attempt = attempt.filter(|attempt| attempt.uid == uid);
                match attempt.map(Attempt::attachment) {
                    // The ledger lost it, so only ENS's status can settle it.
                    None if sent => return Err(failures::outcome_unknown()),
                    None => {
                        // The joined attempt was withdrawn or lost, so this call begins its own.
                        self.session.reopen();
                        self.session.until_deadline(sleep(LEAST_ROUND)).await?;
                        return Ok(Step::Enter);
                    }
                    Some(Attachment {
                        state: State::Pending | State::Verifying | State::Unknown,
                        ..
                    }) => {}
                    Some(Attachment { state: State::Failed, error: Some(failure), .. }) => {
                        return Err(failure);
                    }
                    Some(attachment) => return Ok(Step::Done(Box::new(attachment))),
                }
            }
        }
        self.next_round(OUTCOME_POLL).await?;
        Ok(Step::AwaitOutcome(pending))
    }

    /// The call's arrival by the ledger's clock. Earlier observations do not confirm that the ENI
    /// is attached.
    pub(super) fn confirmed_since(&self) -> Timestamp {
        let now = self.backends().ledger.store().now(&self.request.instance);
        now - self.arrived.elapsed()
    }
}
