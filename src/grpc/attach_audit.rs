//! The audit line of each attach that was allowed, with the answer to its caller.

use std::collections::VecDeque;

use tonic::Code;

use super::code::code_name;
use crate::model::{Attachment, Caller, Failure, InstanceId, InterfaceId, RequestId};
use crate::telemetry::{AuditEvent, AuditLine};

/// The lines of one call that are not written yet. Those left when the call ends without an answer
/// of its attempts, because the caller left or its deadline ended, have the outcome `CANCELLED`.
pub(super) struct AttachAudit {
    caller: Caller,
    instance: InstanceId,
    /// In the order of the answers.
    enis: VecDeque<InterfaceId>,
    /// As the caller sent it.
    request_id: Option<RequestId>,
}

impl AttachAudit {
    /// The lines of a call that attaches these ENIs; none for a call that only checks.
    pub(super) fn new(
        caller: &Caller,
        instance: &InstanceId,
        enis: &[InterfaceId],
        request_id: Option<RequestId>,
        validate_only: bool,
    ) -> Self {
        let enis = enis.iter().filter(|_| !validate_only).cloned().collect();
        Self { caller: caller.clone(), instance: instance.clone(), enis, request_id }
    }

    /// Writes each line, for a call that is refused before its attempts begin.
    pub(super) fn refuse(&mut self, why: &Failure) {
        while !self.enis.is_empty() {
            self.answer(Err(why));
        }
    }

    /// Writes the line of the next ENI.
    pub(super) fn answer(&mut self, answer: Result<&Attachment, &Failure>) {
        match answer {
            Ok(attachment) => self.write("OK", &attachment.ens_request_id),
            Err(failure) => self.write(failure.reason.name(), &failure.ens_request_id),
        }
    }

    fn write(&mut self, outcome: &'static str, ens_request_id: &str) {
        let Some(eni) = self.enis.pop_front() else {
            return;
        };
        AuditLine {
            caller: Some(&self.caller),
            action: Some("attach"),
            instance: Some(&self.instance),
            eni: Some(&eni),
            request_id: self.request_id,
            outcome: Some(outcome),
            ens_request_id: Some(ens_request_id),
            ..AuditLine::default()
        }
        .write(AuditEvent::Attach);
    }
}

impl Drop for AttachAudit {
    fn drop(&mut self) {
        while !self.enis.is_empty() {
            self.write(code_name(Code::Cancelled), "");
        }
    }
}
