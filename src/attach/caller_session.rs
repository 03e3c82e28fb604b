//! The state that a waiting caller and its attempt share, and the end of the caller's wait.
//!
//! Before the send the caller decides: an expired or cancelled call closes the session, and nothing
//! is sent. Its error is the attempt's pending error. After the send has begun the attempt
//! continues without the caller, which receives `OUTCOME_UNKNOWN` at the deadline.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::drain::{self, Phase};
use crate::failures::{LEDGER_OUTAGE, Operation, attach as failures};
use crate::model::{Attachment, Code, Failure, Reason, SendEffect};

use super::lock_queue::{InstanceQueue, QueueGuard};

/// Minimum time until the deadline for a send, so that the answer can be returned.
const LEAST_TIME_TO_SEND: Duration = Duration::from_millis(200);

/// The caller's answer.
pub(super) type Answer = Result<Attachment, Failure>;

/// The session of one call.
pub(super) struct CallerSession {
    deadline: Instant,
    closed: CancellationToken,
    state: Mutex<SessionState>,
}

struct SessionState {
    phase: SessionPhase,
    /// The error that the caller receives at the deadline.
    pending_error: Failure,
    /// The queue of the attempt. Its pending error is then that of the queue's first caller.
    waits_in: Option<Arc<InstanceQueue>>,
    /// A copy was sent without effect.
    sent_without_effect: bool,
    /// The caller was answered or has cancelled: no new send begins for it.
    abandoned: bool,
}

enum SessionPhase {
    /// Nothing was sent, and no send is recorded.
    Waiting,
    /// A send is or may be recorded, or is in flight, or the attempt of another call was joined.
    Sending,
    /// ENS has answered.
    Known(Box<Answer>),
    /// Nothing was sent, and nothing will be.
    Closed,
}

impl SessionState {
    /// Sets the pending error. After a copy was sent without effect, "nothing was sent" does not
    /// replace its error.
    fn replace_error(&mut self, failure: Failure) {
        if !self.sent_without_effect || failure.reason.send_effect() != SendEffect::Nothing {
            self.pending_error = failure;
        }
    }

    fn ensure_time_to_send(&mut self, deadline: Instant) -> Result<(), Failure> {
        if matches!(self.phase, SessionPhase::Closed)
            || Instant::now() + LEAST_TIME_TO_SEND > deadline
        {
            self.phase = SessionPhase::Closed;
            return Err(self.pending_error.clone());
        }
        Ok(())
    }
}

