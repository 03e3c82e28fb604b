//! The retry policy of an attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::ens::DescribeError;
use crate::failures::Operation;
use crate::ledger::LedgerError;
use crate::model::{Failure, Reason};

/// Minimum time between two rounds of a call that waits for the lock, another attempt or the
/// ledger. It bounds a call of `t` seconds to `50 t` rounds, each with at most
/// [`MOST_CALLS_PER_ROUND`](super::MOST_CALLS_PER_ROUND) ledger calls. A round usually takes a
/// quarter of a second.
pub const LEAST_ROUND: Duration = Duration::from_millis(20);
/// Maximum ledger outage that a call waits out, from the outage's beginning. A longer one fails
/// calls at once, so that they do not fill the replica.
pub(super) const LEDGER_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a retry of the ledger.
pub(super) const LEDGER_RETRY: Duration = Duration::from_millis(300);
/// Pause where ENS throttles and gives no time.
pub(super) const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a describe that failed temporarily or settled nothing.
pub(super) const DESCRIBE_PAUSE: Duration = Duration::from_millis(500);
/// Maximum number of failed attempts to reach ENS.
const MOST_UNREACHED: u32 = 3;

/// A retry after a pause.
pub(super) struct Retry {
    pub(super) pause: Duration,
    /// The caller's error if there is no time for another try.
    pub(super) why: Failure,
}

/// The retry policy of one attempt, with what it has tried so far.
pub(super) struct RetryPolicy {
    /// Remaining failures to reach ENS.
    tries: u32,
    ledger_down_since: Option<Instant>,
    may_refresh_credentials: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries: MOST_UNREACHED, ledger_down_since: None, may_refresh_credentials: true }
    }
}

impl RetryPolicy {
    /// No retries.
    pub(super) const fn none() -> Self {
        Self { tries: 0, ledger_down_since: None, may_refresh_credentials: false }
    }

    /// A retry after this failure.
    ///
    /// # Errors
    /// The failure, if no retries remain.
    pub(super) fn after(&mut self, pause: Duration, why: Failure) -> Result<Retry, Failure> {
        if why.reason == Reason::NotApplied {
            self.tries = self.tries.saturating_sub(1);
        }
        match self.tries {
            0 => Err(why),
            _ => Ok(Retry { pause: pause.max(LEAST_ROUND), why }),
        }
    }

    /// A retry after a describe that failed.
    ///
    /// # Errors
    /// As [`RetryPolicy::after`], or another describe would fail as well.
    pub(super) fn after_describe(&mut self, error: &DescribeError) -> Result<Retry, Failure> {
        let why = Operation::Attach.describe_failed(error);
        match error {
            DescribeError::Throttled { retry_after, .. } => {
                self.after(retry_after.unwrap_or(DESCRIBE_PAUSE), why)
            }
            DescribeError::Unavailable(_)
            | DescribeError::Untrusted(_)
            | DescribeError::Incomplete
            | DescribeError::NoPermit { .. } => self.after(DESCRIBE_PAUSE, why),
            DescribeError::Refused(_)
            | DescribeError::UnknownId(_)
            | DescribeError::NotReady(_) => Err(why),
        }
    }

    /// Counts a failed ledger call. Returns whether the outage is permanent or too long to wait
    /// out.
    pub(super) fn record_ledger_failure(&mut self, error: &LedgerError) -> bool {
        let since = *self.ledger_down_since.get_or_insert_with(Instant::now);
        error.is_misconfigured() || error.outage().down_for.max(since.elapsed()) >= LEDGER_PATIENCE
    }

    /// Records that the ledger answered.
    pub(super) fn record_ledger_reached(&mut self) {
        self.ledger_down_since = None;
    }

    /// Whether to retry the attach with fresh credentials, once for each call.
    pub(super) fn try_refresh_credentials(&mut self) -> bool {
        std::mem::take(&mut self.may_refresh_credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_where_another_try_would_not_help() {
        let unreached = || Failure::new(Reason::NotApplied, "ens could not be reached");
        let throttled = || Failure::new(Reason::EnsThrottled, "ens throttles the account");
        let mut policy = RetryPolicy::default();
        for _ in 1..MOST_UNREACHED {
            assert!(policy.after(DESCRIBE_PAUSE, unreached()).is_ok());
            let retry = policy.after(Duration::ZERO, throttled());
            assert!(retry.is_ok_and(|retry| retry.pause == LEAST_ROUND));
        }
        assert!(policy.after(DESCRIBE_PAUSE, unreached()).is_err());
        assert!(RetryPolicy::none().after(DESCRIBE_PAUSE, throttled()).is_err());

        let mut policy = RetryPolicy::default();
        let down = LedgerError::not_applied("it is down");
        assert!(!policy.record_ledger_failure(&down));
        tokio::time::advance(LEDGER_PATIENCE).await;
        assert!(policy.record_ledger_failure(&down));
        policy.record_ledger_reached();
        assert!(!policy.record_ledger_failure(&down));
        assert!(policy.record_ledger_failure(&down.with_outage(LEDGER_PATIENCE)));
        assert!(policy.record_ledger_failure(&LedgerError::misconfigured("no eviction policy")));
    }
}
