//! What the outcomes of ENS and the answers of the ledger are to a caller: one failure each, with what to do.

use std::time::Duration;

use crate::ens::{DescribeError, EnsRefusal};
use crate::ledger::LedgerError;
use crate::ledger::command::CapacityExceeded;
use crate::model::{Failure, InstanceId, InterfaceId, Reason, Timestamp};
use crate::rate_limit::{PermitError, StoreUnreachable};

/// When to try again where the ledger cannot be reached.
pub(crate) const LEDGER_OUTAGE: Duration = Duration::from_secs(1);

/// A refusal of ENS.
pub(crate) fn refused(refusal: &EnsRefusal) -> Failure {
    let reason = Reason::of_ens_code(&refusal.code);
    let advice = match reason {
        Reason::InstanceNotStopped => "; stop the instance, and try again",
        Reason::EniLimitExceeded => "; detach another eni from the instance first",
        Reason::EniNotAvailable => "; the eni must be Available: detach it from where it is, or wait until it is free",
        Reason::NetworkMismatch => "; use an eni of the instance's own network and node",
        Reason::EniTypeNotSupported => "; only secondary enis can be attached",
        Reason::EnsCredentialsRejected => "; this is the gateway's own account: tell its operators",
        Reason::EnsPermissionDenied => "; the gateway's own account lacks a right: tell its operators",
        _ => "",
    };
    Failure::new(
        reason,
        format!(
            "ens refused ({}): {}{advice}",
            refusal.code,
            refusal.message.trim_end_matches('.')
        ),
    )
    .ens(refusal.code.clone(), refusal.request_id.clone())
}

/// What a request id was answered before, at this time.
pub(crate) fn replayed(failure: Failure, at: Timestamp) -> Failure {
    let message = format!(
        "{}; this request_id was answered so at {at}, and is answered alike for 24 hours: to try again, use a new one",
        failure.message
    );
    Failure { message, ..failure }.with("answeredAt", at)
}

/// ENS throttles the account; nothing was applied.
pub(crate) fn throttled(refusal: &EnsRefusal) -> Failure {
    Failure::new(
        Reason::EnsThrottled,
        "ens throttles the account; nothing was applied; try again later",
    )
    .ens(refusal.code.clone(), refusal.request_id.clone())
}

/// The account's budget has no room, or cannot be asked for.
pub(crate) fn no_permit(missing: &PermitError) -> Failure {
    match missing {
        PermitError::DeadlineExceeded { wait } => {
            let why = "the account's budget of ens calls was not reached in time; nothing was applied; try again later";
            Failure::new(Reason::EnsThrottled, why).retry_after(*wait)
        }
        PermitError::CounterUnreachable(StoreUnreachable { why, down_for }) => {
            unavailable(&LedgerError::not_applied(why.clone()).with_outage(*down_for))
        }
    }
}

/// ENS could not be reached; nothing was sent.
pub(crate) fn not_sent(why: &str) -> Failure {
    Failure::new(
        Reason::NotApplied,
        format!("ens could not be reached, so that nothing was sent: {why}; try again"),
    )
}

/// A describe gave no answer. `Err` is final: trying again would not help.
pub(crate) fn describe_failed(error: &DescribeError) -> Result<Failure, Failure> {
    match error {
        DescribeError::Throttled { refusal, .. } => Ok(throttled(refusal)),
        DescribeError::Unavailable(why) => Ok(not_sent(why)),
        DescribeError::Incomplete => Ok(not_sent("its answer was not whole")),
        DescribeError::Refused(refusal) | DescribeError::UnknownId(refusal) => Err(refused(refusal)),
        DescribeError::NotReady(failure) => Err(failure.clone()),
    }
}

/// The ledger cannot be reached, or this replica must not use it.
pub(crate) fn unavailable(error: &LedgerError) -> Failure {
    let failure = |then| {
        Failure::new(
            Reason::CoordinationUnavailable,
            format!("{error}; nothing was sent; {then}"),
        )
    };
    if error.is_misconfigured() {
        failure("another replica may do better")
    } else {
        failure("try again").retry_after(LEDGER_OUTAGE)
    }
}

/// This replica is going away.
pub(crate) fn draining() -> Failure {
    Failure::draining(", and nothing was sent; call again, and another one answers")
}

/// The ledger cannot promise to remember the attach.
pub(crate) fn unconfirmed(error: &LedgerError) -> Failure {
    Failure::new(
        Reason::CoordinationUnavailable,
        format!("{}; try again", error.outage().why),
    )
}

/// The ledger recovers from a loss.
pub(crate) fn recovering(until: Timestamp, now: Timestamp) -> Failure {
    let why = format!("the ledger lost writes and recovers until {until}; nothing was sent; try again then");
    Failure::new(Reason::CoordinationRecovering, why).retry_after(until.since(now))
}

/// Others stand before in line.
pub(crate) fn queue_wait() -> Failure {
    let why = "the deadline was too short to reach the instance's lock; nothing was sent; try again with a longer one";
    Failure::new(Reason::LockWait, why)
}

/// Somebody else holds the lock.
pub(crate) fn lock_wait(ahead: usize) -> Failure {
    let why = format!("the instance's lock was not reached in time, {ahead} before; nothing was sent; try again");
    Failure::new(Reason::LockWait, why)
}

/// The instance is full.
pub(crate) fn capacity_exceeded(fullness: &CapacityExceeded, instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let CapacityExceeded {
        limit,
        attached,
        in_flight,
        ..
    } = fullness;
    let why = format!(
        "the instance has no free slot: limit {limit}, attached {attached}, in flight {in_flight}; nothing was sent; \
         detach another eni from it first"
    );
    Failure::new(Reason::EniLimitExceeded, why)
        .about(instance, eni)
        .with("limit", limit)
        .with("attached", attached)
        .with("inFlight", in_flight)
        .observed_at(fullness.observed_at)
        .retry_after(fullness.retry_after)
}

/// The same request id came before with another ENI.
pub(crate) fn request_id_reused(other: &InterfaceId) -> Failure {
    let why = format!("request_id was used before, for another eni ({other}); use a new one for each attach");
    let mut failure = Failure::new(Reason::RequestIdReused, why);
    failure.fields.push((
        "request_id".to_owned(),
        format!("was used before with network_interface_id {other}"),
    ));
    failure
}

/// The ledger has the ENI attached, and ENS does not show it so: nobody knows yet which of the two is the past.
pub(crate) fn unsettled_attachment() -> Failure {
    let why = "the eni was attached, and ens, asked since, does not show it in use; this call sent nothing, and the state is not \
               settled yet; call again, or watch";
    Failure::new(Reason::OutcomeUnknown, why)
}

/// The ledger has the ENI attached, and ENS did not confirm that it still is.
pub(crate) fn unconfirmed_attachment(why: &str) -> Failure {
    let why = format!(
        "the eni was attached, and ens did not confirm that it still is: {why}; this call sent nothing; call again, or watch"
    );
    Failure::new(Reason::OutcomeUnknown, why)
}

/// The ENI is on the instance, and on its way off.
pub(crate) fn detaching(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "the eni is being detached from this very instance; nothing was sent; try again when it is Available";
    Failure::new(Reason::EniNotAvailable, why).about(instance, eni)
}
