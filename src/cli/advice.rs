//! The remedy for each reason, for people.

use crate::model::Reason;

/// The remedy, in one sentence.
pub(super) const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidField => "correct the named field",
        Reason::RequestIdReused => {
            "use a new --request-id for each ENI, or omit it: a repeated \
            attach joins the first"
        }
        Reason::EnsInvalidParameter => "check both ids: ENS rejects one of them",
        Reason::EniLimitExceeded => "detach an ENI from the instance, or use another instance",
        Reason::InstanceNotFound => "check the instance id and the account's region",
        Reason::EniNotFound => "check the ENI's id and the account's region",
        Reason::AttachmentNotFound => "attach it first, or watch with --follow to wait for it",
        Reason::EniNotAvailable => "detach the ENI, and wait until ENS shows it Available",
        Reason::InstanceNotStopped => "stop the instance: ENS attaches only to a stopped instance",
        Reason::InstanceNotSupported => "use an instance of a type that supports ENIs",
        Reason::NetworkMismatch => "use an ENI of the instance's network",
        Reason::EniTypeNotSupported => "use a secondary ENI: others cannot be attached",
        Reason::EniServiceManaged => "use an ENI that no other cloud service manages",
        Reason::AttachFailed => {
            "attach again; if it fails again, quote its request id to ENS's support"
        }
        Reason::NotApplied => "nothing is attached: attach again",
        Reason::OutcomeUnknown => {
            "the attempt continues: watch it, or attach again, which joins it"
        }
        Reason::LockWait => "nothing was sent: attach again with a longer --timeout",
        Reason::CoordinationUnavailable => {
            "try again; if it persists, inform the gateway's operators: Redis needs repair"
        }
        Reason::CoordinationRecovering => {
            "try again in a minute: Redis lost writes, and the \
            gateway is recovering"
        }
        Reason::Frozen => "try again later: the gateway's operators stopped new attaches",
        Reason::EnsThrottled => "try again later: the account's ENS quota is used up",
        Reason::EnsUnavailable => {
            "try again: the gateway could not reach ENS, so the state is unknown"
        }
        Reason::EnsCredentialsRejected => {
            "inform the gateway's operators: ENS refuses its key, \
            signature or clock"
        }
        Reason::EnsPermissionDenied => {
            "inform the gateway's operators: its account lacks a RAM right"
        }
        Reason::EnsError => "look up the ENS code, or quote the request id to ENS's support",
        Reason::Draining | Reason::Overloaded => "try again: another replica may accept the call",
        Reason::StreamTooOld => {
            "watch again, with --after-revision, or with --resume-token for --all"
        }
        Reason::CallerUnauthenticated => "use a known identity: --token-file, or --cert and --key",
        Reason::CallerForbidden => "ask the gateway's operators for the right",
        Reason::NotSupported => "use a client and a gateway of the same version",
        Reason::CallerQuotaExceeded => {
            "after the delay, try again with fewer concurrent calls; without one, send fewer enis \
             in one call"
        }
    }
}
