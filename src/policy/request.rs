//! A call to decide on, and the decision.

use std::sync::Arc;

use crate::identity::Principal;
use crate::model::{InstanceId, InterfaceId};

/// What a rule can allow or forbid: the RPCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `AttachNetworkInterface` and, for each ENI, `BatchAttachNetworkInterfaces`.
    Attach,
    /// `WatchAttachment` and, for each instance, `WatchAttachments`.
    Watch,
    /// `GetAttachment`.
    Get,
    /// `ListAttachments`, for each instance.
    List,
    /// `GetInstanceCapacity` and, for each instance, `BatchGetInstanceCapacities`.
    Capacity,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 5] = [Self::Attach, Self::Watch, Self::Get, Self::List, Self::Capacity];

    /// The name in policies and audit lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Watch => "watch",
            Self::Get => "get",
            Self::List => "list",
            Self::Capacity => "capacity",
        }
    }

    /// The action of this name; `None` for an unknown one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// A call to decide on.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The action.
    pub action: Action,
    /// The instance.
    pub instance: &'a InstanceId,
    /// The ENI; `None` for every ENI of the instance.
    pub eni: Option<&'a InterfaceId>,
    /// Whether an attach only checks, and changes nothing.
    pub validate_only: bool,
}

/// A decision, with the id of the rule that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The rule allows the call, and no rule forbids it.
    Allowed(Arc<str>),
    /// The rule forbids the call.
    Forbidden(Arc<str>),
    /// No rule allows the call.
    NotAllowed,
}

impl Decision {
    /// Whether the call may proceed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The id of the rule; `None` if no rule matches.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Allowed(rule) | Self::Forbidden(rule) => Some(rule),
            Self::NotAllowed => None,
        }
    }
}
