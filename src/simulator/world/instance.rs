//! An edge instance.

use serde::{Deserialize, Serialize};

/// The status in which an instance takes and gives ENIs.
pub const STOPPED: &str = "Stopped";
/// The status of an instance that runs.
pub const RUNNING: &str = "Running";

/// An instance. Also its form in a world file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// `Stopped` (default), `Running`, or any other word.
    #[serde(default = "stopped")]
    pub status: String,
    /// Its network.
    #[serde(default = "super::default_network")]
    pub network: String,
    /// Its node.
    #[serde(default = "super::default_region")]
    pub region: String,
    /// Whether it takes ENIs at all (yes).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub supported: bool,
    /// Whether the account may attach to it and detach from it (yes).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub permitted: bool,
}

impl Instance {
    /// A stopped one in the default network.
    pub fn stopped(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: stopped(),
            network: super::default_network(),
            region: super::default_region(),
            supported: true,
            permitted: true,
        }
    }
}

fn stopped() -> String {
    STOPPED.to_owned()
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_true(value: &bool) -> bool {
    *value
}
