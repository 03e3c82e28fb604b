//! The error table: every reason, its canonical code and its ENS codes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::stored::Open;

/// A `google.rpc.Code` that the gateway answers with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the canonical codes, as google.rpc.Code documents them")]
pub enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Open for Code {
    const OTHER: Self = Self::Unknown;
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $code:ident, [$($ens:literal),*];)+) => {
        /// The reason of a failure: `ErrorInfo.reason`. The names are part of the contract.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Reason {
            /// Every reason, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The canonical code, unless a deadline decides otherwise.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),+ }
            }

            /// The ENS error codes of this reason. A trailing `*` makes one a prefix.
            #[must_use]
            pub const fn ens_codes(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($ens),*]),+ }
            }
        }
    };
}

reasons! {
    /// A field of the request is missing or malformed; `BadRequest` names it.
    InvalidField = "INVALID_FIELD", InvalidArgument, [];
    /// The same `request_id` came before with another ENI.
    RequestIdReused = "REQUEST_ID_REUSED", InvalidArgument, [];
    /// ENS calls a parameter invalid.
    EnsInvalidParameter = "ENS_INVALID_PARAMETER", InvalidArgument, ["InvalidParameter", "InvalidParameter.*"];
    /// The instance has as many ENIs, attached or in flight, as it may have.
    EniLimitExceeded = "ENI_LIMIT_EXCEEDED", ResourceExhausted, ["EniPerInstanceLimitExceeded"];
    /// ENS knows no such instance.
    InstanceNotFound = "INSTANCE_NOT_FOUND", NotFound, ["InstanceNotFound"];
    /// ENS knows no such ENI.
    EniNotFound = "ENI_NOT_FOUND", NotFound, ["InvalidEniId.NotFound"];
    /// Neither the ledger nor ENS shows this ENI on this instance.
    AttachmentNotFound = "ATTACHMENT_NOT_FOUND", NotFound, [];
    /// The ENI is attached elsewhere, or busy.
    EniNotAvailable = "ENI_NOT_AVAILABLE", FailedPrecondition, ["InvalidOperation.InvalidEniStatus"];
    /// The instance must be stopped first.
    InstanceNotStopped = "INSTANCE_NOT_STOPPED", FailedPrecondition, ["InvalidOperation.InvalidEnsStatus"];
    /// The instance's type takes no further ENIs.
    InstanceNotSupported = "INSTANCE_NOT_SUPPORTED", FailedPrecondition, ["InvalidOperation.InstanceNotSupport"];
    /// The ENI and the instance are in different networks.
    NetworkMismatch = "NETWORK_MISMATCH", FailedPrecondition, ["InvalidOperation.NetworkMismatch"];
    /// The ENI is of a type that cannot be attached, such as a primary one.
    EniTypeNotSupported = "ENI_TYPE_NOT_SUPPORTED", FailedPrecondition, ["InvalidOperation.InvalidEniType"];
    /// The ENI belongs to another cloud service.
    EniServiceManaged = "ENI_SERVICE_MANAGED", FailedPrecondition, ["InvalidParameter.EniServiceManaged"];
    /// ENS accepted, and then showed the ENI free.
    AttachFailed = "ATTACH_FAILED", Aborted, [];
    /// Sent without an answer, asked, sent again, and still not applied; nothing is attached.
    NotApplied = "NOT_APPLIED", Unavailable, [];
    /// Sent without an answer and not yet settled; the attempt continues.
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unavailable, [];
    /// The instance's lock was not reached in time; nothing was sent.
    LockWait = "LOCK_WAIT", DeadlineExceeded, [];
    /// Redis cannot be reached; nothing was sent.
    CoordinationUnavailable = "COORDINATION_UNAVAILABLE", Unavailable, [];
    /// The ledger lost writes and waits until nothing old can arrive; nothing was sent.
    CoordinationRecovering = "COORDINATION_RECOVERING", Unavailable, [];
    /// An operator stopped new attaches; nothing was sent.
    Frozen = "FROZEN", Unavailable, [];
    /// ENS throttles the account, or its budget was not reached in time; nothing was applied.
    EnsThrottled = "ENS_THROTTLED", Unavailable, ["*Throttling*"];
    /// A read needed ENS's answer, and ENS could not be reached or gave no usable one.
    EnsUnavailable = "ENS_UNAVAILABLE", Unavailable, [];
    /// ENS refuses the gateway's own key, signature or clock.
    EnsCredentialsRejected = "ENS_CREDENTIALS_REJECTED", Internal, [
        "SignatureDoesNotMatch", "IncompleteSignature", "InvalidAccessKeyId*", "InvalidSecurityToken*",
        "MissingSecurityToken", "InvalidTimeStamp*"
    ];
    /// The gateway's own account lacks a RAM right.
    EnsPermissionDenied = "ENS_PERMISSION_DENIED", Internal, ["NoPermission", "Forbidden*"];
    /// ENS refused with a code that has no reason of its own.
    EnsError = "ENS_ERROR", Unknown, [];
    /// This replica is going away; another one takes the call.
    Draining = "DRAINING", Unavailable, [];
    /// This replica has as many calls in flight as it takes.
    Overloaded = "OVERLOADED", Unavailable, [];
    /// A watch stream reached its greatest age; resume it with `after_revision`.
    StreamTooOld = "STREAM_TOO_OLD", Unavailable, [];
    /// The caller showed no identity that the gateway knows.
    CallerUnauthenticated = "CALLER_UNAUTHENTICATED", Unauthenticated, [];
    /// The caller may not do this.
    CallerForbidden = "CALLER_FORBIDDEN", PermissionDenied, [];
    /// The caller is over its own quota.
    CallerQuotaExceeded = "CALLER_QUOTA_EXCEEDED", ResourceExhausted, [];
    /// The gateway does not have this method, or does not read this encoding of a message.
    NotSupported = "NOT_SUPPORTED", Unimplemented, [];
}

