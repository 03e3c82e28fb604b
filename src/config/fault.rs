//! Faults of the configuration: setting, source and remedy.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The table of defaults.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line, by its name.
    Flag(String),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The sources of the values.
#[derive(Debug, Clone, Default)]
pub struct Origins(pub(super) BTreeMap<&'static str, SettingOrigin>);

impl Origins {
    /// The source of this setting.
    #[must_use]
    pub fn of(&self, path: &str) -> &SettingOrigin {
        self.0.get(path).unwrap_or(&SettingOrigin::Default)
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The subject: settings, a variable or a file.
    pub subject: String,
    /// The source, if the subject does not show it.
    pub origin: Option<SettingOrigin>,
    /// The problem, without secrets.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
}

impl Fault {
    /// A fault without an origin.
    pub fn new(
        subject: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            origin: None,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Sets the source.
    #[must_use]
    pub fn from(mut self, origin: SettingOrigin) -> Self {
        self.origin = Some(origin);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// Every fault. It is never empty when returned as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Whether a fault's subject has this text, such as the beginning of settings' names.
    #[must_use]
    pub fn mention(&self, part: &str) -> bool {
        self.0.iter().any(|fault| fault.subject.contains(part))
    }

    /// The fault of this setting's value, if it could not be read.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<&Fault> {
        self.0.iter().find(|fault| fault.subject == path)
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has 1 fault:")?,
            count => write!(f, "the configuration has {count} faults:")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}
