//! A refusal of the gateway, from an RPC's status or an attachment's `error`.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use super::Exit;
use super::advice::advice;
use super::json::seconds;
use super::style::clean;
use crate::grpc::code_name;
use crate::grpc::proto::AttachmentError;
use crate::model::Reason;

/// A refusal or a failure as the gateway returned it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    /// `ErrorInfo.reason`; empty without one.
    reason: String,
    message: String,
    metadata: BTreeMap<String, String>,
    /// Bad fields of the request, each with its problem.
    fields: Vec<(String, String)>,
    pub(super) retry_after: Option<Duration>,
    /// Whether the client made it: the connection failed, or the time ran out.
    local: bool,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().cloned();
        let local =
            info.is_none() && (status.source().is_some() || status.code() == Code::Unavailable);
        // tonic's timers return CANCELLED on either side, but so does a closed connection.
        let timed_out = info.is_none()
            && status.code() == Code::Cancelled
            && causes(&status).last().is_none_or(|cause| cause.is::<TimeoutExpired>());
        let (reason, metadata) =
            info.map_or_else(Default::default, |info| (info.reason, info.metadata));
        let fields =
            details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: if timed_out { Code::DeadlineExceeded } else { status.code() },
            reason,
            message: if timed_out { "no answer in time".to_owned() } else { with_causes(&status) },
            metadata: metadata.into_iter().collect(),
            fields: fields
                .into_iter()
                .map(|violation| (violation.field, violation.description))
                .collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            local,
        }
    }
}

impl From<AttachmentError> for Refusal {
    fn from(error: AttachmentError) -> Self {
        let mut metadata: BTreeMap<_, _> = error.metadata.into_iter().collect();
        for (key, value) in [("ensCode", error.ens_code), ("ensRequestId", error.ens_request_id)] {
            if !value.is_empty() {
                metadata.insert(key.to_owned(), value);
            }
        }
        Self {
            code: Code::from_i32(error.code),
            reason: error.reason,
            message: error.message,
            metadata,
            fields: Vec::new(),
            retry_after: error.retry_delay.and_then(|delay| delay.try_into().ok()),
            local: false,
        }
    }
}

/// The causes of a client-made status, nearest first.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// The message with the causes of a client-made status. Its own text names only the last step.
fn with_causes(status: &Status) -> String {
    causes(status).map(ToString::to_string).fold(status.message().to_owned(), |message, cause| {
        if message.contains(&cause) { message } else { format!("{message}: {cause}") }
    })
}

impl Refusal {
    pub(super) fn reason(&self) -> Option<Reason> {
        Reason::named(&self.reason)
    }

    /// Whether the connection or the replica is gone, so that a retry may reach another one. Only
    /// the gateway gives a reason. Behind a proxy, a lost replica shows as any code without one.
    pub(super) fn is_lost(&self) -> bool {
        self.code == Code::Unavailable || self.reason.is_empty()
    }

    /// Whether the connection failed rather than the call.
    pub(super) fn is_broken_connection(&self) -> bool {
        self.local && self.code != Code::DeadlineExceeded
    }

    /// Whether the refused attach may still be in flight.
    pub(super) fn may_go_on(&self) -> bool {
        self.reason() == Some(Reason::OutcomeUnknown)
            || (self.reason.is_empty()
                && (self.code == Code::DeadlineExceeded || self.is_cut_off()))
    }

    /// Whether the answer was lost on the way, or came from a proxy that lost the gateway.
    fn is_cut_off(&self) -> bool {
        self.reason.is_empty()
            && matches!(
                self.code,
                Code::Unavailable | Code::Internal | Code::Unknown | Code::Cancelled
            )
    }

    pub(super) fn exit(&self) -> Exit {
        match (self.code, self.reason()) {
            (_, Some(Reason::InvalidField | Reason::RequestIdReused)) => Exit::Usage,
            (_, Some(Reason::CallerQuotaExceeded)) if self.retry_after.is_some() => Exit::TryAgain,
            // ENS refuses the account, whatever code the gateway gives its caller.
            (_, Some(Reason::EnsPermissionDenied | Reason::EnsCredentialsRejected)) => {
                Exit::NotAllowed
            }
            (Code::DeadlineExceeded, _) => Exit::TryAgain,
            (Code::Unavailable, _) if !self.reason.is_empty() => Exit::TryAgain,
            (Code::Unavailable, _) => Exit::Unreachable,
            // The server there is no gateway, or a proxy before it failed.
            (Code::Unimplemented, None) => Exit::Unreachable,
            (Code::Internal | Code::Unknown, None) if self.reason.is_empty() => Exit::Unreachable,
            (Code::PermissionDenied | Code::Unauthenticated, _) => Exit::NotAllowed,
            _ if self.local => Exit::Unreachable,
            _ => Exit::Refused,
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self.reason() {
            Some(reason) => Some(advice(reason)),
            None if self.code == Code::DeadlineExceeded => {
                Some("try again; an attach may still be in flight, and the call joins it")
            }
            None if self.is_cut_off() => Some(
                "try again: an attach may be in flight, and the call joins it; if it fails again, \
                 check --endpoint, and whether a gateway of this version runs there",
            ),
            None if self.exit() == Exit::Unreachable => {
                Some("check --endpoint, and whether a gateway of this version runs there")
            }
            None => None,
        }
    }

    /// The first line of the message.
    pub(super) fn headline(&self) -> String {
        let (code, message) = (code_name(self.code), clean(&self.message));
        match self.reason.as_str() {
            "" => format!("{code}: {message}"),
            reason => format!("{} ({code}): {message}", clean(reason)),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, problem)| json!({"field": name, "description": problem}))
            .collect();
        let mut error = json!({
            "code": code_name(self.code),
            "reason": self.reason,
            "message": self.message,
            "metadata": self.metadata,
        });
        if !fields.is_empty() {
            error["fieldViolations"] = fields.into();
        }
        if let Some(delay) = self.retry_after {
            error["retryDelay"] = seconds(delay).into();
        }
        if let Some(advice) = self.advice() {
            error["advice"] = advice.into();
        }
        error
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        for (name, problem) in &self.fields {
            write!(f, "\n  field {}: {}", clean(name), clean(problem))?;
        }
        for (key, value) in &self.metadata {
            write!(f, "\n  {}: {}", clean(key), clean(value))?;
        }
        if let Some(delay) = self.retry_after {
            write!(f, "\n  try again after: {}", humantime::format_duration(rounded(delay)))?;
        }
        self.advice().map_or(Ok(()), |advice| write!(f, "\n  what to do: {advice}"))
    }
}

