//! The access keys of the simulator.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// The default key id.
pub const DEFAULT_ID: &str = "simulator-access-key-id";
/// The default secret, which is public.
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
    /// Its state.
    #[serde(default)]
    pub state: KeyState,
}

/// State of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Valid.
    #[default]
    Active,
    /// `InvalidAccessKeyId.Inactive`.
    Inactive,
    /// `InvalidSecurityToken.Expired`.
    Expired,
}

impl AccessKey {
    /// A permanent key.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into().into(), token: None, state: KeyState::Active }
    }

    /// Makes it a temporary key with this token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into().into());
        self
    }

    /// The key in the official SDKs' variables; `None` unless both id and secret are set.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let of = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let key =
            Self::new(of("ALIBABA_CLOUD_ACCESS_KEY_ID")?, of("ALIBABA_CLOUD_ACCESS_KEY_SECRET")?);
        Some(match of("ALIBABA_CLOUD_SECURITY_TOKEN") {
            Some(token) => key.with_token(token),
            None => key,
        })
    }

    /// Whether its id or its secret is empty.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.id.is_empty() || self.secret().is_empty()
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.expose_secret().as_bytes()
    }

    pub(super) fn token(&self) -> Option<&[u8]> {
        self.token.as_ref().map(|token| token.expose_secret().as_bytes())
    }
}

impl Default for AccessKey {
    /// The documented default key.
    fn default() -> Self {
        Self::new(DEFAULT_ID, DEFAULT_SECRET)
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn some_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
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
