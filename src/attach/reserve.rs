//! The lock, a slot and the record of a send, in one commit. If the last observation is too old,
//! the instance is observed first.

use tokio::time::{Instant, sleep};

use crate::ens::{DescribeError, Ens};
use crate::failures::{Operation, attach as failures};
use crate::ledger::command::{Command, Mode, Reply};
use crate::ledger::execute::CommandOutcome;
use crate::ledger::{LedgerError, LedgerStore};
use crate::model::{Failure, Ticket, Uid, random};
use crate::rate_limit::RateClass;

use super::AttemptTask;
use super::discovery::Discovery;
use super::flow::{Reserving, Step};
use super::retry::{DESCRIBE_PAUSE, LEDGER_RETRY};
use super::send_permit::SendPermit;
use super::steps::ReserveRequest;

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// The request for a reservation with this permit.
    pub(super) fn reserving(&mut self, ticket: Ticket, permit: SendPermit) -> Box<Reserving> {
        let want = match self.resends {
            Some(uid) => Command::Resend { ticket, uid, eni: self.request.eni.clone() },
            // A withdrawn uid may have been ended meanwhile, so it is not reused.
            None => {
                let uid = Uid(random::uuid());
                self.request.acquire_command(ticket, uid, Mode::Reserve, self.confirmed_since())
            }
        };
        let mut request = ReserveRequest::new(want);
        if let Some(seen) = self.discovery.as_mut().and_then(Discovery::take_recent) {
            request.on_observation(seen.sent_at, seen.rows);
        }
        Box::new(Reserving { request, permit, in_doubt: false })
    }

    /// Acquires the lock, reserves a slot and records a send. The session counts as sending while
    /// such a command is in flight, and after its commit.
    pub(super) async fn reserve(&mut self, mut reserving: Box<Reserving>) -> Result<Step, Failure> {
        if !reserving.in_doubt {
            self.session.begin_send()?;
        }
        let (command, deadline) = (reserving.request.command(), self.session.deadline());
        let ledger = self.backends().ledger.clone();
        let answer = match ledger.execute_until(&self.request.instance, &command, deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                reserving.in_doubt |= error.maybe_applied();
                if reserving.in_doubt {
                    return self.request_again(reserving, &error).await;
                }
                self.session.reopen();
                if Instant::now() >= deadline {
                    return self.session.close().map(|known| Step::Done(Box::new(known)));
                }
                self.pause_for_ledger(&error).await?;
                return Ok(Step::Prepare);
            }
        };
        self.on_reserve_reply(reserving, answer).await
    }

    async fn on_reserve_reply(
        &mut self,
        mut reserving: Box<Reserving>,
        answer: CommandOutcome,
    ) -> Result<Step, Failure> {
        reserving.in_doubt = false;
        self.record_ledger_reached();
        if let Some(lock) = &self.lock {
            lock.apply_reply(&answer);
        }
        let Reserving { request, .. } = &mut *reserving;
        if let Some(reserved) = request.on_reply(&answer.reply, &answer.record.epoch) {
            if self.resends.is_none() {
                self.attacher.record_lock_wait(self.arrived);
            }
            return Ok(Step::Send(Box::new(reserved), reserving.permit));
        }
        self.session.reopen();
        if request.needs_observation() {
            return Ok(Step::Observe(reserving));
        }
        match answer.reply {
            Reply::Granted { .. } => {
                self.release_lock().await;
                self.pause(
                    DESCRIBE_PAUSE,
                    failures::not_sent("the describe took longer than its result is valid"),
                )
                .await?;
                Ok(Step::Prepare)
            }
            _ => {
                self.permits.send = Some(reserving.permit.permit);
                self.follow_reply(answer).await
            }
        }
    }

    /// Repeats a reservation whose reply was lost. While the reply is unknown, the gateway must not
    /// report that nothing was sent. A caller that left or received `OUTCOME_UNKNOWN` may call
    /// again, and that call's answer must stay true. So the gateway then stops, and the tracker
    /// settles a possible record. A long outage of the ledger ends the wait of all callers.
    async fn request_again(
        &mut self,
        reserving: Box<Reserving>,
        error: &LedgerError,
    ) -> Result<Step, Failure> {
        let why = Operation::Attach.ledger_unavailable(error);
        self.set_pending_error(why.clone());
        if self.resends.is_none() {
            if self.retry.record_ledger_failure(error) {
                self.abort_waiters(&why);
                let answer = self.session.close_for_outage();
                self.send_answer(answer);
            } else {
                sleep(LEDGER_RETRY).await;
            }
            if !self.session.is_abandoned() {
                return Ok(Step::Reserve(reserving));
            }
        }
        Err(failures::outcome_unknown())
    }

    /// Observes the instance under the lock, with permits that are available at once. The
    /// observation is recorded with the reservation.
    pub(super) async fn observe(&mut self, mut reserving: Box<Reserving>) -> Result<Step, Failure> {
        let permit = match self.permits.describe.take() {
            Some(permit) => Some(permit),
            None => self.try_permit(RateClass::Describe).await,
        };
        let Some(permit) = permit else {
            return self.await_describe_permit(reserving, 1).await;
        };
        self.set_pending_error(failures::not_sent(
            "the describe of the instance got no answer in time",
        ));
        let backends = self.backends().clone();
        match backends.observe_instance(&self.request.instance, permit.spend()).await {
            Ok(seen) => {
                reserving.request.on_observation(seen.sent_at, seen.rows);
                Ok(Step::Reserve(reserving))
            }
            Err(DescribeError::NoPermit { calls, .. }) => {
                self.await_describe_permit(reserving, calls).await
            }
            Err(error) => {
                self.release_lock().await;
                let retry = self.retry.after_describe(&error)?;
                self.pause_for(retry).await?;
                Ok(Step::Prepare)
            }
        }
    }

    /// Waits, without the lock, for a permit for this many calls of one describe.
    async fn await_describe_permit(
        &mut self,
        reserving: Box<Reserving>,
        calls: u32,
    ) -> Result<Step, Failure> {
        self.permits.send = Some(reserving.permit.permit);
        self.release_lock().await;
        for _ in 0..calls {
            self.permits.return_probes();
            let Some(permit) = self.permit(RateClass::Describe).await? else {
                break;
            };
            match &mut self.permits.describe {
                Some(kept) => kept.add(permit),
                kept => *kept = Some(permit),
            }
        }
        Ok(Step::Prepare)
    }
}