/// Rounds up to a second, or below it to a tenth.
fn rounded(delay: Duration) -> Duration {
    let step = if delay < Duration::from_secs(1) { 100 } else { 1000 };
    let steps = delay.as_micros().div_ceil(1000 * u128::from(step));
    Duration::from_millis(step * u64::try_from(steps).unwrap_or(u64::MAX / step))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str) -> Refusal {
        let details = ErrorDetails::with_error_info(reason, "eni-gateway", HashMap::new());
        Status::with_error_details(code, "refused", details).into()
    }

    #[rstest::rstest]
    #[case(Code::InvalidArgument, "INVALID_FIELD", Exit::Usage)]
    #[case(Code::InvalidArgument, "ENS_INVALID_PARAMETER", Exit::Refused)]
    #[case(Code::ResourceExhausted, "ENI_LIMIT_EXCEEDED", Exit::Refused)]
    #[case(Code::ResourceExhausted, "CALLER_QUOTA_EXCEEDED", Exit::Refused)]
    #[case(Code::NotFound, "INSTANCE_NOT_FOUND", Exit::Refused)]
    #[case(Code::Unavailable, "DRAINING", Exit::TryAgain)]
    #[case(Code::Unavailable, "A_NEWER_REASON", Exit::TryAgain)]
    #[case(Code::DeadlineExceeded, "LOCK_WAIT", Exit::TryAgain)]
    #[case(Code::PermissionDenied, "CALLER_FORBIDDEN", Exit::NotAllowed)]
    #[case(Code::Unauthenticated, "CALLER_UNAUTHENTICATED", Exit::NotAllowed)]
    #[case(Code::Internal, "ENS_PERMISSION_DENIED", Exit::NotAllowed)]
    #[case(Code::Internal, "ENS_CREDENTIALS_REJECTED", Exit::NotAllowed)]
    #[case(Code::Internal, "ENS_ERROR", Exit::Refused)]
    fn the_exit_code_follows_the_answer(
        #[case] code: Code,
        #[case] reason: &str,
        #[case] exit: Exit,
    ) {
        assert_eq!(refused(code, reason).exit(), exit);
    }

    #[test]
    fn a_quota_with_a_delay_is_tried_again() {
        let info =
            ErrorDetails::with_error_info("CALLER_QUOTA_EXCEEDED", "eni-gateway", HashMap::new());
        let mut details = info;
        details.set_retry_info(Some(Duration::from_secs(1)));
        let status = Status::with_error_details(Code::ResourceExhausted, "refused", details);
        assert_eq!(Refusal::from(status).exit(), Exit::TryAgain);
    }

    #[test]
    fn an_answer_without_reason_is_the_connections() {
        assert_eq!(Refusal::from(Status::unavailable("gone")).exit(), Exit::Unreachable);
        assert_eq!(Refusal::from(Status::deadline_exceeded("late")).exit(), Exit::TryAgain);
        assert_eq!(Refusal::from(Status::unimplemented("what?")).exit(), Exit::Unreachable);
        assert_eq!(Refusal::from(Status::internal("oh")).exit(), Exit::Unreachable);
    }

    #[test]
    fn a_message_cannot_play_with_the_terminal() {
        let refusal = Refusal::from(Status::not_found("gone\x1b[2J\nerror: really"));
        assert_eq!(refusal.headline(), "NOT_FOUND: gone [2J error: really");
    }

    #[test]
    fn a_delay_is_shown_in_plain_words() {
        let shown = |delay| humantime::format_duration(rounded(delay)).to_string();
        assert_eq!(shown(Duration::from_micros(63_018_803)), "1m 4s");
        assert_eq!(shown(Duration::from_micros(250_001)), "300ms");
        assert_eq!(shown(Duration::ZERO), "0s");
    }

    #[test]
    fn an_attach_may_go_on_where_its_answer_was_lost() {
        assert!(Refusal::from(Status::deadline_exceeded("late")).may_go_on());
        assert!(Refusal::from(Status::unavailable("gone")).may_go_on());
        let proxy = Refusal::from(Status::internal("502 Bad Gateway"));
        assert!(proxy.may_go_on() && proxy.to_string().contains("may be in flight"), "{proxy}");
        assert!(!Refusal::from(Status::unimplemented("what?")).may_go_on());
        assert!(refused(Code::Unavailable, "OUTCOME_UNKNOWN").may_go_on());
        assert!(!refused(Code::DeadlineExceeded, "LOCK_WAIT").may_go_on());
        assert!(!refused(Code::Unavailable, "DRAINING").may_go_on());
    }
}
