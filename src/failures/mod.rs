//! The one mapping of ledger, ENS and rate limiter replies to a caller's [`Failure`], with retry
//! advice.

pub(crate) mod attach;
pub(crate) mod watch;

use std::time::Duration;

use crate::ens::{DescribeError, EnsRefusal};
use crate::ledger::LedgerError;
use crate::model::{Failure, InstanceId, Reason};
use crate::observe::ObserveError;
use crate::rate_limit::PermitError;

/// Retry delay for an unreachable ledger.
pub(crate) const LEDGER_OUTAGE: Duration = Duration::from_secs(1);

/// The failed operation. It decides the wording about ENS and sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation<'a> {
    /// An attach. Its failures report that nothing was sent, or that ENS applied nothing.
    Attach,
    /// A read or a watch of this instance. Its failures do not mention an attach.
    Read(&'a InstanceId),
}

impl Operation<'_> {
    fn fails(self, reason: Reason, cause: &str, advice: &str) -> Failure {
        match self {
            Self::Attach => {
                Failure::new(reason, format!("{cause}; nothing was applied; try again{advice}"))
            }
            Self::Read(instance) => {
                let why = format!("cannot describe the instance: {cause}; call again{advice}");
                Failure::new(reason, why).with("instanceId", instance)
            }
        }
    }

    /// The account's budget is exhausted or unreachable.
    pub(crate) fn no_permit(self, missing: &PermitError) -> Failure {
        match missing {
            PermitError::DeadlineExceeded { wait } => {
                let cause = "timed out waiting for the account's budget of ens calls";
                self.fails(Reason::EnsThrottled, cause, " later").retry_after(*wait)
            }
            PermitError::CounterUnreachable(outage) => {
                self.ledger_unavailable(&LedgerError::NotApplied(outage.clone()))
            }
        }
    }

    /// The ledger cannot be reached, or this replica must not use it.
    pub(crate) fn ledger_unavailable(self, error: &LedgerError) -> Failure {
        let failure = |cause: &str, advice: &str| {
            Failure::new(Reason::CoordinationUnavailable, format!("{error}{cause}; {advice}"))
        };
        match (self, error.is_misconfigured()) {
            (Self::Attach, true) => failure("; nothing was sent", "another replica may reach it"),
            (Self::Attach, false) => {
                failure("; nothing was sent", "try again").retry_after(LEDGER_OUTAGE)
            }
            (Self::Read(_), true) => failure("", "another replica may reach it"),
            (Self::Read(_), false) => failure("", "call again"),
        }
    }

    /// ENS throttles the account, for `retry_after` if ENS gives it.
    pub(crate) fn throttled(self, refusal: &EnsRefusal, retry_after: Option<Duration>) -> Failure {
        let failure = self
            .fails(Reason::EnsThrottled, "ens throttles the account", " later")
            .ens(refusal.code.clone(), refusal.request_id.clone());
        match retry_after {
            Some(delay) => failure.retry_after(delay),
            None => failure,
        }
    }

    /// ENS refused.
    pub(crate) fn refused(self, refusal: &EnsRefusal) -> Failure {
        let (reason, what) = match (self, Reason::of_ens_code(&refusal.code)) {
            (Self::Attach, reason) => (reason, "ens refused"),
            (
                Self::Read(_),
                reason @ (Reason::EnsCredentialsRejected
                | Reason::EnsPermissionDenied
                | Reason::InstanceNotFound
                | Reason::EnsInvalidParameter),
            ) => (reason, "ens refused to describe the instance"),
            // Other codes are reasons of attaches only.
            (Self::Read(_), _) => (Reason::EnsError, "ens refused to describe the instance"),
        };
        let advice = match (self, reason) {
            (Self::Read(_), Reason::InstanceNotFound | Reason::EnsInvalidParameter) => {
                "; correct the instance's id"
            }
            (Self::Attach, Reason::InstanceNotStopped) => "; stop the instance, and try again",
            (Self::Attach, Reason::EniLimitExceeded) => {
                "; detach another eni from the instance first"
            }
            (Self::Attach, Reason::EniNotAvailable) => {
                "; the eni must be Available: detach it, or wait until it is free"
            }
            (Self::Attach, Reason::NetworkMismatch) => {
                "; use an eni of the instance's network and node"
            }
            (Self::Attach, Reason::EniTypeNotSupported) => "; only secondary enis can be attached",
            _ => "",
        };
        let EnsRefusal { code, message, request_id } = refusal;
        // ENS's words about the gateway's account are in the log only.
        let message = match reason {
            Reason::EnsCredentialsRejected => {
                "the fault is the gateway's own key, signature or clock; inform its operators"
            }
            Reason::EnsPermissionDenied => {
                "the gateway's own account lacks a right; inform its operators"
            }
            _ => message.trim_end_matches('.'),
        };
        let why = format!("{what} ({code}): {message}{advice}");
        let failure = Failure::new(reason, why).ens(code.clone(), request_id.clone());
        match self {
            Self::Attach => failure,
            Self::Read(instance) => failure.with("instanceId", instance),
        }
    }

    /// A describe gave no answer.
    pub(crate) fn describe_failed(self, error: &DescribeError) -> Failure {
        match error {
            DescribeError::Throttled { refusal, retry_after } => {
                let pause = match self {
                    // The attach itself waits that long.
                    Self::Attach => None,
                    Self::Read(_) => *retry_after,
                };
                self.throttled(refusal, pause)
            }
            DescribeError::Unavailable(why) => self.unanswered(why),
            DescribeError::Untrusted(handshake) => self.unanswered(&handshake.to_string()),
            DescribeError::Incomplete => self.unanswered("it returned an incomplete set of pages"),
            DescribeError::Refused(refusal) | DescribeError::UnknownId(refusal) => {
                self.refused(refusal)
            }
            DescribeError::NoPermit { missing, .. } => self.no_permit(missing),
            DescribeError::NotReady(failure) => match self {
                Self::Attach => failure.clone(),
                Self::Read(instance) => failure.clone().with("instanceId", instance),
            },
        }
    }

    /// ENS gave no usable answer.
    pub(crate) fn unanswered(self, why: &str) -> Failure {
        match self {
            Self::Attach => attach::not_sent(why),
            Self::Read(_) => self.fails(Reason::EnsUnavailable, why, ""),
        }
    }

    /// ENS was not observed, or the observation not recorded.
    pub(crate) fn not_observed(self, error: &ObserveError) -> Failure {
        match error {
            ObserveError::Permit(missing) => self.no_permit(missing),
            ObserveError::Describe(error) => self.describe_failed(error),
            ObserveError::Ledger(error) => self.ledger_unavailable(error),
        }
    }

    /// This replica shuts down.
    pub(crate) fn draining(self) -> Failure {
        Failure::draining(match self {
            Self::Attach => ", and nothing was sent; call again: another replica answers",
            Self::Read(_) => "; watch again with after_revision: another one continues",
        })
    }
}