impl CallerSession {
    pub(super) fn new(deadline: Instant) -> Arc<Self> {
        let state = Mutex::new(SessionState {
            phase: SessionPhase::Waiting,
            pending_error: failures::lock_wait(0),
            waits_in: None,
            sent_without_effect: false,
            abandoned: false,
        });
        Arc::new(Self { deadline, closed: CancellationToken::new(), state })
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits for the caller's answer: the attempt's, or the session's at the deadline or at the
    /// drain's end.
    pub(super) async fn wait_for_answer(
        &self,
        attempt: oneshot::Receiver<Answer>,
        drain: &drain::Watch,
    ) -> Answer {
        tokio::select! {
            biased;
            answer = attempt => answer.unwrap_or_else(|_| {
                tracing::error!("an attempt ended by a panic");
                Err(failures::outcome_unknown())
            }),
            () = sleep_until(self.deadline) => self.close(),
            () = drain.reached(Phase::Closing) => self.close_for_drain(),
        }
    }

    /// Sets the error that the caller receives at the deadline.
    pub(super) fn set_pending_error(&self, failure: Failure) {
        self.state().replace_error(failure);
    }

    /// Sets the error with which the call ends before a send, and returns it.
    pub(super) fn refuse(&self, failure: Failure) -> Failure {
        let mut state = self.state();
        state.replace_error(failure);
        state.pending_error.clone()
    }

    /// Records that a copy was sent without effect, for this reason.
    pub(super) fn mark_sent(&self, why: &Failure) {
        let mut state = self.state();
        state.sent_without_effect = true;
        state.pending_error = why.clone();
    }

    /// Begins a send, right before a command that may record one.
    ///
    /// # Errors
    /// The pending error: the session is closed, or too little time is left to return the answer.
    pub(super) fn begin_send(&self) -> Result<(), Failure> {
        let mut state = self.state();
        state.ensure_time_to_send(self.deadline)?;
        state.phase = SessionPhase::Sending;
        Ok(())
    }

    /// Closes the session if too little time is left for a send.
    ///
    /// # Errors
    /// The pending error: the session is closed.
    pub(super) fn ensure_time_to_send(&self) -> Result<(), Failure> {
        self.state().ensure_time_to_send(self.deadline)
    }

    /// Records that the attempt joined that of another call.
    pub(super) fn mark_joined(&self) {
        let mut state = self.state();
        if !matches!(state.phase, SessionPhase::Closed) {
            state.phase = SessionPhase::Sending;
        }
    }

    /// Undoes [`Self::begin_send`] because nothing was sent. An abandoned session closes.
    pub(super) fn reopen(&self) {
        let mut state = self.state();
        if matches!(state.phase, SessionPhase::Sending) {
            state.phase = SessionPhase::Waiting;
            if state.abandoned {
                state.phase = SessionPhase::Closed;
                self.closed.cancel();
            }
        }
    }

    /// Whether the caller no longer waits for the answer.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Sets ENS's answer. The caller receives it even if its record takes longer than the deadline.
    pub(super) fn set_result(&self, answer: Answer) {
        self.state().phase = SessionPhase::Known(Box::new(answer));
    }

    /// Ends the caller's wait and returns its answer.
    pub(super) fn close(&self) -> Answer {
        let mut state = self.state();
        state.abandoned = true;
        if let Some(queue) = state.waits_in.take() {
            state.replace_error(queue.blocked_by());
        }
        let answer = match &state.phase {
            SessionPhase::Known(answer) => return (**answer).clone(),
            SessionPhase::Sending => {
                return Err(failures::outcome_unknown().code(Code::DeadlineExceeded));
            }
            SessionPhase::Waiting | SessionPhase::Closed => Err(state.pending_error.clone()),
        };
        state.phase = SessionPhase::Closed;
        drop(state);
        self.closed.cancel();
        answer
    }

    /// As [`CallerSession::close`], for a drain.
    fn close_for_drain(&self) -> Answer {
        self.wait_in(None);
        self.set_pending_error(Operation::Attach.draining());
        self.close_before_deadline()
    }

    /// As [`CallerSession::close`], when the result cannot be recorded yet: ENS's answer, or
    /// `OUTCOME_UNKNOWN`.
    pub(super) fn close_for_outage(&self) -> Answer {
        self.close_before_deadline().map_err(|failure| match failure.reason {
            Reason::OutcomeUnknown => failure.retry_after(LEDGER_OUTAGE),
            _ => failure,
        })
    }

    fn close_before_deadline(&self) -> Answer {
        self.close().map_err(|failure| match failure.reason {
            Reason::OutcomeUnknown => failure.code(Code::Unavailable),
            _ => failure,
        })
    }

    /// Runs `work` until the deadline, or until the caller leaves before a send.
    ///
    /// # Errors
    /// The error of [`CallerSession::close`].
    pub(super) async fn until_deadline<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(self.state().pending_error.clone()),
            output = work => Ok(output),
            () = sleep_until(self.deadline) => match self.close() {
                Err(failure) => Err(failure),
                Ok(_) => Err(failures::outcome_unknown()),
            },
        }
    }

    /// Sleeps; returns at once if the pause would outlast the deadline.
    ///
    /// # Errors
    /// As [`CallerSession::until_deadline`].
    pub(super) async fn sleep(&self, pause: Duration) -> Result<(), Failure> {
        if Instant::now() + pause >= self.deadline {
            // A pause past the deadline is of no use.
            return self.close().map(drop);
        }
        self.until_deadline(sleep(pause)).await
    }

    /// Waits for the head of the queue.
    ///
    /// # Errors
    /// As [`CallerSession::until_deadline`], or the ledger outage that ends the wait of all callers
    /// in the queue.
    pub(super) async fn head_of(&self, queue: &Arc<InstanceQueue>) -> Result<QueueGuard, Failure> {
        self.wait_in(Some(queue.clone()));
        let head = self.until_deadline(queue.lock()).await;
        self.wait_in(None);
        head?.map_err(|outage| self.refuse(outage))
    }

    /// Sets the queue in which the attempt waits, whose first caller decides its pending error.
    pub(super) fn wait_in(&self, queue: Option<Arc<InstanceQueue>>) {
        self.state().waits_in = queue;
    }
}

/// Closes the session when the caller's future is dropped.
pub(super) struct CloseOnDrop(pub(super) Arc<CallerSession>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // There is no caller left to receive the answer.
        let _ = self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_throttled_caller_does_not_receive_that_nothing_was_sent() {
        let session = CallerSession::new(Instant::now() + Duration::from_secs(1));
        session.mark_sent(&Failure::new(Reason::EnsThrottled, "ens throttles the account"));
        session.set_pending_error(failures::lock_wait(1));
        assert_eq!(session.close_for_drain().unwrap_err().reason, Reason::EnsThrottled);

        let session = CallerSession::new(Instant::now() + Duration::from_secs(1));
        session.mark_sent(&Failure::new(Reason::EnsThrottled, "ens throttles the account"));
        let misconfigured =
            Failure::new(Reason::CoordinationUnavailable, "the ledger cannot be used");
        assert_eq!(session.refuse(misconfigured).reason, Reason::EnsThrottled);

        let session = CallerSession::new(Instant::now() + Duration::from_secs(1));
        session.set_pending_error(Failure::new(Reason::EnsThrottled, "no permit in time"));
        session.set_pending_error(failures::lock_wait(1));
        assert_eq!(session.close().unwrap_err().reason, Reason::LockWait);
    }
}
