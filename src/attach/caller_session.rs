//! The state that a waiting caller and its attempt share.
//!
//! Before the send the caller decides: an expired or cancelled call closes the session, and then nothing is sent. After the send has
//! begun the attempt continues without the caller, who receives `OUTCOME_UNKNOWN` at the deadline.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ledger::LedgerError;
use crate::model::{Attachment, Code, Failure, Reason, SendEffect};

use super::failures;
use super::lock_queue::InstanceQueue;

/// Minimum time until the deadline for a send: with less the answer could not be returned.
const LEAST_TIME_TO_SEND: Duration = Duration::from_millis(200);

/// How long an outage of the ledger is waited out, by each call and from its beginning. A longer one is answered at once, so that calls
/// do not fill the replica while nothing can be done for them.
pub(super) const LEDGER_PATIENCE: Duration = Duration::from_secs(3);

/// The session of one call.
pub(super) struct CallerSession {
    deadline: Instant,
    closed: CancellationToken,
    ledger_lost: CancellationToken,
    state: Mutex<SessionState>,
}

struct SessionState {
    phase: SessionPhase,
    /// The error that the caller receives at the deadline.
    pending_error: Failure,
    /// The queue whose first caller this is: its pending error is passed on to the callers behind.
    leads: Option<Arc<InstanceQueue>>,
    /// Since when the ledger cannot be reached.
    unreached_since: Option<Instant>,
    /// A copy was sent without effect.
    sent_without_effect: bool,
    /// The attach was sent again with fresh credentials.
    credentials_refreshed: bool,
    /// The caller was answered or has cancelled: no new send begins for it.
    abandoned: bool,
}

enum SessionPhase {
    /// Nothing was sent, and no send is written.
    Waiting,
    /// A send is or may be recorded, or is in flight, or the attempt of another call was joined.
    Sending,
    /// ENS has answered.
    Known(Box<Result<Attachment, Failure>>),
    /// Nothing was sent, and nothing will be.
    Closed,
}

impl CallerSession {
    pub(super) fn new(deadline: Instant) -> Arc<Self> {
        let state = Mutex::new(SessionState {
            phase: SessionPhase::Waiting,
            pending_error: failures::queue_wait(),
            leads: None,
            unreached_since: None,
            sent_without_effect: false,
            credentials_refreshed: false,
            abandoned: false,
        });
        Arc::new(Self {
            deadline,
            closed: CancellationToken::new(),
            ledger_lost: CancellationToken::new(),
            state,
        })
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sets the error that the caller receives at the deadline. After a copy was sent that ENS throttled or refused for the moment, an
    /// error that reports that nothing was sent does not replace it.
    pub(super) fn set_pending_error(&self, failure: Failure) {
        let mut state = self.state();
        if let Some(line) = &state.leads {
            line.set_blocked_by(&failure);
        }
        if !state.sent_without_effect || failure.reason.send_effect() != SendEffect::Nothing {
            state.pending_error = failure;
        }
    }

    /// Makes the attempt the first of this queue, or of none.
    pub(super) fn set_leading(&self, line: Option<Arc<InstanceQueue>>) {
        self.state().leads = line;
    }

    /// The error that the caller receives when this one ends the call before a send.
    pub(super) fn refuse(&self, failure: Failure) -> Failure {
        self.set_pending_error(failure);
        self.state().pending_error.clone()
    }

    /// The ledger answered.
    pub(super) fn ledger_reached(&self) {
        self.state().unreached_since = None;
    }

    /// Returns the error for the pause before the next try to reach the ledger.
    ///
    /// # Errors
    /// It has been out of reach for so long, or is unusable for good, that asking again is of no use.
    pub(super) fn ledger_unreached(&self, error: &LedgerError) -> Result<Failure, Failure> {
        let why = failures::unavailable(error);
        let since = *self.state().unreached_since.get_or_insert_with(Instant::now);
        match error.is_misconfigured() || error.outage().down_for.max(since.elapsed()) >= LEDGER_PATIENCE {
            true => Err(self.refuse(why)),
            false => Ok(why),
        }
    }

    /// Whether the attach may be sent again with fresh credentials: once for each call.
    pub(super) fn try_refresh_credentials(&self) -> bool {
        !std::mem::replace(&mut self.state().credentials_refreshed, true)
    }

    /// A copy went out and came to nothing, for this reason.
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
        if matches!(state.phase, SessionPhase::Closed) || Instant::now() + LEAST_TIME_TO_SEND > self.deadline {
            state.phase = SessionPhase::Closed;
            return Err(state.pending_error.clone());
        }
        state.phase = SessionPhase::Sending;
        Ok(())
    }

