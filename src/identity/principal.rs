//! Principals.

use super::jwks::KeyPrint;
use crate::model::Caller;

/// A caller that the gateway has identified, or [`Principal::anonymous`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name by which policies, request ids, shares and audit lines know the caller:
    /// `spiffe://DOMAIN/PATH`, `dns:NAME`, `ALIAS:SUBJECT` of a token, or `anonymous`.
    pub name: Caller,
    /// The source of the name.
    pub kind: Kind,
    /// The authority behind the name: the trust domain of a SPIFFE id, the alias of a token's
    /// issuer. Else empty.
    pub issuer: String,
    /// The Kubernetes namespace, of a SPIFFE id with the path `/ns/NAMESPACE/sa/NAME` or a token of
    /// a service account; else empty.
    pub namespace: String,
    /// The groups of the caller, from a token. Certificates name none.
    pub groups: Vec<String>,
    /// Unix time at which the credentials expire; `None` without credentials.
    pub expires: Option<i64>,
    /// The issuer's key that verified the token. Certificates have none.
    pub key: Option<KeyPrint>,
}

/// The source of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No credentials.
    Anonymous,
    /// The SPIFFE id of a client certificate.
    Spiffe,
    /// The DNS name of a client certificate.
    Dns,
    /// The subject of a bearer token.
    Token,
}

impl Kind {
    /// The kinds that a policy can name.
    pub const ALL: [Self; 3] = [Self::Spiffe, Self::Dns, Self::Token];

    /// The name in policies and audit lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Spiffe => "spiffe",
            Self::Dns => "dns",
            Self::Token => "token",
        }
    }
}

/// Why a caller cannot be identified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There are no credentials.
    #[error("the call has no credentials")]
    Missing,
    /// The client certificate names no usable identity.
    #[error("the client certificate {0}")]
    Certificate(&'static str),
    /// The token is not accepted.
    #[error("the token {0}")]
    Token(&'static str),
    /// The text is no name of a principal.
    #[error("begins with none of spiffe://, dns: and the alias of an issuer")]
    Form,
}

impl Principal {
    /// The caller without an identity.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: Caller::anonymous(),
            kind: Kind::Anonymous,
            issuer: String::new(),
            namespace: String::new(),
            groups: Vec::new(),
            expires: None,
            key: None,
        }
    }

    /// Whether the credentials have expired at `now`, a Unix time.
    #[must_use]
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
