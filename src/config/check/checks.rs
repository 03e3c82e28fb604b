//! Shared by all checks: requirements on settings.

use std::time::Duration;

use crate::config::fault::{Fault, Origins, SettingOrigin};
use crate::config::settings;

/// The faults so far, and the data for checks.
pub(super) struct Checks<'a> {
    pub(super) origins: &'a Origins,
    pub(super) unread: &'a dyn Fn(&str) -> bool,
    pub(super) faults: Vec<Fault>,
}

impl Checks<'_> {
    /// Adds a fault unless the requirement holds.
    pub(super) fn require(
        &mut self,
        paths: &[&'static str],
        holds: bool,
        problem: impl FnOnce() -> String,
        remedy: &str,
    ) {
        debug_assert!(
            paths.iter().all(|path| settings::find(path).is_some()),
            "{paths:?} are settings"
        );
        if holds || paths.iter().any(|path| (self.unread)(path)) {
            return;
        }
        let named = paths.iter().map(|path| match self.origins.of(path) {
            SettingOrigin::Default if paths.len() == 1 => (*path).to_owned(),
            origin => format!("{path} ({origin})"),
        });
        self.faults.push(Fault::new(named.collect::<Vec<_>>().join(", "), problem(), remedy));
    }
}

pub(super) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