    /// Joins the attempt of another call.
    pub(super) fn mark_joined(&self) {
        let mut state = self.state();
        if !matches!(state.phase, SessionPhase::Closed) {
            state.phase = SessionPhase::Sending;
        }
    }

    /// Returns to the state before the send: nothing was sent after all. An abandoned session closes.
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

    /// Whether no caller waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Sets ENS's answer: the caller receives it even if recording it takes longer than the deadline.
    pub(super) fn set_result(&self, answer: Result<Attachment, Failure>) {
        self.state().phase = SessionPhase::Known(Box::new(answer));
    }

    /// The caller leaves, or cannot wait any longer.
    pub(super) fn close(&self) -> Result<Attachment, Failure> {
        let mut state = self.state();
        state.abandoned = true;
        let answer = match &state.phase {
            SessionPhase::Known(answer) => return (**answer).clone(),
            SessionPhase::Sending => return Err(outcome_unknown().code(Code::DeadlineExceeded)),
            SessionPhase::Waiting | SessionPhase::Closed => Err(state.pending_error.clone()),
        };
        state.phase = SessionPhase::Closed;
        drop(state);
        self.closed.cancel();
        answer
    }

    /// The replica leaves: as [`CallerSession::close`], but it is not the deadline that struck.
    pub(super) fn close_for_drain(&self) -> Result<Attachment, Failure> {
        self.set_pending_error(failures::draining());
        self.close_before_deadline()
    }

    /// Reports that the result of the send cannot be recorded yet. The caller does not wait for that.
    pub(super) fn report_ledger_lost(&self) {
        self.ledger_lost.cancel();
    }

    /// Resolves after [`CallerSession::report_ledger_lost`].
    pub(super) async fn ledger_lost(&self) {
        self.ledger_lost.cancelled().await;
    }

    /// As [`CallerSession::close`], before the deadline: ENS's answer, or that the outcome is unknown.
    pub(super) fn close_for_outage(&self) -> Result<Attachment, Failure> {
        self.close_before_deadline().map_err(|failure| match failure.reason {
            Reason::OutcomeUnknown => failure.retry_after(failures::LEDGER_OUTAGE),
            _ => failure,
        })
    }

    fn close_before_deadline(&self) -> Result<Attachment, Failure> {
        self.close().map_err(|failure| match failure.reason {
            Reason::OutcomeUnknown => failure.code(Code::Unavailable),
            _ => failure,
        })
    }

    /// Runs `work` until the deadline, or until the caller hangs up before anything was sent.
    ///
    /// # Errors
    /// As [`CallerSession::close`] would answer.
    pub(super) async fn until_deadline<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(self.state().pending_error.clone()),
            output = work => Ok(output),
            () = sleep_until(self.deadline) => match self.close() {
                Err(failure) => Err(failure),
                Ok(_) => Err(outcome_unknown()),
            },
        }
    }

    /// Pauses with this pending error; returns at once if the pause would outlast the deadline.
    ///
    /// # Errors
    /// As [`CallerSession::until_deadline`].
    pub(super) async fn pause(&self, pause: Duration, why: Failure) -> Result<(), Failure> {
        self.set_pending_error(why);
        if Instant::now() + pause >= self.deadline {
            // Waiting would not help.
            return self.close().map(drop);
        }
        self.until_deadline(tokio::time::sleep(pause)).await
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

/// Sent, and not settled in time.
pub(super) fn outcome_unknown() -> Failure {
    Failure::new(
        Reason::OutcomeUnknown,
        "the attach was sent and is not settled yet; the attempt goes on: watch it, or call again, which joins it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_was_throttled_does_not_hear_that_nothing_was_sent() {
        let session = CallerSession::new(Instant::now() + Duration::from_secs(1));
        session.mark_sent(&Failure::new(Reason::EnsThrottled, "ens throttles the account"));
        session.set_pending_error(failures::lock_wait(1));
        assert_eq!(session.close_for_drain().unwrap_err().reason, Reason::EnsThrottled);

        let session = CallerSession::new(Instant::now() + Duration::from_secs(1));
        session.mark_sent(&Failure::new(Reason::EnsThrottled, "ens throttles the account"));
        let misconfigured = Failure::new(Reason::CoordinationUnavailable, "the ledger cannot be used");
        assert_eq!(session.refuse(misconfigured).reason, Reason::EnsThrottled);

        let session = CallerSession::new(Instant::now() + Duration::from_secs(1));
        session.set_pending_error(Failure::new(Reason::EnsThrottled, "no permit in time"));
        session.set_pending_error(failures::lock_wait(1));
        assert_eq!(session.close().unwrap_err().reason, Reason::LockWait);
    }
}
