//! The audit line of each attach, with the answer to its caller.

use crate::model::{Attachment, Failure, RequestId};
use crate::telemetry::{AuditEvent, AuditLine};

use super::Request;
use super::batch::BatchRequest;

impl Request {
    /// Writes the line of an attach that is refused before its attempt begins.
    pub fn audit_refusal(&self, why: &Failure) {
        audit(self, self.request_id, Err(why));
    }
}

impl BatchRequest {
    /// As [`Request::audit_refusal`], for each ENI.
    pub fn audit_refusal(&self, why: &Failure) {
        for request in self.requests() {
            audit(&request, self.request_id, Err(why));
        }
    }
}

/// Writes the line. `request_id` is the caller's.
pub(super) fn audit(
    request: &Request,
    request_id: Option<RequestId>,
    answer: Result<&Attachment, &Failure>,
) {
    let (outcome, ens_request_id) = match answer {
        Ok(attachment) => ("OK", &attachment.ens_request_id),
        Err(failure) => (failure.reason.name(), &failure.ens_request_id),
    };
    AuditLine {
        caller: Some(&request.caller),
        action: Some("attach"),
        instance: Some(&request.instance),
        eni: Some(&request.eni),
        request_id,
        outcome: Some(outcome),
        ens_request_id: Some(ens_request_id),
        ..AuditLine::default()
    }
    .write(AuditEvent::Attach);
}
