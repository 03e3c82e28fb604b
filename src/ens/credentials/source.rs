//! A source of credentials that is set up.

use std::fmt;

use jiff::Timestamp;

use super::Credentials;
use super::ecs_role::EcsRole;
use super::environment::Environment;
use super::fetch::{FetchError, Http};
use super::oidc::Oidc;
use super::process::Process;
use super::role::AssumedRole;
use super::uri::Uri;

/// A source that is set up.
#[derive(Debug)]
pub(super) enum Source {
    Fixed(Credentials),
    Environment(Environment),
    Oidc(Oidc),
    EcsRole(EcsRole),
    Uri(Uri),
    Process(Process),
    /// A role that another source's credentials assume, which may be a role, too.
    Assumed(AssumedRole, Box<Source>),
}

impl Source {
    pub(super) async fn fetch(
        &self,
        http: &Http,
        now: Timestamp,
    ) -> Result<Credentials, FetchError> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::Environment(source) => source.fetch(),
            Self::Oidc(source) => source.fetch(http, now).await,
            Self::EcsRole(source) => source.fetch(&http.direct).await,
            Self::Uri(source) => source.fetch(&http.direct).await,
            Self::Process(source) => source.fetch().await,
            Self::Assumed(role, by) => {
                let by = Box::pin(by.fetch(http, now)).await?;
                role.fetch(http, &by, now).await
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("fixed"),
            Self::Environment(_) => f.write_str("environment variables"),
            Self::Oidc(source) => write!(f, "OIDC (RRSA), role {}", source.role()),
            Self::EcsRole(_) => f.write_str("ECS role"),
            Self::Uri(source) => write!(f, "credentials URI at {}", source.origin()),
            Self::Process(source) => write!(f, "the program {:?}", source.name()),
            Self::Assumed(role, by) => write!(f, "{by}, which assume role {}", role.arn()),
        }
    }
}
