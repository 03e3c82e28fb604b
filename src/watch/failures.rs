//! Why a read has no answer, and why a stream ends before what it watches has: one failure each,
//! with what to do. A read sends no attach: none of these speaks of one that was or was not sent.

use crate::ens::{DescribeError, EnsRefusal};
use crate::ledger::LedgerError;
use crate::model::{Code, Failure, InstanceId, InterfaceId, Reason};
use crate::rate_limit::{PermitError, StoreUnreachable};

/// ENS gave no usable answer about the instance.
pub(super) fn unanswered(instance: &InstanceId, why: &str) -> Failure {
    let why = format!("cannot ask ens for the instance: {why}; call again");
    Failure::new(Reason::EnsUnavailable, why).with("instanceId", instance)
}

/// The account's budget has no room for a describe, or cannot be reached.
pub(super) fn no_permit(instance: &InstanceId, missing: &PermitError) -> Failure {
    match missing {
        PermitError::DeadlineExceeded { wait } => {
            let why = "cannot ask ens for the instance: the account's limiter of calls was not reached in time; \
                       call again later";
            Failure::new(Reason::EnsThrottled, why)
                .with("instanceId", instance)
                .retry_after(*wait)
        }
        PermitError::CounterUnreachable(StoreUnreachable { why, .. }) => {
            unreadable(&LedgerError::not_applied(why.clone()))
        }
    }
}

/// A describe of the instance showed nothing.
pub(super) fn not_shown(instance: &InstanceId, error: &DescribeError) -> Failure {
    match error {
        DescribeError::Throttled { refusal, retry_after } => {
            let why = "cannot ask ens for the instance: ens throttles the account; call again later";
            let failure = Failure::new(Reason::EnsThrottled, why).with("instanceId", instance);
            let failure = failure.ens(refusal.code.clone(), refusal.request_id.clone());
            match retry_after {
                Some(delay) => failure.retry_after(*delay),
                None => failure,
            }
        }
        DescribeError::Unavailable(why) => unanswered(instance, why),
        DescribeError::Incomplete => unanswered(instance, "its pages did not make up the whole answer"),
        DescribeError::Refused(refusal) | DescribeError::UnknownId(refusal) => refused(instance, refusal),
        DescribeError::NotReady(failure) => failure.clone().with("instanceId", instance),
    }
}

/// ENS refused to show the instance.
fn refused(instance: &InstanceId, refusal: &EnsRefusal) -> Failure {
    let EnsRefusal {
        code,
        message,
        request_id,
    } = refusal;
    let (reason, advice) = match Reason::of_ens_code(code) {
        reason @ (Reason::EnsCredentialsRejected | Reason::EnsPermissionDenied) => {
            (reason, "; this is the gateway's own account: tell its operators")
        }
        reason @ (Reason::InstanceNotFound | Reason::EnsInvalidParameter) => (reason, "; correct the instance's id"),
        // Whatever else a code is a reason for, it is one of attaches.
        _ => (Reason::EnsError, ""),
    };
    let message = message.trim_end_matches('.');
    let why = format!("ens refused to show the instance ({code}): {message}{advice}");
    Failure::new(reason, why)
        .with("instanceId", instance)
        .ens(code.clone(), request_id.clone())
}

/// The ledger cannot be read or written, or this replica must not use it.
pub(super) fn unreadable(error: &LedgerError) -> Failure {
    let then = match error.is_misconfigured() {
        true => "another replica may do better",
        false => "call again",
    };
    Failure::new(Reason::CoordinationUnavailable, format!("{error}; {then}"))
}

/// Neither the ledger nor ENS shows the ENI on the instance.
pub(super) fn not_found(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "neither the gateway nor ens knows this eni on this instance; attach it first, or watch with follow to wait for it";
    Failure::new(Reason::AttachmentNotFound, why).about(instance, eni)
}

/// The attempt ended before anything was sent, and left nothing to show.
pub(super) fn withdrawn(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "the attach was withdrawn before it was sent to ens, and left nothing to show";
    Failure::new(Reason::AttachmentNotFound, why).about(instance, eni)
}

/// The ledger lost what this stream has shown.
pub(super) fn lost(instance: &InstanceId) -> Failure {
    let why = "the ledger lost writes about the instance; watch again, with the same after_revision: what the ledger has now, and \
               what ens shows, is sent";
    Failure::new(Reason::CoordinationRecovering, why).with("instanceId", instance)
}

/// Nobody reads the record any more.
pub(super) fn unread() -> Failure {
    Failure::new(
        Reason::CoordinationUnavailable,
        "the record is no longer read on this replica; watch again",
    )
}

/// This replica is going away.
pub(super) fn draining() -> Failure {
    Failure::draining("; watch again with after_revision: another one goes on")
}

/// The stream is as old as a stream may get.
pub(super) fn too_old() -> Failure {
    Failure::new(
        Reason::StreamTooOld,
        "the stream reached its greatest age; watch again with after_revision",
    )
}

/// The caller's own deadline: a greatest age that the caller chose.
pub(super) fn deadline() -> Failure {
    let why = "the call's own deadline ends the stream; watch again with after_revision, and a longer deadline or none";
    Failure::new(Reason::StreamTooOld, why).code(Code::DeadlineExceeded)
}
