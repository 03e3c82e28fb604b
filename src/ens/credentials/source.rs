//! The selected source of credentials.

use std::fmt;

use jiff::Timestamp;
use reqwest::Client;

use super::cli_profile::CliProfile;
use super::ecs_role::EcsRole;
use super::environment::Environment;
use super::oidc::Oidc;
use super::uri::Uri;
use super::{Credentials, FetchError};

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
    pub(super) async fn fetch(
        &self,
        http: &Client,
        now: Timestamp,
    ) -> Result<Credentials, FetchError> {
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
