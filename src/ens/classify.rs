//! Classification of ENS's replies. For an Attach the question is whether it may have been applied.
//! In doubt the reply is [`EnsReply::Unsettled`], and a later status settles it.
//!
//! The `Code` decides, not the HTTP status, which Alibaba Cloud's documents give differently. The
//! exception is 5xx: a proxy may have sent it, so it proves nothing.

use std::time::Duration;

use serde_json::Value;

use super::redaction::Redaction;
use super::transport::{Handshake, MissingResponse, Response};
use super::{DescribeError, EnsRefusal, Outcome, wire};
use crate::model::Reason;

/// Codes that do not show whether the call was applied, at any HTTP status. `ens.interface.error`
/// is ENS's catch-all. A nonce is also "used" if the network delivered the request twice.
const UNSETTLED: &[&str] = &[
    "ens.interface.error",
    "SignatureNonceUsed",
    "ServiceUnavailable",
    "InternalError",
    "UnknownError",
];

/// Ends of a code, up to one of its separators, with which ENS refuses because it is busy with the
/// resource: `OperationConflict` and `Operation.Conflict`, `TaskConflict`, `SystemBusy`,
/// `Operation.Blocking`, `LastTokenProcessing`. An earlier copy of the call may be what it is busy
/// with.
const BUSY: &[&str] =
    &["operationconflict", "taskconflict", "busy", "operationblocking", "processing", "inprogress"];

/// The result of one exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum EnsReply {
    /// 2xx with ENS's JSON: it has a RequestId and no error.
    Answer {
        /// The body.
        body: Value,
        /// `RequestId`.
        request_id: String,
    },
    /// ENS refused.
    Refused(EnsRefusal),
    /// ENS throttles the account, by its code, its HTTP status or `x-acs-retry-after`.
    Throttled {
        /// ENS's error.
        refusal: EnsRefusal,
        /// `x-acs-retry-after`.
        retry_after: Option<Duration>,
    },
    /// No byte of the request left this machine.
    NotSent {
        /// `dns`, `connect` or `request`.
        kind: &'static str,
        /// The cause.
        why: String,
        /// The failed handshake, if that is the cause.
        handshake: Option<Handshake>,
    },
    /// The request was sent, and the reply does not settle it.
    Unsettled {
        /// The missing part: `timeout`, `connection`, `status`, `body` or `code`.
        kind: &'static str,
        /// The cause.
        why: String,
        /// ENS's error, if any.
        refusal: Option<EnsRefusal>,
        /// Set if ENS also throttles the account.
        throttling: Option<Throttling>,
    },
}

/// ENS throttles the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttling {
    /// `x-acs-retry-after`, if ENS sent one.
    pub retry_after: Option<Duration>,
}

/// Classifies an HTTP response, without these secrets.
#[must_use]
pub fn response(response: &Response, secrets: &Redaction) -> EnsReply {
    let status = response.status;
    let body = serde_json::from_slice::<Value>(&response.body).ok().filter(Value::is_object);
    let body = body.map(|mut body| {
        secrets.clean_json(&mut body);
        body
    });
    let refusal = body.as_ref().map(wire::refusal);
    let retry_after = response.retry_after;
    let throttled = status >= 400
        && (status == 429 || retry_after.is_some() || is_throttling(refusal.as_ref()));
    let unsettled = |kind: &'static str, why: String| EnsReply::Unsettled {
        kind,
        why,
        refusal: refusal.clone().filter(|refusal| !refusal.code.is_empty()),
        throttling: throttled.then_some(Throttling { retry_after }),
    };
    let (Some(body), Some(refusal)) = (body, &refusal) else {
        return unsettled("body", format!("ens answered {status} with no json"));
    };
    match status {
        200..=299 if !refusal.code.is_empty() && !is_success(&refusal.code) => {
            unsettled("code", format!("ens answered {status} with the error {}", refusal.code))
        }
        // A proxy can answer 200 and `{}`. ENS's answers have a RequestId.
        200..=299 if refusal.request_id.is_empty() => {
            unsettled("body", format!("ens answered {status} without a RequestId"))
        }
        200..=299 => EnsReply::Answer { body, request_id: refusal.request_id.clone() },
        400..=499 if refusal.code.is_empty() => {
            unsettled("body", format!("ens answered {status} without a Code"))
        }
        400..=499 if is_unsettled(&refusal.code) => {
            unsettled("code", format!("ens answered {status} with the error {}", refusal.code))
        }
        400..=499 if throttled => EnsReply::Throttled { refusal: refusal.clone(), retry_after },
        400..=499 => EnsReply::Refused(refusal.clone()),
        _ => unsettled("status", format!("ens answered {status}")),
    }
}

/// Classifies a transport error.
#[must_use]
pub fn missing_response(missing: MissingResponse) -> EnsReply {
    let MissingResponse { sent, kind, why, handshake } = missing;
    if sent {
        EnsReply::Unsettled { kind, why, refusal: None, throttling: None }
    } else {
        EnsReply::NotSent { kind, why, handshake }
    }
}

fn is_success(code: &str) -> bool {
    ["0", "200", "ok", "success"].iter().any(|success| code.eq_ignore_ascii_case(success))
}

