//! The account's credentials: their sources and their refresh.
//!
//! The sources' names and order are the official SDKs' ([`chain`]); each has its file. [`cache`]
//! keeps credentials until they expire. Secrets are [`SecretString`]s, which `Debug` hides.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::signer::SigningKey;

pub mod cache;
pub mod chain;
mod cli_profile;
mod context;
mod ecs_role;
mod environment;
mod fetch;
mod oidc;
mod process;
mod role;
mod selected;
mod source;
mod sts;
mod uri;

pub use cache::Provider;
pub use chain::MissingCredentials;
pub use context::ProviderContext;
pub use fetch::FetchError;

/// One set of credentials.
#[derive(Clone)]
pub struct Credentials {
    access_key_id: String,
    access_key_secret: SecretString,
    security_token: Option<SecretString>,
    expiration: Option<Timestamp>,
}

impl Credentials {
    /// A permanent key.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: SecretString::from(access_key_secret.into()),
            security_token: None,
            expiration: None,
        }
    }

    /// Adds a session's token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.security_token = Some(SecretString::from(token.into()));
        self
    }

    /// Sets the expiry.
    #[must_use]
    pub fn until(mut self, expiration: Timestamp) -> Self {
        self.expiration = Some(expiration);
        self
    }

    /// The key's id, which is not secret.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The key.
    #[must_use]
    pub fn access_key_secret(&self) -> &SecretString {
        &self.access_key_secret
    }

    /// The session's token.
    #[must_use]
    pub fn security_token(&self) -> Option<&SecretString> {
        self.security_token.as_ref()
    }

    /// The parts that sign a call.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey<'_> {
        SigningKey {
            id: &self.access_key_id,
            secret: &self.access_key_secret,
            token: self.security_token.as_ref(),
        }
    }

    /// The texts that no log and no caller may receive.
    pub(in crate::ens) fn secrets(&self) -> impl Iterator<Item = &str> {
        let secrets = [Some(&self.access_key_secret), self.security_token.as_ref()];
        let secrets = secrets.into_iter().flatten().map(ExposeSecret::expose_secret);
        secrets.chain([self.access_key_id.as_str()])
    }

    /// The session's expiry; `None`: never.
    #[must_use]
    pub fn expiration(&self) -> Option<Timestamp> {
        self.expiration
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("session", &self.security_token.is_some())
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let shown =
            format!("{:?}", Credentials::new("LTAI5t", "the-secret").with_token("the-token"));
        assert!(shown.contains("LTAI5t"), "{shown}");
        assert!(!shown.contains("the-secret") && !shown.contains("the-token"), "{shown}");
    }
}
