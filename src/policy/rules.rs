//! The rules of a policy, and how they decide.

use super::quotas::{Quota, QuotaRule};
use super::request::{AccessRequest, Action, Decision};
use super::rule::{Effect, Rule};
use crate::identity::token::IssuerSettings;
use crate::identity::{Kind, Principal};
use crate::model::Caller;

/// The rules of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(super) trust_domains: Vec<String>,
    pub(super) issuers: Vec<IssuerSettings>,
    /// First those that forbid. Both in the file's order.
    pub(super) rules: Vec<Rule>,
    pub(super) quotas: Vec<QuotaRule>,
}

impl Policy {
    /// Decides on a call. The first matching rule that forbids wins, then the first that allows.
    /// No rule allows anything to a caller without an identity, or of a trust domain or an issuer
    /// that is not listed.
    #[must_use]
    pub fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        if !self.knows(request.principal) {
            return Decision::NotAllowed;
        }
        let matching = self.rules.iter().find(|rule| rule.unmet(request).is_none());
        match matching {
            None => Decision::NotAllowed,
            Some(rule) => match rule.effect {
                Effect::Forbid => Decision::Forbidden(rule.id.clone()),
                Effect::Allow => Decision::Allowed(rule.id.clone()),
            },
        }
    }

    /// Decides on a call for all instances, whose answer has those that [`Policy::decide`] allows.
    /// A rule that forbids the action for every instance decides, or else the first one that allows
    /// it for any.
    #[must_use]
    pub fn decide_fleet(&self, principal: &Principal, action: Action) -> Decision {
        if !self.knows(principal) {
            return Decision::NotAllowed;
        }
        if let Some(rule) = self.rules.iter().find(|rule| rule.forbids_all(principal, action)) {
            return Decision::Forbidden(rule.id.clone());
        }
        let allowing = self.rules.iter().find(|rule| rule.allows_some(principal, action));
        allowing.map_or(Decision::NotAllowed, |rule| Decision::Allowed(rule.id.clone()))
    }

    fn knows(&self, principal: &Principal) -> bool {
        match principal.kind {
            Kind::Anonymous => false,
            Kind::Spiffe => self.trust_domains.contains(&principal.issuer),
            Kind::Dns => true,
            Kind::Token => self.issuers.iter().any(|it| it.alias == principal.issuer),
        }
    }

    /// The rules, in the order in which [`Policy::decide`] tries them.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The quota of this caller: the first in the file that is for it.
    #[must_use]
    pub fn quota(&self, caller: &Caller) -> Option<&Quota> {
        self.quotas.iter().find(|rule| rule.is_for(&caller.0)).map(|rule| &rule.quota)
    }

    /// The issuers whose tokens are accepted.
    #[must_use]
    pub fn issuers(&self) -> &[IssuerSettings] {
        &self.issuers
    }

    /// The trust domains whose SPIFFE ids are accepted.
    #[must_use]
    pub fn trust_domains(&self) -> &[String] {
        &self.trust_domains
    }
}
