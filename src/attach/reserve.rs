//! Acquires the lock, a slot and the record of a send, with a describe of the instance in between if the last observation is too old.
//! Releases the lock again.

use std::time::Duration;

use tokio::time::Instant;

use crate::ens::Ens;
use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::{Command, Mode, Reply};
use crate::ledger::execute::CommandOutcome;
use crate::ledger::{BootInstant, LedgerError, LedgerStore};
use crate::model::{Failure, InstanceId, Uid, random};
use crate::rate_limit::{Permit, RateClass};

use super::caller_session::{self, CallerSession};
use super::describe::DESCRIBE_PAUSE;
use super::lock_queue::QueueGuard;
use super::send_permit::{SendPermit, SendPermits};
use super::steps::{NextStep, ReserveRequest, Reserved};
use super::{Attacher, AttemptStep, AttemptTask, LEDGER_RETRY, failures};

/// Outcome of a try to reserve.
pub(super) enum ReserveOutcome {
    /// The slot is reserved and the send recorded.
    Reserved(Reserved),
    /// The ledger replied otherwise.
    Denied(Box<CommandOutcome>),
    /// The instance must be described, and no permit for that is at hand.
    NoDescribePermit,
    /// The instance could not be described. The inner error is worth another try after a pause.
    DescribeFailed(Result<(Duration, Failure), Failure>),
    /// The ledger could not be reached.
    LedgerUnavailable(LedgerError),
    /// The caller left, or has too little time left.
    Closed(Failure),
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Takes the lock and a slot, describes the instance if the last observation is too old, and sends. Unused permits stay in
    /// `permits`.
    pub(super) async fn reserve(
        &self,
        guard: &mut QueueGuard,
        permit_for_send: SendPermit,
        permits: &mut SendPermits,
    ) -> Result<AttemptStep, Failure> {
        let (attacher, instance) = (&self.attacher, &self.request.instance);
        // What was taken back may have been ended meanwhile: it does not come again under its old uid.
        let enter = self.enter(guard.ticket(), Uid(random::uuid()), Mode::Reserve);
        let reserving = ReserveRequest::new(enter);
        let outcome = attacher
            .reserve(guard, instance, reserving, &mut permits.describe, Some(&self.session))
            .await;
        if let ReserveOutcome::Reserved(reserved) = outcome {
            attacher.metrics.lock_waited(self.arrived.elapsed());
            return self.send(guard, reserved, permit_for_send).await;
        }
        permits.send = Some(permit_for_send);
        match outcome {
            ReserveOutcome::Reserved(_) => Ok(AttemptStep::Continue),
            ReserveOutcome::Closed(failure) => Err(failure),
            ReserveOutcome::Denied(answer) if matches!(answer.reply, Reply::Granted { .. }) => {
                attacher.release(guard, instance).await;
                let why = failures::not_sent("its answer came too late to go by");
                Ok(AttemptStep::Retry(DESCRIBE_PAUSE, why))
            }
            ReserveOutcome::Denied(answer) => self.without_send(guard, *answer).await,
            ReserveOutcome::NoDescribePermit => {
                attacher.release(guard, instance).await;
                attacher.return_probes(permits).await;
                permits.describe = Some(attacher.permit(RateClass::Describe, &self.session).await?);
                Ok(AttemptStep::Continue)
            }
            ReserveOutcome::DescribeFailed(error) => {
                attacher.release(guard, instance).await;
                let (pause, why) = error?;
                Ok(AttemptStep::Retry(pause, why))
            }
            // If it was written the tracker settles it.
            ReserveOutcome::LedgerUnavailable(error) if error.maybe_applied() => Err(caller_session::outcome_unknown()),
            ReserveOutcome::LedgerUnavailable(_) if Instant::now() >= self.session.deadline() => {
                self.session.close().map(|known| AttemptStep::Done(Box::new(known)))
            }
            ReserveOutcome::LedgerUnavailable(error) => {
                Ok(AttemptStep::Retry(LEDGER_RETRY, self.session.ledger_unreached(&error)?))
            }
        }
    }
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Tries to reserve, for the caller of this session if there is one. The session counts as sending only while a command that may
    /// record a send is in flight, and after one is recorded. A describe uses the permit that was passed in, or one that is available
    /// at once.
    pub(super) async fn reserve(
        &self,
        guard: &mut QueueGuard,
        instance: &InstanceId,
        mut reserving: ReserveRequest,
        describe: &mut Option<Permit>,
        caller: Option<&CallerSession>,
    ) -> ReserveOutcome {
        loop {
            if let Some(Err(closed)) = caller.map(CallerSession::begin_send) {
                return ReserveOutcome::Closed(closed);
            }
            let command = reserving.command();
            let answer = match caller {
                Some(session) => self.execute_until_known(instance, &command, session).await,
                None => self.ledger.execute(instance, &command).await,
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    if let (Some(session), false) = (caller, error.maybe_applied()) {
                        session.reopen();
                    }
                    return ReserveOutcome::LedgerUnavailable(error);
                }
            };
            if let Some(session) = caller {
                session.ledger_reached();
            }
            guard.apply_reply(&answer);
            let heard = match reserving.on_reply(&answer.reply, &answer.record.epoch) {
                NextStep::Reserved(reserved) => return ReserveOutcome::Reserved(reserved),
                heard => heard,
            };
            if let Some(session) = caller {
                session.reopen();
            }
            if !matches!(heard, NextStep::Describe) {
                return ReserveOutcome::Denied(Box::new(answer));
            }
            let permit = match describe.take() {
                Some(permit) => permit,
                None => match self.limiter.try_permit(RateClass::Describe).await {
                    Ok(permit) => permit,
                    Err(_) => return ReserveOutcome::NoDescribePermit,
                },
            };
            if let Some(session) = caller {
                session.set_pending_error(failures::not_sent("its answer about the instance did not come in time"));
            }
            match self.describe(instance, permit).await {
                Ok((sent_at, rows)) => reserving.on_observation(sent_at, rows),
                Err(error) => return ReserveOutcome::DescribeFailed(error),
            }
        }
    }

    /// Executes a command that may record a send, while the caller waits. A caller that left, or received `OUTCOME_UNKNOWN`, may call
    /// again, and that call's answer must stay true. A lost reply is requested again until it is known: before that the caller must not
    /// receive "nothing will be sent". The tracker settles what was recorded nevertheless.
    async fn execute_until_known(
        &self,
        instance: &InstanceId,
        command: &Command,
        session: &CallerSession,
    ) -> Result<CommandOutcome, LedgerError> {
        let mut in_doubt = false;
        while !session.is_abandoned() {
            match self.ledger.execute_until(instance, command, session.deadline()).await {
                Err(error) if in_doubt || error.maybe_applied() => {
                    in_doubt = true;
                    session.set_pending_error(failures::unavailable(&error));
                }
                answer => return answer,
            }
            tokio::time::sleep(LEDGER_RETRY).await;
        }
        Err(match in_doubt {
            true => LedgerError::outcome_unknown("its answer was lost"),
            false => LedgerError::not_applied("its caller left"),
        })
    }

    /// Releases the lock, or the ticket, unless another caller takes it over.
    pub(super) async fn release_if_idle(&self, guard: &mut QueueGuard, instance: &InstanceId) {
        let enough = guard
            .held()
            .is_none_or(|held| BootInstant::now() + self.attempt_timeout + LEASE_MARGIN < held.ends);
        if guard.has_no_waiters() || !enough {
            self.release(guard, instance).await;
        }
    }

    /// Releases the lock, or the ticket. If the ledger cannot be reached both expire.
    pub(super) async fn release(&self, guard: &mut QueueGuard, instance: &InstanceId) {
        if let Some(ticket) = guard.reset() {
            // A lease that is not given back lapses.
            let _ = self.ledger.execute(instance, &Command::Release { ticket }).await;
        }
    }
}
