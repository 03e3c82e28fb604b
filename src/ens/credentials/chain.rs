//! Selection of the source, in the official SDKs' order: environment, OIDC (RRSA), CLI profile, ECS
//! role, credentials URI.
//!
//! The first source that is *set up* is used for the life of the process. The official chains try
//! the next source when one fails. Here a short outage of STS would then change the identity of
//! calls. Only the ECS role, which needs no setting, is probed first.

use super::Provider;
use super::cli_profile::CliProfile;
use super::context::{ProviderContext, SkipReason};
use super::ecs_role::EcsRole;
use super::environment::Environment;
use super::fetch::Http;
use super::oidc::Oidc;
use super::role::AssumedRole;
use super::selected::Selected;
use super::source::Source;
use super::uri::Uri;
use crate::ens::transport;

/// No source is set up; the list of all that were tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no source of credentials is configured")]
pub struct MissingCredentials {
    tried: Vec<(&'static str, String)>,
}

impl MissingCredentials {
    /// The remedy, and for each source in order why it was skipped.
    #[must_use]
    pub fn remedy(&self) -> String {
        let what = "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or bind the service account to a RAM \
                    role (tried, in this order:";
        let tried = self.tried.iter().map(|(source, why)| format!("\n      {source}: {why}"));
        format!("{what}{})", tried.collect::<String>())
    }
}

impl Provider {
    /// The first source that is set up. The metadata service may be absent, so this takes up to
    /// 3 s.
    ///
    /// # Errors
    /// No source is set up, or no HTTP client can be built.
    pub async fn discover(context: &ProviderContext) -> Result<Self, DiscoverError> {
        let client = |proxy| {
            transport::client(transport::ConnectionBounds::default(), proxy)
                .map_err(DiscoverError::Client)
        };
        let http = Http { direct: client(None)?, sts: client(context.proxy())? };
        let mut tried = Vec::new();
        let mut skip = |name: &'static str, skipped: SkipReason| {
            if skipped.broken {
                tracing::warn!(
                    source = name,
                    why = skipped.why,
                    "a source of credentials is incomplete, and skipped"
                );
            }
            tried.push((name, skipped.why));
        };
        let select = |selected| Ok(Self::new(selected, http.clone(), context.clock()));
        let use_it = |source| select(Selected::Source(source));
        match of_environment(context) {
            Ok(source) => return use_it(source),
            Err(skipped) => skip("environment", skipped),
        }
        match Oidc::find(context) {
            Ok(source) => return use_it(Source::Oidc(source)),
            Err(skipped) => skip("OIDC (RRSA)", skipped),
        }
        match CliProfile::find(context) {
            Ok(profile) => return select(Selected::CliProfile(profile)),
            Err(skipped) => skip("CLI profile", skipped),
        }
        match EcsRole::find(context) {
            Ok(source) if source.is_named() => return use_it(Source::EcsRole(source)),
            Ok(source) => match source.fetch(&http.direct).await {
                Ok(_) => return use_it(Source::EcsRole(source)),
                Err(error) => skip("ECS role", SkipReason::absent(error.to_string())),
            },
            Err(skipped) => skip("ECS role", skipped),
        }
        match Uri::find(context) {
            Ok(source) => return use_it(Source::Uri(source)),
            Err(skipped) => skip("credentials URI", skipped),
        }
        Err(DiscoverError::Missing(MissingCredentials { tried }))
    }
}

/// The key in the environment, or the role that it assumes.
fn of_environment(context: &ProviderContext) -> Result<Source, SkipReason> {
    let key = Source::Environment(Environment::find(context)?);
    Ok(match AssumedRole::of_environment(context)? {
        Some(role) => Source::Assumed(role, Box::new(key)),
        None => key,
    })
}

/// A reason why there is no credentials provider.
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
    /// The remedy.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Missing(missing) => missing.remedy(),
            Self::Client(_) => {
                "install CA certificates, or set SSL_CERT_FILE to a CA bundle".to_owned()
            }
        }
    }
}
