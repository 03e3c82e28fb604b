//! Merges the sources and reads every value, collecting all faults.

use std::path::PathBuf;

use super::fault::{Fault, Faults, Origins, SettingOrigin};
use super::reader::Reader;
use super::setting::Given;
use super::settings::{self, Config};
use super::{check, environment, file};

/// The sources of settings.
#[derive(Debug, Default)]
pub struct Sources {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// All variables of the environment.
    pub environment: Vec<(String, String)>,
    /// Command-line flags that set settings.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// This process's environment, and this file.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        // A name or value that is not UTF-8 is of another program, or fails its type's parser.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment =
            std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Self { file, environment, flags: Vec::new() }
    }

    /// Adds a flag, if it was given.
    #[must_use]
    pub fn flag(mut self, name: &str, path: &str, value: Option<impl ToString>) -> Self {
        let flag = value.map(|value| Flag {
            name: name.to_owned(),
            path: path.to_owned(),
            value: value.to_string(),
        });
        self.flags.extend(flag);
        self
    }
}

/// A flag that sets a setting.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its name, such as `--listen`.
    pub name: String,
    /// The setting, such as `grpc.listen`.
    pub path: String,
    /// Its value.
    pub value: String,
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The sources of all values that are not defaults.
    pub origins: Origins,
    /// Warnings about permitted settings.
    pub warnings: Vec<String>,
}

/// Reads all sources, checks every value, then the relations between them.
///
/// # Errors
/// Every fault, not only the first. A relation is checked only if all its settings were readable.
pub fn load(sources: Sources) -> Result<Loaded, Faults> {
    let (loaded, faults) = read(sources);
    if faults.0.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// As [`load`], but returns the settings beside their faults. A stand-in replaces each value
/// that could not be read, so the settings are only to be shown.
#[must_use]
pub fn read(sources: Sources) -> (Loaded, Faults) {
    let mut reader = Reader::default();
    if let Some(path) = &sources.file {
        let given = file::read(path, &mut reader.faults);
        reader.lay(given);
    }
    let proxy_variable = environment::proxy_variable(&sources.environment);
    let given = environment::read(sources.environment, &mut reader.faults);
    reader.lay(given);
    let given = of_flags(sources.flags, &mut reader.faults);
    reader.lay(given);

    let config = Config::read(&mut reader);
    let origins =
        Origins(reader.given.into_iter().map(|(path, given)| (path, given.origin)).collect());
    let relations = check::faults(&config, &origins, &|path| reader.unread.contains(&path));
    reader.faults.extend(relations);
    let warnings = check::warnings(&config, proxy_variable.as_deref());
    (Loaded { config, origins, warnings }, Faults(reader.faults))
}

impl Faults {
    /// Whether nothing is wrong but that settings without a default are not set.
    #[must_use]
    pub fn only_unset(&self) -> bool {
        let is_unset = |fault: &Fault| {
            fault.origin.is_none()
                && settings::find(&fault.subject).is_some_and(|setting| setting.default.is_empty())
        };
        self.0.iter().all(is_unset)
    }
}

fn of_flags(flags: Vec<Flag>, faults: &mut Vec<Fault>) -> Vec<Given> {
    let mut given = Vec::new();
    for flag in flags {
        match settings::find(&flag.path) {
            Some(setting) => given.push(Given {
                setting,
                text: flag.value,
                origin: SettingOrigin::Flag(flag.name),
            }),
            None => faults.push(
                Fault::new(
                    flag.path,
                    "no such setting",
                    "`eni-gateway config dump` lists all settings",
                )
                .from(SettingOrigin::Flag(flag.name)),
            ),
        }
    }
    given
}
