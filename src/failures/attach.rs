//! Failures of attaches only: the ledger's replies, and waits that ended without a send.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ens::Row;
use crate::ledger::apply::CapacityCheck;
use crate::ledger::command::CapacityExceeded;
use crate::ledger::{Freeze, LedgerError};
use crate::model::{Failure, InstanceId, InterfaceId, Reason, Timestamp, random};

/// Retry delay during a freeze, in ms. Callers spread over it.
const FROZEN_RETRY: RangeInclusive<u64> = 5_000..=15_000;

/// The recorded failure of a request id, and its time.
pub(crate) fn replayed(failure: Failure, at: Timestamp) -> Failure {
    let message = format!(
        "{}; this request_id has had this outcome since {at}, and keeps it for 24 hours; use a \
         new one to try again",
        failure.message
    );
    Failure { message, ..failure }.with("answeredAt", at)
}

/// ENS could not be reached; nothing was sent.
pub(crate) fn not_sent(why: &str) -> Failure {
    let why = format!("cannot reach ens: {why}; nothing was sent; try again");
    Failure::new(Reason::NotApplied, why)
}

/// The ledger does not guarantee the attach's record.
pub(crate) fn unconfirmed(error: &LedgerError) -> Failure {
    let why = format!("{}; try again", error.outage().why);
    Failure::new(Reason::CoordinationUnavailable, why)
}

/// The ledger recovers from a loss.
pub(crate) fn recovering(until: Timestamp, now: Timestamp) -> Failure {
    let why = format!(
        "the ledger lost writes, and recovers until {until}; nothing was sent; try again then"
    );
    Failure::new(Reason::CoordinationRecovering, why).retry_after(until.since(now))
}

/// An operator stopped new attaches.
pub(crate) fn frozen(freeze: &Freeze) -> Failure {
    let why = format!("{freeze}: no attach begins; nothing was sent; try again later");
    let delay = Duration::from_millis(random::between(FROZEN_RETRY));
    Failure::new(Reason::Frozen, why).retry_after(delay)
}

/// Other callers of this replica are ahead.
pub(crate) fn queue_wait() -> Failure {
    let why = "timed out waiting for the instance lock: other attaches of this replica are ahead; \
        nothing was sent; retry with a longer deadline";
    Failure::new(Reason::LockWait, why)
}

/// The lock was not acquired in time. `ahead` is the number of tickets known to be ahead.
pub(crate) fn lock_wait(ahead: usize) -> Failure {
    let ahead = match ahead {
        0 => String::new(),
        _ => format!(" ({ahead} attaches ahead)"),
    };
    let why = format!(
        "timed out waiting for the instance lock{ahead}; nothing was sent; retry with a longer \
         deadline"
    );
    Failure::new(Reason::LockWait, why)
}

/// The instance has no free slot.
pub(crate) fn capacity_exceeded(
    fullness: &CapacityExceeded,
    instance: &InstanceId,
    eni: &InterfaceId,
) -> Failure {
    let CapacityExceeded { limit, attached, in_flight, .. } = fullness;
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

/// The instance has no slots for all ENIs of a batch.
pub(crate) fn capacity_exceeded_by_all(capacity: &CapacityCheck, instance: &InstanceId) -> Failure {
    let CapacityCheck { needed, free, used } = capacity;
    let why = format!(
        "the instance has {free} free slots for the {needed} enis that need one (limit {}, \
         attached {}, in flight {}); nothing was sent; detach other enis from it first, or attach \
         fewer",
        used.limit, used.attached, used.in_flight
    );
    Failure::new(Reason::EniLimitExceeded, why)
        .with("instanceId", instance)
        .with("limit", used.limit)
        .with("attached", used.attached)
        .with("inFlight", used.in_flight)
        .observed_at(used.observed_at)
        .retry_after(used.retry_after)
}

/// The request id was used with another ENI.
pub(crate) fn request_id_reused(other: &InterfaceId) -> Failure {
    let why =
        format!("request_id was used for another eni ({other}); use a new one for each attach");
    let mut failure = Failure::new(Reason::RequestIdReused, why);
    failure
        .fields
        .push(("request_id".to_owned(), format!("was used with network_interface_id {other}")));
    failure
}

/// The attach was sent and is not settled in time.
pub(crate) fn outcome_unknown() -> Failure {
    let why = "the attach may have been sent, and is not settled yet; watch it, or call again, \
        which joins it";
    Failure::new(Reason::OutcomeUnknown, why)
}

/// The ledger has the ENI attached, but ENS does not show it. Either may be outdated.
pub(crate) fn unsettled_attachment() -> Failure {
    let why = "the eni was attached, and a newer describe does not show it in use; this call sent \
        nothing; call again, or watch";
    Failure::new(Reason::OutcomeUnknown, why)
}

/// The ledger has the ENI attached, and ENS did not confirm that it still is.
pub(crate) fn unconfirmed_attachment(why: &str) -> Failure {
    let why = format!(
        "cannot confirm that the eni is still attached: {why}; this call sent nothing; \
            call again, or watch"
    );
    Failure::new(Reason::OutcomeUnknown, why)
}

/// The ENI is on the instance, and being detached.
pub(crate) fn detaching(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why =
        "the eni is detaching from this instance; nothing was sent; try again when it is Available";
    Failure::new(Reason::EniNotAvailable, why).about(instance, eni)
}

/// ENS does not know the instance.
pub(crate) fn unknown_instance() -> Failure {
    let why = "ens does not know the instance; check the id, and the account and region that the gateway uses";
    Failure::new(Reason::InstanceNotFound, why)
}

/// The instance is not Stopped.
pub(crate) fn not_stopped(status: &str) -> Failure {
    let why = format!("the instance is {status}; stop it, and try again");
    Failure::new(Reason::InstanceNotStopped, why)
}

/// ENS does not know the ENI.
pub(crate) fn unknown_eni() -> Failure {
    let why =
        "ens does not know the eni; check the id, and the account and region that the gateway uses";
    Failure::new(Reason::EniNotFound, why)
}

/// The ENI is its instance's primary one.
pub(crate) fn primary_eni() -> Failure {
    let why = "the eni is primary; use a secondary eni";
    Failure::new(Reason::EniTypeNotSupported, why)
}

/// The ENI is not Available.
pub(crate) fn eni_not_available(row: &Row) -> Failure {
    let on = row.instance.as_ref().map_or_else(String::new, |on| format!(" on {on}"));
    let why = format!("the eni is {}{on}; it must be Available", row.status_text);
    Failure::new(Reason::EniNotAvailable, why)
}

/// ENI and instance are in different networks.
pub(crate) fn network_mismatch(eni: &str, instance: &str) -> Failure {
    let why = format!(
        "the eni is in network {eni}, the instance in {instance}; use an eni of the \
        instance's network"
    );
    Failure::new(Reason::NetworkMismatch, why)
}
