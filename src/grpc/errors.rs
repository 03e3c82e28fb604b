//! Maps a [`Failure`] to a status with `google.rpc` details.
//!
//! The status travels in HTTP/2 trailers, which clients accept up to 8 KiB. So texts from ENS are
//! cut.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::model::{Failure, Reason};

/// `ErrorInfo.domain`.
pub const DOMAIN: &str = "eni-gateway";

/// The published explanation of the reasons. A status is made wherever a failure is, so the address
/// belongs to the process.
static HELP_URL: OnceLock<String> = OnceLock::new();

/// Sets the address at which docs/errors.md is published, for the `Help` links of all errors from
/// now on. The first call counts; without one, errors have no link.
pub fn publish_help(url: &str) {
    // A second gateway of the process keeps the first one's.
    let _ = HELP_URL.set(url.to_owned());
}

/// The trailer that gRPC's own retry policies obey; they ignore `RetryInfo`.
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Maximum length of the message, in bytes. In `grpc-message` a byte may take three, and the
/// details repeat the message.
const MAX_MESSAGE: usize = 1024;

/// Maximum length of a metadata value, in bytes.
const MAX_VALUE: usize = 256;

/// Maximum number of bad fields that a status names. A request may have a hundred.
const MAX_FIELDS: usize = 25;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let retry_after = retry_delay(&failure);
        let message = cut(&failure.message, MAX_MESSAGE);
        let mut trailers = MetadataMap::new();
        if let Some(delay) = retry_after {
            trailers.insert(PUSHBACK, u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).into());
        }
        let details = details(&failure, message, retry_after);
        Self::with_error_details_and_metadata(
            Code::from_i32(failure.code.number()),
            message,
            details,
            trailers,
        )
    }
}

/// The delay before a retry; `None` where the cause must be corrected first.
pub(super) fn retry_delay(failure: &Failure) -> Option<Duration> {
    failure.retry_after.or_else(|| usual_delay(failure.reason))
}

/// `ErrorInfo.metadata`: the failure's metadata and ENS's error.
pub(super) fn metadata(failure: &Failure) -> HashMap<String, String> {
    let ens = [("ensCode", &failure.ens_code), ("ensRequestId", &failure.ens_request_id)];
    let ens = ens
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value));
    let own = failure.metadata.iter().map(|(key, value)| (key.clone(), value));
    own.chain(ens).map(|(key, value)| (key, cut(value, MAX_VALUE).to_owned())).collect()
}

fn details(failure: &Failure, message: &str, retry_after: Option<Duration>) -> ErrorDetails {
    let reason = failure.reason;
    let metadata = metadata(failure);
    let value = |key: &str| metadata.get(key).cloned().unwrap_or_default();
    let instance = || format!("instance:{}", value("instanceId"));
    let eni = || format!("eni:{}", value("networkInterfaceId"));

    let mut details = ErrorDetails::new();
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    for (field, problem) in failure.fields.iter().take(MAX_FIELDS) {
        details.add_bad_request_violation(field, problem);
    }
    if !failure.ens_request_id.is_empty() {
        details.set_request_info(value("ensRequestId"), "");
    }
    match reason {
        Reason::EniLimitExceeded => _ = details.add_quota_failure_violation(instance(), message),
        Reason::CallerQuotaExceeded => _ = details.add_quota_failure_violation("caller", message),
        Reason::InstanceNotFound => {
            details.set_resource_info(
                "ens.aliyuncs.com/Instance",
                value("instanceId"),
                "",
                message,
            );
        }
        Reason::EniNotFound => {
            details.set_resource_info(
                "ens.aliyuncs.com/NetworkInterface",
                value("networkInterfaceId"),
                "",
                message,
            );
        }
        Reason::AttachmentNotFound => {
            let name = format!("{}/{}", value("instanceId"), value("networkInterfaceId"));
            details.set_resource_info("eni-gateway/Attachment", name, "", message);
        }
        Reason::InstanceNotStopped | Reason::InstanceNotSupported => {
            details.add_precondition_failure_violation(reason.name(), instance(), message);
        }
        Reason::EniNotAvailable
        | Reason::NetworkMismatch
        | Reason::EniTypeNotSupported
        | Reason::EniServiceManaged => {
            details.add_precondition_failure_violation(reason.name(), eni(), message);
        }
        _ => {}
    }
    if let Some(url) = HELP_URL.get() {
        details.add_help_link(
            format!("{reason}: {}; {}", reason.send_effect(), reason.retry_advice()),
            help_link(url, reason),
        );
    }
    details.set_error_info(reason.name(), DOMAIN, metadata);
    details
}

