//! What stands between a caller who waits and the attempt that runs whatever the caller does.
//!
//! Before the send the caller decides: a deadline or a hang-up closes the gate, and then nothing is sent, ever. Once the
//! attempt has passed the gate it goes on to its end, and a caller who cannot wait that long hears that the outcome is unknown.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ledger::Unavailable;
use crate::model::{Attachment, Code, Failure, Reason, Sent};

use super::failures;
use super::line::Line;

/// With less time than this until the deadline nothing is sent: the answer could not be told.
const LEAST_TIME_TO_SEND: Duration = Duration::from_millis(200);

/// How long an outage of the ledger is waited out, by each call and from its beginning. A longer one is answered at once, so that calls
/// do not fill the replica while nothing can be done for them.
pub(super) const LEDGER_PATIENCE: Duration = Duration::from_secs(3);

/// The gate of one call.
pub(super) struct Gate {
    deadline: Instant,
    closed: CancellationToken,
    state: Mutex<GateState>,
}

struct GateState {
    phase: Phase,
    /// What the caller hears if nothing better comes before the deadline.
    blocked_by: Failure,
    /// The line that the attempt is the first of: what keeps it keeps them.
    leads: Option<Arc<Line>>,
    /// Since when the ledger could not be asked.
    unreached_since: Option<Instant>,
    /// A copy went out, and came to nothing.
    went_out: bool,
    /// One was sent again with fresh credentials.
    refreshed: bool,
    /// The caller was answered, or hung up: nothing is begun for him any more.
    left: bool,
}

enum Phase {
    /// Nothing was sent, and no send is written.
    Waiting,
    /// A send is or may be written, or is under way, or somebody else's was joined.
    Sending,
    /// ENS has answered.
    Known(Box<Result<Attachment, Failure>>),
    /// Nothing was sent, and nothing will be.
    Closed,
}

