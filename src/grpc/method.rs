//! The RPCs of the service, and the reasons that each may return. The set is closed, so a path from
//! outside never becomes a span name or a metric label.

use crate::model::Reason;
use crate::policy::Action;

/// One RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `AttachNetworkInterface`.
    Attach,
    /// `BatchAttachNetworkInterfaces`.
    AttachBatch,
    /// `WatchAttachment`.
    Watch,
    /// `WatchAttachments`.
    WatchFleet,
    /// `GetAttachment`.
    Get,
    /// `ListAttachments`.
    List,
    /// `GetInstanceCapacity`.
    Capacity,
    /// `BatchGetInstanceCapacities`.
    Capacities,
}

impl Method {
    /// Every RPC, in the order of the proto.
    pub const ALL: [Self; 8] = [
        Self::Attach,
        Self::AttachBatch,
        Self::Watch,
        Self::WatchFleet,
        Self::Get,
        Self::List,
        Self::Capacity,
        Self::Capacities,
    ];

    /// The RPC that an HTTP path names.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        Self::named(path.strip_prefix('/')?)
    }

    /// The RPC of this [`Method::name`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The name without its package and service, such as `GetAttachment`.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Attach => "AttachNetworkInterface",
            Self::AttachBatch => "BatchAttachNetworkInterfaces",
            Self::Watch => "WatchAttachment",
            Self::WatchFleet => "WatchAttachments",
            Self::Get => "GetAttachment",
            Self::List => "ListAttachments",
            Self::Capacity => "GetInstanceCapacity",
            Self::Capacities => "BatchGetInstanceCapacities",
        }
    }

    /// Whether the RPC's status may carry this reason. `Attachment.error` and `AttachResult.error`
    /// may carry every reason of an attach, and `InstanceCapacity.error` those of
    /// [`Method::Capacity`].
    #[must_use]
    pub const fn may_return(self, reason: Reason) -> bool {
        match reason {
            Reason::InvalidField
            | Reason::CoordinationUnavailable
            | Reason::Draining
            | Reason::Overloaded
            | Reason::CallerUnauthenticated
            | Reason::CallerForbidden
            | Reason::CallerQuotaExceeded
            | Reason::NotSupported => true,
            // A batch has them in its answer, and a watch of all instances never asks ENS.
            Reason::EnsInvalidParameter
            | Reason::InstanceNotFound
            | Reason::EnsThrottled
            | Reason::EnsCredentialsRejected
            | Reason::EnsPermissionDenied
            | Reason::EnsError => !matches!(self, Self::Capacities | Self::WatchFleet),
            Reason::CoordinationRecovering => {
                matches!(self, Self::Attach | Self::AttachBatch | Self::Watch)
            }
            Reason::AttachmentNotFound => matches!(self, Self::Watch | Self::Get),
            Reason::StreamTooOld => self.is_streaming(),
            Reason::EnsUnavailable => {
                matches!(self, Self::Watch | Self::Get | Self::List | Self::Capacity)
            }
            // A batch has the others in its answer.
            Reason::EniLimitExceeded | Reason::NotApplied | Reason::OutcomeUnknown => {
                matches!(self, Self::Attach | Self::AttachBatch)
            }
            Reason::RequestIdReused
            | Reason::EniNotFound
            | Reason::EniNotAvailable
            | Reason::InstanceNotStopped
            | Reason::InstanceNotSupported
            | Reason::NetworkMismatch
            | Reason::EniTypeNotSupported
            | Reason::EniServiceManaged
            | Reason::AttachFailed
            | Reason::Frozen
            | Reason::LockWait => matches!(self, Self::Attach),
        }
    }

    /// The reasons that the RPC's status may carry, in the order of the error table.
    pub fn reasons(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.iter().copied().filter(move |reason| self.may_return(*reason))
    }

    /// `rpc.method`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "eni.gateway.v1.AttachmentService/AttachNetworkInterface",
            Self::AttachBatch => "eni.gateway.v1.AttachmentService/BatchAttachNetworkInterfaces",
            Self::Watch => "eni.gateway.v1.AttachmentService/WatchAttachment",
            Self::WatchFleet => "eni.gateway.v1.AttachmentService/WatchAttachments",
            Self::Get => "eni.gateway.v1.AttachmentService/GetAttachment",
            Self::List => "eni.gateway.v1.AttachmentService/ListAttachments",
            Self::Capacity => "eni.gateway.v1.AttachmentService/GetInstanceCapacity",
            Self::Capacities => "eni.gateway.v1.AttachmentService/BatchGetInstanceCapacities",
        }
    }

    /// The RPC's name in policies.
    pub(super) const fn action(self) -> Action {
        match self {
            Self::Attach | Self::AttachBatch => Action::Attach,
            Self::Watch | Self::WatchFleet => Action::Watch,
            Self::Get => Action::Get,
            Self::List => Action::List,
            Self::Capacity | Self::Capacities => Action::Capacity,
        }
    }

    pub(super) const fn is_streaming(self) -> bool {
        matches!(self, Self::Watch | Self::WatchFleet)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::proto::FILE_DESCRIPTOR_SET;

    #[test]
    fn the_names_are_those_of_the_proto() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
            .expect("the build's own descriptors")
            .file;
        let ours = files.iter().find(|file| file.package() == "eni.gateway.v1").expect("the api");
        let service = &ours.service[0];
        assert_eq!(service.method.len(), Method::ALL.len());
        for method in &service.method {
            let path = format!("/{}.{}/{}", ours.package(), service.name(), method.name());
            let found = Method::of_path(&path).expect(&path);
            assert_eq!(found.is_streaming(), method.server_streaming(), "{path}");
        }
        assert_eq!(Method::of_path("/eni.gateway.v1.AttachmentService/Detach"), None);
        for method in Method::ALL {
            assert!(method.name().ends_with(&format!("/{}", method.short_name())));
        }
    }

    /// The reasons after `Errors:` in the comment of an RPC.
    fn listed(comment: &str) -> Vec<Reason> {
        let (_, list) = comment.split_once("Errors:").expect("a list of errors");
        let names = list.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        names
            .filter(|name| name.len() > 2)
            .map(|name| Reason::named(name).unwrap_or_else(|| panic!("{name} is no reason")))
            .collect()
    }

    #[test]
    fn the_proto_lists_what_each_rpc_may_return() {
        let proto = include_str!("../../proto/eni/gateway/v1/attachment_service.proto");
        for method in Method::ALL {
            let (before, _) =
                proto.split_once(&format!("\n  rpc {}(", method.short_name())).expect("the rpc");
            let comment: Vec<_> =
                before.lines().rev().map_while(|line| line.strip_prefix("  //")).collect();
            let comment: Vec<_> = comment.into_iter().rev().collect();
            let expected: Vec<Reason> = method.reasons().collect();
            assert_eq!(listed(&comment.join("\n")), expected, "{method:?}");
        }
    }
}