fn is_throttling(refusal: Option<&EnsRefusal>) -> bool {
    refusal.is_some_and(|refusal| refusal.code.contains("Throttling"))
}

/// Whether `code` is unsettled, or a subcode such as `InternalError.Timeout`.
fn is_unsettled(code: &str) -> bool {
    is_busy(code)
        || UNSETTLED.iter().any(|known| {
            code.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
                && matches!(code.as_bytes().get(known.len()), None | Some(b'.'))
        })
}

/// Whether `code` has one of the [`BUSY`] ends before a separator. Separators are no part of an
/// end, because the products of Alibaba Cloud differ in them.
fn is_busy(code: &str) -> bool {
    let mut read = String::new();
    code.eq_ignore_ascii_case("Conflict")
        || code.split(['.', '_', '-']).any(|part| {
            read.push_str(&part.to_ascii_lowercase());
            BUSY.iter().any(|end| read.ends_with(end))
        })
}

impl EnsReply {
    /// The throttling that ENS reports.
    pub(super) fn throttling(&self) -> Option<Throttling> {
        match self {
            Self::Throttled { retry_after, .. } => Some(Throttling { retry_after: *retry_after }),
            Self::Unsettled { throttling, .. } => *throttling,
            _ => None,
        }
    }

    /// Whether ENS itself answered, also with an error.
    pub(super) fn is_from_ens(&self) -> bool {
        match self {
            Self::Answer { .. } | Self::Refused(_) | Self::Throttled { .. } => true,
            Self::Unsettled { refusal, .. } => refusal.is_some(),
            Self::NotSent { .. } => false,
        }
    }

    /// ENS's error code, if there is one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal)
            | Self::Throttled { refusal, .. }
            | Self::Unsettled { refusal: Some(refusal), .. } => Some(&refusal.code),
            _ => None,
        }
    }

    /// ENS's RequestId, if there is one.
    pub(super) fn request_id(&self) -> Option<&str> {
        let id = match self {
            Self::Answer { request_id, .. } => request_id,
            Self::Refused(refusal)
            | Self::Throttled { refusal, .. }
            | Self::Unsettled { refusal: Some(refusal), .. } => &refusal.request_id,
            _ => return None,
        };
        Some(id.as_str()).filter(|id| !id.is_empty())
    }

    /// `error.type` of the call's span; `None` without an error.
    pub(super) fn error_type(&self) -> Option<&str> {
        match self {
            Self::Answer { .. } => None,
            Self::NotSent { kind, .. } => Some(kind),
            Self::Unsettled { kind, .. } => Some(self.code().unwrap_or(kind)),
            Self::Refused(_) | Self::Throttled { .. } => self.code(),
        }
    }

    /// The label `outcome` of the metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "ok",
            // The gateway's account is at fault, for every caller, so its operators must act.
            Self::Refused(refusal) if Reason::of_ens_code(&refusal.code).is_of_account() => {
                "denied"
            }
            Self::Refused(_) => "refused",
            Self::Throttled { .. } => "throttled",
            Self::NotSent { .. } => "not_sent",
            Self::Unsettled { .. } => "unanswered",
        }
    }

    /// The outcome of an Attach. Only a code in the error table proves that nothing was applied,
    /// and only if HTTP status and headers agree.
    #[must_use]
    pub fn into_outcome(self) -> Outcome {
        match self {
            Self::Answer { request_id, .. } => Outcome::Accepted { ens_request_id: request_id },
            Self::Refused(refusal) => match Reason::of_ens_code(&refusal.code) {
                reason if reason.proves_refusal() => Outcome::Refused(refusal),
                Reason::EniNotAvailable => Outcome::Conflict(refusal),
                _ => Outcome::Unproven(refusal),
            },
            Self::Throttled { refusal, retry_after } if is_throttling(Some(&refusal)) => {
                Outcome::Throttled { refusal, retry_after }
            }
            Self::Throttled { refusal, .. } => Outcome::Unanswered {
                why: format!("ens answered {} with signs of throttling", refusal.code),
                refusal: Some(refusal),
            },
            Self::NotSent { why, .. } => Outcome::NotSent { why },
            Self::Unsettled { why, refusal, .. } => Outcome::Unanswered { why, refusal },
        }
    }

    /// The body of a describe's answer.
    ///
    /// # Errors
    /// There is no usable answer.
    pub fn into_described(self) -> Result<Value, DescribeError> {
        match self {
            Self::Answer { body, .. } => Ok(body),
            Self::Refused(refusal) if refusal.code == "InvalidEniId.NotFound" => {
                Err(DescribeError::UnknownId(refusal))
            }
            Self::Refused(refusal) => Err(DescribeError::Refused(refusal)),
            Self::Throttled { refusal, retry_after } => {
                Err(DescribeError::Throttled { refusal, retry_after })
            }
            Self::NotSent { handshake: Some(handshake), .. } => {
                Err(DescribeError::Untrusted(handshake))
            }
            Self::NotSent { why, .. } | Self::Unsettled { why, .. } => {
                Err(DescribeError::Unavailable(why))
            }
        }
    }
}

#[cfg(test)]
mod tests;
