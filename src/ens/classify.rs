//! Classification of ENS's replies. For an Attach the question is whether it may have been applied.
//! In doubt the reply is [`EnsReply::Unsettled`], and a later status settles it.
//!
//! The `Code` decides, not the HTTP status, which Alibaba Cloud's documents give differently. The
//! exception is 5xx: a proxy may have sent it, so it proves nothing.

use std::time::Duration;

use serde_json::Value;

use super::redaction::Redaction;
use super::transport::{Fault, Response};
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

/// Ends of a part of a code with which ENS refuses because it is busy with the resource, such as
/// `OperationConflict`, `TaskConflict`, `SystemBusy` and `LastTokenProcessing`. An earlier copy of
/// the call may be what it is busy with.
const BUSY: &[&str] = &["operationconflict", "taskconflict", "busy", "processing"];

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
pub fn fault(fault: Fault) -> EnsReply {
    let Fault { sent, kind, why } = fault;
    if sent {
        EnsReply::Unsettled { kind, why, refusal: None, throttling: None }
    } else {
        EnsReply::NotSent { kind, why }
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

/// Whether a part of `code` has one of the [`BUSY`] ends.
fn is_busy(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    code.split('.').any(|part| BUSY.iter().any(|end| part.ends_with(end)))
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
            Self::NotSent { why, .. } | Self::Unsettled { why, .. } => {
                Err(DescribeError::Unavailable(why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn reply(status: u16, body: &str) -> EnsReply {
        let body = body.as_bytes().to_vec();
        let response = Response { status, retry_after: None, date: None, body };
        super::response(&response, &Redaction::default())
    }

    fn error(code: &str) -> String {
        json!({"Code": code, "Message": "why", "RequestId": "R", "HostId": "ens.aliyuncs.com"})
            .to_string()
    }

    #[rstest]
    #[case::empty(200, "", "unanswered")]
    #[case::html(200, "<html>", "unanswered")]
    #[case::bare(200, "{}", "unanswered")]
    #[case::empty_id(200, r#"{"RequestId":""}"#, "unanswered")]
    #[case::array(200, "[]", "unanswered")]
    #[case::text(200, r#""R""#, "unanswered")]
    #[case::accepted(200, r#"{"RequestId":"R"}"#, "ok")]
    #[case::lower(200, r#"{"requestId":"R"}"#, "ok")]
    #[case::code_0(200, r#"{"Code":0,"RequestId":"R"}"#, "ok")]
    #[case::code_text(200, r#"{"Code":"0","RequestId":"R"}"#, "ok")]
    #[case::error_in_200(200, r#"{"Code":"InstanceNotFound","RequestId":"R"}"#, "unanswered")]
    #[case::redirect(307, r#"{"RequestId":"R"}"#, "unanswered")]
    #[case::not_modified(304, "", "unanswered")]
    #[case::gateway(502, "<html>bad gateway</html>", "unanswered")]
    #[case::forbidden_html(403, "<html>", "unanswered")]
    #[case::no_code(400, r#"{"RequestId":"R"}"#, "unanswered")]
    #[case::number_code(403, r#"{"code":403,"message":"proxy"}"#, "unanswered")]
    fn a_response_settles_only_what_it_proves(
        #[case] status: u16,
        #[case] body: &str,
        #[case] label: &str,
    ) {
        assert_eq!(reply(status, body).label(), label);
    }

    #[rstest]
    #[case("InvalidEniId.NotFound", "refused")]
    #[case("NoPermission", "denied")]
    #[case("InvalidAccessKeyId.Inactive", "denied")]
    #[case("InvalidParameter.InstanceId", "refused")]
    #[case("SomethingNew", "refused")]
    #[case("InternalErrorElsewhere", "refused")]
    #[case("Throttling", "throttled")]
    #[case("Throttling.User", "throttled")]
    #[case("Rejected.Throttling", "throttled")]
    #[case("ens.interface.error", "unanswered")]
    #[case("Ens.Interface.Error", "unanswered")]
    #[case("SignatureNonceUsed", "unanswered")]
    #[case("ServiceUnavailable", "unanswered")]
    #[case("InternalError", "unanswered")]
    #[case("InternalError.Timeout", "unanswered")]
    #[case("UnknownError", "unanswered")]
    #[case("OperationConflict", "unanswered")]
    #[case("TaskConflict", "unanswered")]
    #[case("SystemBusy", "unanswered")]
    #[case("LastTokenProcessing", "unanswered")]
    #[case("InvalidOperation.TaskConflict", "unanswered")]
    #[case("IpConflict", "refused")]
    #[case("ProcessingNotAllowed", "refused")]
    fn a_code_decides_at_any_4xx_and_nothing_at_5xx(#[case] code: &str, #[case] label: &str) {
        for status in [400, 403, 404, 429] {
            let expected = if status == 429 && ["refused", "denied"].contains(&label) {
                "throttled"
            } else {
                label
            };
            assert_eq!(reply(status, &error(code)).label(), expected, "{status}");
        }
        for status in [500, 502, 503, 504] {
            let got = reply(status, &error(code));
            assert_eq!(
                (got.label(), got.code(), got.request_id()),
                ("unanswered", Some(code), Some("R")),
                "{status}"
            );
        }
    }

    #[rstest]
    #[case::throttling("Throttling.User", None, 400, "throttled")]
    #[case::throttling_429("Throttling", None, 429, "throttled")]
    #[case::proof("InstanceNotFound", None, 400, "refused")]
    #[case::proof_of_the_account("NoPermission", None, 403, "refused")]
    #[case::proof_by_a_pattern("InvalidParameter.InstanceId", None, 400, "refused")]
    #[case::own_copy("InvalidOperation.InvalidEniStatus", None, 400, "conflict")]
    #[case::unlisted("OperationDenied.Something", None, 400, "unproven")]
    #[case::unlisted_404("SomethingNew", None, 404, "unproven")]
    #[case::labelled("InstanceNotFound", None, 429, "unanswered")]
    #[case::labelled_conflict("InvalidOperation.InvalidEniStatus", None, 429, "unanswered")]
    #[case::with_a_delay("InstanceNotFound", Some(1), 400, "unanswered")]
    #[case::unlisted_with_a_delay("Busy", Some(1), 400, "unanswered")]
    #[case::catch_all("ens.interface.error", None, 400, "unanswered")]
    fn only_a_known_code_that_nothing_contradicts_proves_that_nothing_was_applied(
        #[case] code: &str,
        #[case] retry_after: Option<u64>,
        #[case] status: u16,
        #[case] expected: &str,
    ) {
        let reply = response(
            &Response {
                status,
                retry_after: retry_after.map(Duration::from_secs),
                date: None,
                body: error(code).into_bytes(),
            },
            &Redaction::default(),
        );
        let outcome = match reply.into_outcome() {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Refused(_) => "refused",
            Outcome::Conflict(_) => "conflict",
            Outcome::Unproven(_) => "unproven",
            Outcome::Throttled { .. } => "throttled",
            Outcome::NotSent { .. } => "not_sent",
            Outcome::Unanswered { .. } => "unanswered",
        };
        assert_eq!(outcome, expected, "{status} {code}");
    }

    #[test]
    fn throttling_is_reported_even_where_the_outcome_is_open() {
        assert_eq!(
            reply(503, &error("Throttling")).throttling(),
            Some(Throttling { retry_after: None })
        );
        assert_eq!(reply(503, &error("ServiceUnavailable")).throttling(), None);
    }

    #[test]
    fn retry_after_makes_a_refusal_a_throttling() {
        let retry_after = Some(Duration::from_millis(700));
        let got = response(
            &Response { status: 400, retry_after, date: None, body: error("Busy").into_bytes() },
            &Redaction::default(),
        );
        assert_eq!(got.throttling(), Some(Throttling { retry_after }));
    }

    #[test]
    fn an_unknown_id_is_distinguished() {
        let got = reply(400, &error("InvalidEniId.NotFound")).into_described();
        assert!(matches!(got, Err(DescribeError::UnknownId(_))), "{got:?}");
        let got = reply(400, &error("NoPermission")).into_described();
        assert!(matches!(got, Err(DescribeError::Refused(_))), "{got:?}");
    }
}
