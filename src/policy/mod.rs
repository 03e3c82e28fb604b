//! Rights of callers: who may do what, on which instances and ENIs.
//!
//! A policy is a list of rules in a file ([`Policy::parse`]). A call is allowed if a rule allows it
//! and no rule forbids it. Everything else is denied. A decision names its rule.

mod entries;
mod issuers;
mod parse;
mod pattern;
mod quotas;
mod request;
mod rule;
mod rules;
mod store;

pub use parse::InvalidPolicy;
pub use quotas::Quota;
pub use request::{AccessRequest, Action, Decision};
pub use rule::{Effect, Rule};
pub use rules::Policy;
pub use store::{PolicyStore, StoreError};

#[cfg(test)]
mod tests;