impl Open for Reason {
    const OTHER: Self = Self::EnsError;
}

impl Reason {
    /// Whether ENS refused the gateway's own account, whatever the request.
    #[must_use]
    pub const fn is_of_account(self) -> bool {
        matches!(self, Self::EnsCredentialsRejected | Self::EnsPermissionDenied)
    }

    /// Whether ENS's refusal of an attach for this reason proves that no copy was applied, because
    /// an applied copy cannot cause it. `InvalidOperation.InvalidEniStatus` can answer a copy that
    /// the network repeated after ENS accepted the first. A code that the table does not know
    /// proves nothing.
    #[must_use]
    pub const fn proves_refusal(self) -> bool {
        !matches!(self, Self::EniNotAvailable | Self::EnsError | Self::EnsThrottled)
    }

    /// The reason of this name; `None` for an unknown one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// Whether a repeat of the request would get the same answer. Not for reasons of the gateway's
    /// account, or for a limit that a detach lifts.
    #[must_use]
    pub const fn is_definite(self) -> bool {
        !matches!(
            self.code(),
            Code::Internal | Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        )
    }

    /// The reason for an ENS error code: an exact match, else the longest pattern, else `EnsError`.
    #[must_use]
    pub fn of_ens_code(code: &str) -> Self {
        Self::ALL
            .iter()
            .flat_map(|reason| reason.ens_codes().iter().map(move |pattern| (*reason, *pattern)))
            .filter(|(_, pattern)| matches(pattern, code))
            .max_by_key(|(_, pattern)| (*pattern == code, pattern.len()))
            .map_or(Self::EnsError, |(reason, _)| reason)
    }
}

fn matches(pattern: &str, code: &str) -> bool {
    match (
        pattern.strip_prefix('*').and_then(|rest| rest.strip_suffix('*')),
        pattern.strip_suffix('*'),
    ) {
        (Some(part), _) => code.contains(part),
        (None, Some(prefix)) => code.starts_with(prefix),
        (None, None) => code == pattern,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ens_codes_find_their_reason() {
        for (code, reason) in [
            ("InvalidParameter.InstanceId", Reason::EnsInvalidParameter),
            ("InvalidParameter.EniServiceManaged", Reason::EniServiceManaged),
            ("Throttling.User", Reason::EnsThrottled),
            ("Rejected.Throttling", Reason::EnsThrottled),
            ("Forbidden.RAM", Reason::EnsPermissionDenied),
            ("NoPermission", Reason::EnsPermissionDenied),
            ("InvalidAccessKeyId.NotFound", Reason::EnsCredentialsRejected),
            ("InvalidTimeStamp.Expired", Reason::EnsCredentialsRejected),
            ("InvalidEniId.NotFound", Reason::EniNotFound),
            ("SomethingNew", Reason::EnsError),
        ] {
            assert_eq!(Reason::of_ens_code(code), reason, "{code}");
        }
    }
}
