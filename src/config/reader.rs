//! Parses each setting from its topmost source, and collects the faults.

use std::collections::BTreeMap;

use super::fault::{Fault, SettingOrigin};
use super::setting::{Given, Setting};
use super::value::Value;

/// The given values, the last source on top, and their faults.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) given: BTreeMap<&'static str, Given>,
    pub(super) unread: Vec<&'static str>,
    pub(super) faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn lay(&mut self, given: Vec<Given>) {
        self.given.extend(given.into_iter().map(|given| (given.setting.path, given)));
    }

    /// The value of one setting. An unreadable one adds a fault, and a stand-in is returned.
    pub(super) fn read<T: Value>(&mut self, setting: &'static Setting) -> T {
        let (text, origin) = match self.given.get(setting.path) {
            Some(given) => (given.text.as_str(), given.origin.clone()),
            None => (setting.default, SettingOrigin::Default),
        };
        match T::parse(text) {
            Ok(value) => value,
            Err(problem) => {
                self.unread.push(setting.path);
                self.faults.push(match (origin, setting.default) {
                    (SettingOrigin::Default, _) => {
                        let remedy = format!(
                            "set it, or {}, to a value such as {}",
                            setting.env_name(),
                            T::EXAMPLE
                        );
                        Fault::new(setting.path, problem, remedy)
                    }
                    (origin, "") => {
                        let remedy = format!("set a value such as {}", T::EXAMPLE);
                        Fault::new(setting.path, problem, remedy).from(origin)
                    }
                    (origin, default) => {
                        let remedy = format!("set a value such as {default}, the default");
                        Fault::new(setting.path, problem, remedy).from(origin)
                    }
                });
                T::parse(T::EXAMPLE).expect("examples parse")
            }
        }
    }
}
