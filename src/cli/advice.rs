//! What to do about each reason: for people at a terminal.

use crate::model::Reason;

/// One sentence on what to do.
pub(super) const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidField => "correct the field that is named",
        Reason::RequestIdReused => {
            "use a new --request-id for each ENI, or leave it out: a repeated attach joins the first"
        }
        Reason::EnsInvalidParameter => "check both ids: ENS takes one of them for invalid",
        Reason::EniLimitExceeded => "detach an ENI from the instance, or take another instance",
        Reason::InstanceNotFound => "check the instance id and the account's region",
        Reason::EniNotFound => "check the ENI's id and the account's region",
        Reason::AttachmentNotFound => "attach it first, or watch with --follow to wait for it",
        Reason::EniNotAvailable => "detach the ENI from where it is, and wait until ENS shows it Available",
        Reason::InstanceNotStopped => "stop the instance: ENS attaches only to a stopped one",
        Reason::InstanceNotSupported => "take an instance of a type that supports ENIs",
        Reason::NetworkMismatch => "take an ENI of the instance's own network",
        Reason::EniTypeNotSupported => "take a secondary ENI: others cannot be attached",
        Reason::EniServiceManaged => "take an ENI that no other cloud service manages",
        Reason::AttachFailed => "attach again; if it fails again, ask ENS's support with its request id",
        Reason::NotApplied => "nothing is attached: attach again",
        Reason::OutcomeUnknown => "the attempt goes on: watch it, or attach again, which joins it",
        Reason::LockWait => {
            "nothing was sent: attach again, with a longer --timeout if others are busy with the instance"
        }
        Reason::CoordinationUnavailable => {
            "try again; if it fails again, the gateway's operators must repair its Redis first"
        }
        Reason::CoordinationRecovering => {
            "try again in a minute or two: the gateway recovers from writes that Redis lost"
        }
        Reason::EnsThrottled => "try again later: the account's ENS quota is used up",
        Reason::EnsUnavailable => "try again: the gateway could not reach ENS, so the answer is not known",
        Reason::EnsCredentialsRejected => "tell the gateway's operators: ENS refuses its key, signature or clock",
        Reason::EnsPermissionDenied => "tell the gateway's operators: its account lacks a RAM right",
        Reason::EnsError => "look up the ENS code, or ask ENS's support with its request id",
        Reason::Draining | Reason::Overloaded => "try again: another replica may take the call",
        Reason::StreamTooOld => "watch again, with --after-revision",
        Reason::CallerUnauthenticated => "give an identity that the gateway knows: --token-file, or --cert and --key",
        Reason::CallerForbidden => "ask the gateway's operators for the right",
        Reason::CallerQuotaExceeded => "try again later, with fewer calls at once",
    }
}
