//! The access keys that the simulator knows.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// The key id of a simulator that was given none.
pub const DEFAULT_ID: &str = "simulator-access-key-id";
/// The secret of a simulator that was given none: no secret at all.
pub const DEFAULT_SECRET: &str = "simulator-access-key-secret";

/// One access key.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    #[serde(deserialize_with = "secret")]
    pub secret: SecretString,
    /// The security token that must come with a temporary key.
    #[serde(default, deserialize_with = "some_secret")]
    pub token: Option<SecretString>,
    /// In what state ENS holds it.
    #[serde(default)]
    pub state: KeyState,
}

/// Whether a key works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It does.
    #[default]
    Active,
    /// `InvalidAccessKeyId.Inactive`.
    Inactive,
    /// `InvalidSecurityToken.Expired`.
    Expired,
}

impl AccessKey {
    /// A key for good.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into().into(),
            token: None,
            state: KeyState::Active,
        }
    }

    /// The same as a temporary key with this token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into().into());
        self
    }

    /// The key in the variables that the official SDKs read; `None` unless both id and secret are there.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let of = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let key = Self::new(
            of("ALIBABA_CLOUD_ACCESS_KEY_ID")?,
            of("ALIBABA_CLOUD_ACCESS_KEY_SECRET")?,
        );
        Some(match of("ALIBABA_CLOUD_SECURITY_TOKEN") {
            Some(token) => key.with_token(token),
            None => key,
        })
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.expose_secret().as_bytes()
    }

    pub(super) fn token(&self) -> Option<&[u8]> {
        self.token.as_ref().map(|token| token.expose_secret().as_bytes())
    }
}

impl Default for AccessKey {
    /// The documented key of a simulator that was given none.
    fn default() -> Self {
        Self::new(DEFAULT_ID, DEFAULT_SECRET)
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn some_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    secret(deserializer).map(Some)
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
