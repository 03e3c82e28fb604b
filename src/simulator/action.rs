//! The calls of the OpenAPI that the simulator answers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The API version that `x-acs-version` must have.
pub const VERSION: &str = "2017-11-10";

/// One call, by ENS's own name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "ENS's own words")]
pub enum Action {
    AttachNetworkInterface,
    DetachNetworkInterface,
    DescribeNetworkInterfaces,
    DescribeInstances,
    StopInstance,
    StartInstance,
}

impl Action {
    /// Every call.
    pub const ALL: [Self; 6] = [
        Self::AttachNetworkInterface,
        Self::DetachNetworkInterface,
        Self::DescribeNetworkInterfaces,
        Self::DescribeInstances,
        Self::StopInstance,
        Self::StartInstance,
    ];

    /// The call of this name; `None` for an unknown one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// ENS's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttachNetworkInterface => "AttachNetworkInterface",
            Self::DetachNetworkInterface => "DetachNetworkInterface",
            Self::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Self::DescribeInstances => "DescribeInstances",
            Self::StopInstance => "StopInstance",
            Self::StartInstance => "StartInstance",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
