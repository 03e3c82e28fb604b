//! An edge instance.

use serde::{Deserialize, Serialize};

/// The status in which ENIs can be attached and detached.
pub const STOPPED: &str = "Stopped";
/// The status of a running instance.
pub const RUNNING: &str = "Running";
/// The known statuses.
const STATUSES: &[&str] =
    &["Pending", "Starting", RUNNING, "Rebooting", "Stopping", STOPPED, "Expired", "Releasing"];

/// An instance, also in a world file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// `Stopped` (default), `Running`, or another status of ENS.
    #[serde(default = "stopped")]
    pub status: String,
    /// Its network.
    #[serde(default = "super::defaults::network")]
    pub network: String,
    /// Its node.
    #[serde(default = "super::defaults::region")]
    pub region: String,
    /// Whether it supports ENIs (yes).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub supported: bool,
    /// Whether the account may attach and detach (yes).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub permitted: bool,
}

impl Instance {
    /// A stopped instance in the default network.
    pub fn stopped(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: stopped(),
            network: super::defaults::network(),
            region: super::defaults::region(),
            supported: true,
            permitted: true,
        }
    }
}

/// The problem with a status that ENS does not have.
pub(in crate::simulator) fn status_fault(status: &str) -> Option<String> {
    (!STATUSES.contains(&status))
        .then(|| format!("unknown status {status:?}: use one of {}", STATUSES.join(", ")))
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
