//! Credentials from a URL, such as a sidecar's.

use std::time::Duration;

use reqwest::Client;
use url::Url;

use super::Credentials;
use super::context::{ProviderContext, SkipReason};
use super::fetch::{FetchError, Session, ok_text};
use crate::ens::redaction::Redaction;

const URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
const TIMEOUT: Duration = Duration::from_secs(5);

/// `ALIBABA_CLOUD_CREDENTIALS_URI`.
#[derive(Debug)]
pub(super) struct Uri {
    url: Url,
}

impl Uri {
    pub(super) fn find(context: &ProviderContext) -> Result<Self, SkipReason> {
        let text =
            context.var(URI).ok_or_else(|| SkipReason::absent(format!("{URI} is not set")))?;
        Self::parse(&text, URI).map_err(SkipReason::broken)
    }

    /// The URI in this text, which the setting `name` has.
    pub(super) fn parse(text: &str, name: &str) -> Result<Self, String> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Self { url }),
            // The text may hold a secret, so it is not repeated.
            _ => Err(format!("{name} is not an http:// or https:// URL")),
        }
    }

    /// The URI without path and query, which may hold a secret.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The parts of the URL that may hold a secret.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let path = self.url.path_segments().into_iter().flatten();
        path.chain(self.url.query()).chain(self.url.password())
    }

    pub(super) async fn fetch(&self, http: &Client) -> Result<Credentials, FetchError> {
        let text = ok_text(http.get(self.url.clone()), TIMEOUT).await;
        text.and_then(|text| Session::parse(&text))
            .and_then(Session::credentials)
            .map_err(|error| error.at(self.origin()))
            .map_err(|error| error.without(&Redaction::of(self.secrets())))
    }
}
