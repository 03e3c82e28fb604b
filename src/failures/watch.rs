//! Failures of reads and watches only: missing attachments, and streams that end early.

use crate::ledger::LedgerError;
use crate::model::{Code, Failure, InstanceId, InterfaceId, Reason, Timestamp};

/// Neither the ledger nor ENS shows the ENI on the instance.
pub(crate) fn not_found(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "neither the gateway nor ens shows this eni on this instance; attach it first, or \
        watch with follow";
    Failure::new(Reason::AttachmentNotFound, why).about(instance, eni)
}

/// The attempt was withdrawn before a send, so nothing is left to show.
pub(crate) fn withdrawn(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "the attach was withdrawn before it was sent to ens, so there is no attachment";
    Failure::new(Reason::AttachmentNotFound, why).about(instance, eni)
}

/// The ledger lost attachments that the stream sent.
pub(crate) fn lost(instance: &InstanceId) -> Failure {
    let why = "the ledger lost writes about the instance; watch again with the same after_revision";
    Failure::new(Reason::CoordinationRecovering, why).with("instanceId", instance)
}

/// The ledger may not know every attach in flight before this time.
pub(crate) fn recovering(instance: &InstanceId, until: Timestamp, now: Timestamp) -> Failure {
    let why = format!(
        "the ledger lost writes, and recovers until {until}; the free slots are not known before"
    );
    let failure = Failure::new(Reason::CoordinationRecovering, why);
    failure.with("instanceId", instance).retry_after(until.since(now))
}

/// An attach that the ledger lost may arrive until this time. Only a later describe shows it.
pub(crate) fn unsettled(instance: &InstanceId, until: Timestamp, now: Timestamp) -> Failure {
    let why = format!(
        "the ledger lost writes, and an attach that it lost may be in flight until {until}; watch \
         again then"
    );
    let failure = Failure::new(Reason::CoordinationRecovering, why);
    failure.with("instanceId", instance).retry_after(until.since(now))
}

/// The record's reader has ended.
pub(crate) fn unread() -> Failure {
    Failure::new(
        Reason::CoordinationUnavailable,
        "this replica stopped reading the record; watch again",
    )
}

/// The stream has reached its maximum age. `field` resumes it.
pub(crate) fn too_old(field: &str) -> Failure {
    let why = format!("the stream reached its maximum age; watch again with {field}");
    Failure::new(Reason::StreamTooOld, why)
}

/// The ledger did not answer a read before the caller's deadline.
pub(crate) fn late() -> Failure {
    let why = "the ledger did not answer before the call's deadline; retry with a longer deadline";
    Failure::new(Reason::CoordinationUnavailable, why).code(Code::DeadlineExceeded)
}

/// A partition of the ledger cannot be read.
pub(crate) fn fleet_unreadable(error: &LedgerError) -> Failure {
    let advice =
        if error.is_misconfigured() { "another replica may reach it" } else { "call again" };
    Failure::new(Reason::CoordinationUnavailable, format!("{error}; {advice}"))
}

/// The record of one instance in scope cannot be read.
pub(crate) fn fleet_incomplete(instance: &InstanceId, error: &LedgerError) -> Failure {
    let why = format!(
        "{instance} is left out, because its record cannot be read: {error}; another replica may \
         read it, or inform the gateway's operators"
    );
    Failure::new(Reason::CoordinationUnavailable, why).with("instanceId", instance)
}

/// The caller's deadline, a maximum age that the caller chose. `field` resumes the stream.
pub(crate) fn deadline(field: &str) -> Failure {
    let why = format!(
        "the call's deadline ended; watch again with {field}, and a longer deadline or none"
    );
    Failure::new(Reason::StreamTooOld, why).code(Code::DeadlineExceeded)
}
