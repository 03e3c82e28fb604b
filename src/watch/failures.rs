//! Why there is nothing to watch, and why a stream ends before what it watches has: one failure each, with what to do.

use crate::model::{Code, Failure, InstanceId, InterfaceId, Reason};

/// Neither the ledger nor ENS shows the ENI on the instance.
pub(super) fn not_found(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "neither the gateway nor ens knows this eni on this instance; attach it first, or watch with follow to wait for it";
    Failure::new(Reason::AttachmentNotFound, why).about(instance, eni)
}

/// The attempt ended before anything was sent, and left nothing to show.
pub(super) fn withdrawn(instance: &InstanceId, eni: &InterfaceId) -> Failure {
    let why = "the attach was withdrawn before anything was sent, so that nothing is attached; attach it again";
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
