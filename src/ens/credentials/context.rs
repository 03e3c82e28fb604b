//! The environment of the credentials' sources, and reasons to skip one.

use std::fmt;
use std::sync::Arc;

use url::Url;

use crate::ens::clock::WallClock;

/// Reads one environment variable.
type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The environment of the sources.
#[derive(Clone)]
pub struct ProviderContext {
    variable: Variable,
    metadata: Url,
    proxy: Option<Url>,
    clock: WallClock,
}

impl ProviderContext {
    /// This process's environment, and ECS's metadata service.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(Arc::new(|name| std::env::var(name).ok()))
    }

    /// An environment with these variables.
    #[must_use]
    pub fn new(variable: Variable) -> Self {
        let metadata =
            Url::parse("http://100.100.100.200/").expect("the metadata service's address is a URL");
        Self { variable, metadata, proxy: None, clock: WallClock::system() }
    }

    /// Sets another metadata service.
    #[must_use]
    pub fn with_metadata(mut self, base: Url) -> Self {
        self.metadata = base;
        self
    }

    /// Sets the proxy by which STS is reached.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Option<Url>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Sets another wall clock.
    #[must_use]
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    #[cfg(test)]
    pub(super) fn of(vars: &'static [(&'static str, &'static str)]) -> Self {
        Self::new(Arc::new(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }))
    }

    /// A variable that is set and not empty, without the line end that secret files often have.
    pub(super) fn var(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.var(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1"))
    }

    pub(super) fn metadata(&self) -> &Url {
        &self.metadata
    }

    pub(super) fn proxy(&self) -> Option<&Url> {
        self.proxy.as_ref()
    }

    pub(super) fn clock(&self) -> WallClock {
        self.clock.clone()
    }
}

impl fmt::Debug for ProviderContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderContext").finish_non_exhaustive()
    }
}

/// The reason to skip a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SkipReason {
    pub(super) why: String,
    /// Whether it is partly set up, so an operator meant to use it.
    pub(super) broken: bool,
}

impl SkipReason {
    pub(super) fn absent(why: String) -> Self {
        Self { why, broken: false }
    }

    pub(super) fn broken(why: String) -> Self {
        Self { why, broken: true }
    }
}
