//! Rights of callers: who may do what, on which instances and ENIs.
//!
//! A policy is a list of rules in a file ([`Policy::parse`]). A call is allowed if a rule allows it
//! and no rule forbids it. Everything else is denied. A decision names its rule.

mod parse;
mod pattern;
mod rule;
mod store;

use std::sync::Arc;

use crate::identity::Principal;
use crate::model::{InstanceId, InterfaceId};

pub use parse::InvalidPolicy;
pub use rule::{Effect, Rule};
pub use store::{PolicyStore, StoreError};

/// The rules of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    trust_domains: Vec<String>,
    /// First those that forbid. Both in the file's order.
    rules: Vec<Rule>,
}

/// What a rule can allow or forbid: the RPCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `AttachNetworkInterface`.
    Attach,
    /// `WatchAttachment`.
    Watch,
    /// `GetAttachment`.
    Get,
    /// `ListAttachments`.
    List,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Attach, Self::Watch, Self::Get, Self::List];

    /// The name in policies and audit lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Watch => "watch",
            Self::Get => "get",
            Self::List => "list",
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

impl Policy {
    /// Decides on a call. The first matching rule that forbids wins, then the first that allows.
    #[must_use]
    pub fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        let matching = self.rules.iter().find(|rule| rule.unmet(request).is_none());
        match matching {
            None => Decision::NotAllowed,
            Some(rule) => match rule.effect {
                Effect::Forbid => Decision::Forbidden(rule.id.clone()),
                Effect::Allow => Decision::Allowed(rule.id.clone()),
            },
        }
    }

    /// The rules, in the order in which [`Policy::decide`] tries them.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The trust domains whose SPIFFE ids are accepted.
    #[must_use]
    pub fn trust_domains(&self) -> &[String] {
        &self.trust_domains
    }
}

#[cfg(test)]
mod tests;
