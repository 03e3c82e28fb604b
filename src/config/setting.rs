//! A setting: its names, default and documentation.

use super::fault::SettingOrigin;

/// Prefix of every variable that is a setting.
pub(super) const ENV_PREFIX: &str = "ENI_GATEWAY_";

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its section, such as `grpc`.
    pub section: &'static str,
    /// Its key in the section, such as `listen`.
    pub key: &'static str,
    /// `section.key`.
    pub path: &'static str,
    /// Its default as text; empty if it has none.
    pub default: &'static str,
    /// Its documentation.
    pub doc: &'static [&'static str],
}

impl Setting {
    /// Its name in the environment.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}__{}", self.section, self.key).to_ascii_uppercase()
    }
}

/// A value from a source.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) origin: SettingOrigin,
}
