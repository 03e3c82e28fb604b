//! One rule.

use std::sync::Arc;

use super::pattern::Pattern;
use super::request::{AccessRequest, Action};
use crate::identity::{Kind, Principal};

/// What a rule does to the calls that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It forbids them, whatever other rules allow.
    Forbid,
    /// It allows them.
    Allow,
}

impl Effect {
    /// The name of the rule's table in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forbid => "forbid",
            Self::Allow => "allow",
        }
    }
}

/// A rule. It matches a call that meets all its conditions. A condition that is not in the file is
/// met; a list is met by one of its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The name in audit lines, unique in the file.
    pub id: Arc<str>,
    /// The effect.
    pub effect: Effect,
    pub(super) callers: Vec<Pattern>,
    pub(super) kinds: Option<Vec<Kind>>,
    pub(super) issuers: Option<Vec<Pattern>>,
    pub(super) namespaces: Option<Vec<Pattern>>,
    pub(super) groups: Option<Vec<Pattern>>,
    pub(super) actions: Vec<Action>,
    pub(super) instances: Vec<Pattern>,
    pub(super) interfaces: Option<Vec<Pattern>>,
    pub(super) validate_only: Option<bool>,
}

impl Rule {
    /// The first condition that the call does not meet; `None` if the rule matches.
    #[must_use]
    pub fn unmet(&self, request: &AccessRequest<'_>) -> Option<&'static str> {
        let conditions = [
            ("instances", any(&self.instances, request.instance.as_str())),
            ("interfaces", self.covers_interfaces(request)),
            ("validate_only", self.validate_only.is_none_or(|only| only == request.validate_only)),
        ];
        let of_resource = || conditions.into_iter().find_map(|(name, met)| (!met).then_some(name));
        self.unmet_by_caller(request.principal, request.action).or_else(of_resource)
    }

    /// Whether the rule allows the call for whole instances, of whatever ids.
    pub(super) fn allows_some(&self, principal: &Principal, action: Action) -> bool {
        let allows = self.effect == Effect::Allow && self.is_of_whole_instances();
        allows && self.unmet_by_caller(principal, action).is_none()
    }

    /// Whether the rule forbids the call for every instance.
    pub(super) fn forbids_all(&self, principal: &Principal, action: Action) -> bool {
        let of_all = self.is_of_whole_instances() && self.instances.iter().any(Pattern::is_any);
        let forbids = self.effect == Effect::Forbid && of_all;
        forbids && self.unmet_by_caller(principal, action).is_none()
    }

    fn is_of_whole_instances(&self) -> bool {
        let any = self.interfaces.as_ref().is_none_or(|it| it.iter().any(Pattern::is_any));
        any && self.validate_only != Some(true)
    }

    /// The first condition on the caller and the action that is not met.
    fn unmet_by_caller(&self, principal: &Principal, action: Action) -> Option<&'static str> {
        let one_of = |patterns: &Option<Vec<Pattern>>, text: &str| {
            patterns.as_ref().is_none_or(|patterns| any(patterns, text))
        };
        let in_group = |groups: &Vec<Pattern>| principal.groups.iter().any(|it| any(groups, it));
        let conditions = [
            ("callers", any(&self.callers, &principal.name.0)),
            ("kinds", self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&principal.kind))),
            ("issuers", one_of(&self.issuers, &principal.issuer)),
            ("namespaces", one_of(&self.namespaces, &principal.namespace)),
            ("groups", self.groups.as_ref().is_none_or(in_group)),
            ("actions", self.actions.contains(&action)),
        ];
        conditions.into_iter().find_map(|(name, met)| (!met).then_some(name))
    }

    /// A call about all ENIs of an instance is allowed only by a rule for all, and forbidden by a
    /// rule for some.
    fn covers_interfaces(&self, request: &AccessRequest<'_>) -> bool {
        let Some(patterns) = &self.interfaces else {
            return true;
        };
        match (request.eni, self.effect) {
            (Some(eni), _) => any(patterns, eni.as_str()),
            (None, Effect::Forbid) => true,
            (None, Effect::Allow) => patterns.iter().any(Pattern::is_any),
        }
    }
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}
