//! Lays the sources over one another and reads every value, collecting what is wrong instead of stopping at it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::check;
use super::fault::{Fault, Faults, Origin};
use super::settings::{self, ALL, Config, Setting};
use super::value::Value;
use super::{environment, file};

/// Where settings come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The TOML file, if one was named.
    pub file: Option<PathBuf>,
    /// Variables of the environment: all of them, settings or not.
    pub environment: Vec<(String, String)>,
    /// Flags of the command line that stand for settings.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The process' own environment, and this file.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        // A name or value that is no UTF-8 is not ours, or is refused by its type in this form.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os()
            .map(|(name, value)| (lossy(name), lossy(value)))
            .collect();
        Self {
            file,
            environment,
            flags: Vec::new(),
        }
    }

    /// With this flag, if it was given.
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

/// A flag that stands for a setting.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As it is typed, such as `--listen`.
    pub name: String,
    /// The setting, such as `grpc.listen`.
    pub path: String,
    /// Its value.
    pub value: String,
}

/// A configuration without faults.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each value that is no default came from.
    pub origins: Origins,
    /// What is allowed but worth saying once.
    pub warnings: Vec<String>,
}

/// Where the values came from.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    /// Where the setting of this path came from.
    #[must_use]
    pub fn of(&self, path: &str) -> &Origin {
        self.0.get(path).unwrap_or(&Origin::Default)
    }
}

/// One value that a source gave.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Reads all sources, checks every value, and then what must be true of them together.
///
/// # Errors
/// Everything that is wrong, not only the first. A relation is judged only where each of its settings could be read.
pub fn load(sources: Sources) -> Result<Loaded, Faults> {
    let mut reader = Reader::default();
    if let Some(path) = &sources.file {
        let given = file::read(path, &mut reader.faults);
        reader.lay(given);
    }
    let given = environment::read(sources.environment, &mut reader.faults);
    reader.lay(given);
    let given = of_flags(sources.flags, &mut reader.faults);
    reader.lay(given);

    let config = Config::read(&mut reader);
    let origins = Origins(
        reader
            .given
            .into_iter()
            .map(|(path, given)| (path, given.origin))
            .collect(),
    );
    let relations = check::faults(&config, &origins, &|path| reader.unread.contains(&path));
    reader.faults.extend(relations);
    if reader.faults.is_empty() {
        let warnings = check::warnings(&config);
        Ok(Loaded {
            config,
            origins,
            warnings,
        })
    } else {
        Err(Faults(reader.faults))
    }
}

fn of_flags(flags: Vec<Flag>, faults: &mut Vec<Fault>) -> Vec<Given> {
    let mut given = Vec::new();
    for flag in flags {
        match settings::find(&flag.path) {
            Some(setting) => given.push(Given {
                setting,
                text: flag.value,
                origin: Origin::Flag(flag.name),
            }),
            None => faults.push(
                Fault::new(
                    flag.path,
                    "no such setting",
                    "`eni-gateway config dump` lists all settings",
                )
                .from(Origin::Flag(flag.name)),
            ),
        }
    }
    given
}

/// The setting whose name looks most like the given one, if any does.
pub(super) fn nearest(name: &str, name_of: impl Fn(&Setting) -> String) -> Option<&'static Setting> {
    const FAR: usize = 4;
    // Names are short; a long one is no typing error, and comparing it would take time.
    if name.len() > 100 {
        return None;
    }
    ALL.iter()
        .map(|setting| (strsim::damerau_levenshtein(name, &name_of(setting)), setting))
        .filter(|(distance, _)| *distance < FAR)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, setting)| setting)
}

/// The values that were given, the last source on top, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    given: BTreeMap<&'static str, Given>,
    unread: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Reader {
    fn lay(&mut self, given: Vec<Given>) {
        self.given
            .extend(given.into_iter().map(|given| (given.setting.path, given)));
    }

    /// The value of one setting. Where it cannot be read, a fault is noted and another value stands in.
    pub(super) fn read<T: Value>(&mut self, path: &str) -> T {
        let setting = settings::find(path).expect("fields and settings are made from the same table");
        let (text, origin) = match self.given.get(setting.path) {
            Some(given) => (given.text.as_str(), given.origin.clone()),
            None => (setting.default, Origin::Default),
        };
        match T::parse(text) {
            Ok(value) => value,
            Err(problem) => {
                self.unread.push(setting.path);
                self.faults.push(match origin {
                    Origin::Default => {
                        let remedy = format!("set it, or {}, to a value such as {}", setting.env_name(), T::EXAMPLE);
                        Fault::new(setting.path, problem, remedy)
                    }
                    origin => {
                        Fault::new(setting.path, problem, format!("give a value such as {}", T::EXAMPLE)).from(origin)
                    }
                });
                T::parse(T::EXAMPLE).expect("examples parse")
            }
        }
    }
}
