//! What is told of each call, for whoever measures.

use std::sync::Arc;
use std::time::Duration;

/// An operation of ENS that the gateway uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "ENS's own names")]
pub enum Action {
    AttachNetworkInterface,
    DescribeNetworkInterfaces,
    DescribeInstances,
}

impl Action {
    /// `x-acs-action`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttachNetworkInterface => "AttachNetworkInterface",
            Self::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Self::DescribeInstances => "DescribeInstances",
        }
    }
}

/// One call of ENS, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallReport {
    /// Which operation.
    pub action: Action,
    /// `ok`, `refused`, `denied` (the gateway's own key, signature, clock or right), `throttled`, `not_sent` or `unanswered`.
    pub outcome: &'static str,
    /// From signing to the last byte.
    pub duration: Duration,
}

/// Hears of every call.
pub type Observer = Arc<dyn Fn(CallReport) + Send + Sync>;