/// The section of a reason, at this address.
fn help_link(url: &str, reason: Reason) -> String {
    format!("{}#{}", url.trim_end_matches('#'), reason.name().to_ascii_lowercase())
}

/// The retry delay of a reason, where the failure has none of its own.
const fn usual_delay(reason: Reason) -> Option<Duration> {
    match reason {
        Reason::StreamTooOld | Reason::Draining => Some(Duration::from_millis(100)),
        Reason::Overloaded => Some(Duration::from_millis(500)),
        Reason::OutcomeUnknown
        | Reason::NotApplied
        | Reason::LockWait
        | Reason::CoordinationUnavailable
        | Reason::EnsThrottled
        | Reason::EnsUnavailable => Some(Duration::from_secs(1)),
        Reason::EniLimitExceeded => Some(Duration::from_secs(2)),
        Reason::CoordinationRecovering => Some(Duration::from_secs(5)),
        _ => None,
    }
}

/// The longest prefix of at most `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use super::*;
    use crate::grpc::method::Method;

    fn sample(reason: Reason) -> Failure {
        let (instance, eni) = ("i-1".parse().expect("an id"), "eni-1".parse().expect("an id"));
        let failure = match reason {
            Reason::InvalidField => {
                return Failure::invalid_field("instance_id", "must not be empty");
            }
            Reason::EniLimitExceeded => {
                Failure::new(reason, "10 of 10 ENIs").with("limit", 10).with("attached", 10)
            }
            _ => Failure::new(reason, "what happened"),
        };
        match reason.ens_codes().first() {
            Some(code) => {
                failure.ens(code.replace('*', "X"), "ENS-REQUEST-ID").about(&instance, &eni)
            }
            None => failure.about(&instance, &eni),
        }
    }

    /// A status as a client decodes it, with one line for each detail.
    fn render(status: &Status) -> String {
        let mut text = format!("{:?} {:?}\n", status.code(), status.message());
        let details = status.get_error_details();
        let info = details.error_info().expect("every error has an ErrorInfo");
        let sorted: BTreeMap<_, _> = info.metadata.iter().collect();
        let _ = writeln!(text, "  ErrorInfo {} {} {sorted:?}", info.reason, info.domain);
        if let Some(retry) = details.retry_info() {
            let pushback = status.metadata().get(PUSHBACK).expect("pushback goes with RetryInfo");
            let _ = writeln!(
                text,
                "  RetryInfo {:?}, pushback {pushback:?}",
                retry.retry_delay.expect("a delay")
            );
        }
        for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
            let _ = writeln!(text, "  BadRequest {}: {}", violation.field, violation.description);
        }
        for violation in details.quota_failure().iter().flat_map(|quota| &quota.violations) {
            let _ =
                writeln!(text, "  QuotaFailure {}: {}", violation.subject, violation.description);
        }
        for violation in
            details.precondition_failure().iter().flat_map(|failure| &failure.violations)
        {
            let _ =
                writeln!(text, "  PreconditionFailure {} {}", violation.r#type, violation.subject);
        }
        if let Some(resource) = details.resource_info() {
            let _ = writeln!(
                text,
                "  ResourceInfo {} {}",
                resource.resource_type, resource.resource_name
            );
        }
        if let Some(request) = details.request_info() {
            let _ = writeln!(text, "  RequestInfo {}", request.request_id);
        }
        text
    }

    #[test]
    fn a_link_names_the_reasons_section() {
        for url in ["https://docs.example/errors", "https://docs.example/errors#"] {
            let link = help_link(url, Reason::LockWait);
            assert_eq!(link, "https://docs.example/errors#lock_wait");
        }
        let status = Status::from(sample(Reason::LockWait));
        assert!(status.get_error_details().help().is_none(), "nothing is published");
    }

    #[test]
    fn the_table() {
        let table: Vec<String> =
            Reason::ALL.iter().map(|reason| render(&sample(*reason).into())).collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn what_ens_says_fits_into_trailers() {
        let failure = Failure::new(Reason::EnsError, "弹".repeat(4_000))
            .ens("C".repeat(9_000), "R".repeat(9_000));
        let mut headers = http::HeaderMap::new();
        Status::from(failure).add_header(&mut headers).expect("only printable characters");
        assert!(size(&headers) < 8 * 1024, "{} bytes", size(&headers));
    }

    /// The size of headers as HTTP/2 counts it.
    fn size(headers: &http::HeaderMap) -> usize {
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn a_hundred_bad_fields_fit_into_trailers() {
        let bad = |number| (format!("instance_ids[{number}]"), "p".repeat(100));
        let mut failure = Failure::new(Reason::InvalidField, "m".repeat(4_000));
        failure.fields = (0..100).map(bad).collect();
        let mut headers = http::HeaderMap::new();
        let status = Status::from(failure);
        status.add_header(&mut headers).expect("only printable characters");
        assert!(size(&headers) < 8 * 1024, "{} bytes", size(&headers));
        let details = status.get_error_details();
        let named = details.bad_request().map(|bad| bad.field_violations.len());
        assert_eq!(named, Some(MAX_FIELDS));
    }

    #[test]
    fn every_reason_is_documented() {
        let proto = include_str!("../../proto/eni/gateway/v1/attachment_service.proto");
        let help = include_str!("../../docs/errors.md").replace("\n  ", " ");
        for reason in Reason::ALL {
            assert!(
                proto.contains(&format!("//   - {reason}: ")),
                "{reason} is missing in the proto"
            );
            let facts = facts(*reason);
            assert!(help.contains(&facts), "docs/errors.md is stale; it must hold:\n{facts}");
            let section = help.split(&facts).nth(1).and_then(|rest| rest.split("\n## ").next());
            for who in ["\n**Callers:** ", "\n**Operators:** "] {
                assert!(
                    section.is_some_and(|text| text.contains(who)),
                    "{reason}: no {who} in docs/errors.md"
                );
            }
        }
        assert_eq!(
            help.matches("\n## ").count(),
            Reason::ALL.len(),
            "docs/errors.md speaks of more"
        );
    }

    /// The row of a reason in the documentation's table.
    fn facts(reason: Reason) -> String {
        let code = serde_json::to_value(reason.code()).expect("a name");
        let codes: Vec<_> = reason.ens_codes().iter().map(|code| format!("`{code}`")).collect();
        let from_ens = if codes.is_empty() {
            String::new()
        } else {
            format!("- **ENS codes:** {}\n", codes.join(", "))
        };
        let code = code.as_str().expect("text");
        let (sent, repeat) = (reason.send_effect(), reason.retry_advice());
        let rpcs = Method::ALL.into_iter().filter(|method| method.may_return(reason));
        let rpcs: Vec<_> = rpcs.map(|method| format!("`{}`", method.short_name())).collect();
        let rpcs = rpcs.join(", ");
        format!(
            "\n## {reason}\n\n- **Code:** `{code}`\n- **RPCs:** {rpcs}\n{from_ens}- **Sent:** {sent}\n- **Retry:** {repeat}\n"
        )
    }
}