impl Gate {
    pub(super) fn new(deadline: Instant) -> Arc<Self> {
        let state = Mutex::new(GateState {
            phase: Phase::Waiting,
            blocked_by: failures::in_line(),
            leads: None,
            unreached_since: None,
            went_out: false,
            refreshed: false,
            left: false,
        });
        Arc::new(Self {
            deadline,
            closed: CancellationToken::new(),
            state,
        })
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What keeps the attempt from being sent now. Of a copy that went out, and that ENS throttled or refused for the moment, the caller
    /// hears to the end: nobody says any more that nothing was sent.
    pub(super) fn blocked_by(&self, failure: Failure) {
        let mut state = self.state();
        if let Some(line) = &state.leads {
            line.tell(&failure);
        }
        if !state.went_out || failure.reason.sent() != Sent::Nothing {
            state.blocked_by = failure;
        }
    }

    /// From now on the attempt is the first in this line, or in none.
    pub(super) fn lead(&self, line: Option<Arc<Line>>) {
        self.state().leads = line;
    }

    /// Nothing will be sent, for this reason: what the caller hears.
    pub(super) fn refuse(&self, failure: Failure) -> Failure {
        self.blocked_by(failure);
        self.state().blocked_by.clone()
    }

    /// The ledger answered.
    pub(super) fn reached(&self) {
        self.state().unreached_since = None;
    }

    /// The ledger could not be asked: why, for the pause before it is asked again.
    ///
    /// # Errors
    /// It has been out of reach for so long, or is unusable for good, that asking again is of no use.
    pub(super) fn unreached(&self, error: &Unavailable) -> Result<Failure, Failure> {
        let why = failures::unavailable(error);
        let since = *self.state().unreached_since.get_or_insert_with(Instant::now);
        match error.lasting || error.down_for.max(since.elapsed()) >= LEDGER_PATIENCE {
            true => Err(self.refuse(why)),
            false => Ok(why),
        }
    }

    /// Whether the attach may be sent again with fresh credentials: once for each call.
    pub(super) fn refresh(&self) -> bool {
        !std::mem::replace(&mut self.state().refreshed, true)
    }

    /// A copy went out and came to nothing, for this reason.
    pub(super) fn went_out(&self, why: &Failure) {
        let mut state = self.state();
        state.went_out = true;
        state.blocked_by = why.clone();
    }

    /// Passes the gate, right before a command that may write a send.
    ///
    /// # Errors
    /// What blocked so far: the gate is closed, or too little time is left to tell the answer.
    pub(super) fn pass(&self) -> Result<(), Failure> {
        let mut state = self.state();
        if matches!(state.phase, Phase::Closed) || Instant::now() + LEAST_TIME_TO_SEND > self.deadline {
            state.phase = Phase::Closed;
            return Err(state.blocked_by.clone());
        }
        state.phase = Phase::Sending;
        Ok(())
    }

    /// Somebody else's attempt is the caller's own now.
    pub(super) fn join(&self) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Closed) {
            state.phase = Phase::Sending;
        }
    }

    /// Back before the gate: nothing was sent after all. It is closed to who left meanwhile.
    pub(super) fn back(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Sending) {
            state.phase = Phase::Waiting;
            if state.left {
                state.phase = Phase::Closed;
                self.closed.cancel();
            }
        }
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_left(&self) -> bool {
        self.state().left
    }

    /// ENS has answered: what the caller hears even if writing it down takes longer than the deadline.
    pub(super) fn know(&self, answer: Result<Attachment, Failure>) {
        self.state().phase = Phase::Known(Box::new(answer));
    }

    /// The caller leaves, or cannot wait any longer.
    pub(super) fn close(&self) -> Result<Attachment, Failure> {
        let mut state = self.state();
        state.left = true;
        let answer = match &state.phase {
            Phase::Known(answer) => return (**answer).clone(),
            Phase::Sending => return Err(outcome_unknown().code(Code::DeadlineExceeded)),
            Phase::Waiting | Phase::Closed => Err(state.blocked_by.clone()),
        };
        state.phase = Phase::Closed;
        drop(state);
        self.closed.cancel();
        answer
    }

    /// The replica leaves: as [`Gate::close`], but it is not the deadline that struck.
    pub(super) fn leave(&self) -> Result<Attachment, Failure> {
        self.blocked_by(failures::draining());
        self.close().map_err(|failure| match failure.reason {
            Reason::OutcomeUnknown => failure.code(Code::Unavailable),
            _ => failure,
        })
    }

    /// Runs `work` until the deadline, or until the caller hangs up before anything was sent.
    ///
    /// # Errors
    /// As [`Gate::close`] would answer.
    pub(super) async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(self.state().blocked_by.clone()),
            output = work => Ok(output),
            () = sleep_until(self.deadline) => match self.close() {
                Err(failure) => Err(failure),
                Ok(_) => Err(outcome_unknown()),
            },
        }
    }

    /// Pauses, and says why; not if the pause would outlast the deadline.
    ///
    /// # Errors
    /// As [`Gate::bound`].
    pub(super) async fn pause(&self, pause: Duration, why: Failure) -> Result<(), Failure> {
        self.blocked_by(why);
        if Instant::now() + pause >= self.deadline {
            // Waiting would not help.
            return self.close().map(drop);
        }
        self.bound(tokio::time::sleep(pause)).await
    }
}

/// Closes the gate when the caller's future is dropped.
pub(super) struct HangUp(pub(super) Arc<Gate>);

impl Drop for HangUp {
    fn drop(&mut self) {
        // What the caller would have heard, nobody hears.
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
        let gate = Gate::new(Instant::now() + Duration::from_secs(1));
        gate.went_out(&Failure::new(Reason::EnsThrottled, "ens throttles the account"));
        gate.blocked_by(failures::lock_wait(1));
        assert_eq!(gate.leave().unwrap_err().reason, Reason::EnsThrottled);

        let gate = Gate::new(Instant::now() + Duration::from_secs(1));
        gate.went_out(&Failure::new(Reason::EnsThrottled, "ens throttles the account"));
        let unfit = Failure::new(Reason::CoordinationUnavailable, "the ledger cannot be used");
        assert_eq!(gate.refuse(unfit).reason, Reason::EnsThrottled);

        let gate = Gate::new(Instant::now() + Duration::from_secs(1));
        gate.blocked_by(Failure::new(Reason::EnsThrottled, "no permit in time"));
        gate.blocked_by(failures::lock_wait(1));
        assert_eq!(gate.close().unwrap_err().reason, Reason::LockWait);
    }
}
