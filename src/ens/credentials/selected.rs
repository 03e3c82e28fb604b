//! The selected source of credentials.

use std::fmt;

use jiff::Timestamp;

use super::Credentials;
use super::cli_profile::CliProfile;
use super::fetch::{FetchError, Http};
use super::source::Source;

/// A source that stays, or the profile file, which may name another source at each fetch.
#[derive(Debug)]
pub(super) enum Selected {
    Source(Source),
    CliProfile(CliProfile),
}

impl Selected {
    pub(super) async fn fetch(
        &self,
        http: &Http,
        now: Timestamp,
    ) -> Result<Credentials, FetchError> {
        match self {
            Self::Source(source) => source.fetch(http, now).await,
            Self::CliProfile(profile) => {
                let fetched = profile.source()?.fetch(http, now).await;
                fetched.map_err(|error| error.at(profile))
            }
        }
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(f),
            Self::CliProfile(profile) => profile.fmt(f),
        }
    }
}
