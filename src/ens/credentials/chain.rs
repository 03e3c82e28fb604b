//! Which source it is: environment, OIDC (RRSA), CLI profile, ECS role, credentials URI, in the official SDKs' order.
//!
//! The first one that is *set up* is used for the life of the process. The official chains fall through to the next source
//! also when one that is set up fails; here that would turn a short outage of STS into calls under another identity. Only the
//! ECS role, which needs no setting at all, is tried before it is believed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::Client;
use url::Url;

use super::cli_profile::CliProfile;
use super::ecs_role::EcsRole;
use super::environment::Environment;
use super::fetch::FetchError;
use super::oidc::Oidc;
use super::uri::Uri;
use super::{Credentials, Provider};
use crate::ens::clock::WallClock;
use crate::ens::transport;

/// Reads one environment variable.
pub type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where sources look.
#[derive(Clone)]
pub struct ProviderContext {
    variable: Variable,
    metadata: Url,
    clock: WallClock,
}

impl ProviderContext {
    /// This process's environment, and the metadata service of ECS.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(Arc::new(|name| std::env::var(name).ok()))
    }

    /// Other variables than the process's.
    #[must_use]
    pub fn new(variable: Variable) -> Self {
        let metadata = Url::parse("http://100.100.100.200/").expect("the metadata service's address is a URL");
        Self {
            variable,
            metadata,
            clock: WallClock::system(),
        }
    }

    /// Another metadata service.
    #[must_use]
    pub fn with_metadata(mut self, base: Url) -> Self {
        self.metadata = base;
        self
    }

    /// Another wall clock.
    #[must_use]
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    #[cfg(test)]
    pub(super) fn of(vars: &'static [(&'static str, &'static str)]) -> Self {
        Self::new(Arc::new(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        }))
    }

    /// A variable that is set and not empty, without the line's end that secrets like to be stored with.
    pub(super) fn var(&self, name: &str) -> Option<String> {
        (self.variable)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.var(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1"))
    }

    pub(super) fn metadata(&self) -> &Url {
        &self.metadata
    }
}

/// Why a source is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SkipReason {
    why: String,
    /// Somebody meant to set it up.
    broken: bool,
}

impl SkipReason {
    pub(super) fn absent(why: String) -> Self {
        Self { why, broken: false }
    }

    pub(super) fn broken(why: String) -> Self {
        Self { why, broken: true }
    }
}

/// No source is set up: all that was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no source of credentials is set up")]
pub struct MissingCredentials {
    tried: Vec<(&'static str, String)>,
}

impl MissingCredentials {
    /// What to do, and under it the sources in their order, each with why it was passed over.
    #[must_use]
    pub fn remedy(&self) -> String {
        let what = "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or bind the service account to a RAM \
                    role (tried, in this order:";
        let tried = self
            .tried
            .iter()
            .map(|(source, why)| format!("\n      {source}: {why}"));
        format!("{what}{})", tried.collect::<String>())
    }
}

/// A source that is set up.
#[derive(Debug)]
pub(super) enum Source {
    Fixed(Credentials),
    Environment(Environment),
    Oidc(Oidc),
    CliProfile(CliProfile),
    EcsRole(EcsRole),
    Uri(Uri),
}

impl Source {
    pub(super) async fn fetch(&self, http: &Client, now: Timestamp) -> Result<Credentials, FetchError> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::Environment(source) => source.fetch(),
            Self::Oidc(source) => source.fetch(http, now).await,
            Self::CliProfile(source) => source.fetch(),
            Self::EcsRole(source) => source.fetch(http).await,
            Self::Uri(source) => source.fetch(http).await,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("fixed"),
            Self::Environment(_) => f.write_str("environment variables"),
            Self::Oidc(source) => write!(f, "OIDC (RRSA), role {}", source.role()),
            Self::CliProfile(source) => write!(f, "CLI profile in {}", source.file().display()),
            Self::EcsRole(_) => f.write_str("ECS role"),
            Self::Uri(source) => write!(f, "credentials URI at {}", source.origin()),
        }
    }
}

impl Provider {
    /// The first source that is set up. Takes 1 s at most, for the metadata service that may not be there.
    ///
    /// # Errors
    /// [`MissingCredentials`]: none is; and why no HTTP client can be built.
    pub async fn discover(surroundings: &ProviderContext) -> Result<Self, DiscoverError> {
        let http = transport::client(transport::Limits::default()).map_err(DiscoverError::Client)?;
        let mut tried = Vec::new();
        let mut skip = |name: &'static str, skipped: SkipReason| {
            if skipped.broken {
                tracing::warn!(
                    source = name,
                    why = skipped.why,
                    "a source of credentials is only half set up: passed over"
                );
            }
            tried.push((name, skipped.why));
        };
        let use_it = |source| Ok(Self::new(source, http.clone(), surroundings.clock.clone()));
        match Environment::find(surroundings) {
            Ok(source) => return use_it(Source::Environment(source)),
            Err(skipped) => skip("environment", skipped),
        }
        match Oidc::find(surroundings) {
            Ok(source) => return use_it(Source::Oidc(source)),
            Err(skipped) => skip("OIDC (RRSA)", skipped),
        }
        match CliProfile::find(surroundings) {
            Ok(source) => return use_it(Source::CliProfile(source)),
            Err(skipped) => skip("CLI profile", skipped),
        }
        match EcsRole::find(surroundings) {
            Ok(source) if source.is_named() => return use_it(Source::EcsRole(source)),
            Ok(source) => match source.fetch(&http).await {
                Ok(_) => return use_it(Source::EcsRole(source)),
                Err(error) => skip("ECS role", SkipReason::absent(error.to_string())),
            },
            Err(skipped) => skip("ECS role", skipped),
        }
        match Uri::find(surroundings) {
            Ok(source) => return use_it(Source::Uri(source)),
            Err(skipped) => skip("credentials URI", skipped),
        }
        Err(DiscoverError::Missing(MissingCredentials { tried }))
    }
}

/// Why there is no provider of credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// No source is set up.
    #[error(transparent)]
    Missing(#[from] MissingCredentials),
    /// The HTTP client cannot be built.
    #[error("the http client cannot be built: {0}")]
    Client(String),
}

impl DiscoverError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Missing(missing) => missing.remedy(),
            Self::Client(_) => "install CA certificates, or name a bundle of them in SSL_CERT_FILE".to_owned(),
        }
    }
}
