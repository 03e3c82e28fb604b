//! Settings of the ENS client.

use std::time::Duration;

use url::Url;

/// The ENS client's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The OpenAPI's scheme, host and port. Default `https://ens.aliyuncs.com`.
    pub endpoint: Url,
    /// An HTTP proxy that tunnels to an `https://` endpoint. Default none.
    pub proxy: Option<Url>,
    /// Timeout of one Attach call, from DNS to the last byte of the answer. Default 8 s.
    pub attempt_timeout: Duration,
    /// Timeout of one describe, likewise. Default 3 s.
    pub describe_timeout: Duration,
    /// Request validity: how long after its signature an unanswered request may be applied. Default
    /// 30 s.
    pub request_validity: Duration,
    /// Whether ENS shall enforce that bound: `x-acs-date` is set back, so that it expires 15
    /// minutes later. Default false.
    pub enforce_validity: bool,
    /// `User-Agent`.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: Url::parse("https://ens.aliyuncs.com")
                .expect("the default endpoint is a URL"),
            proxy: None,
            attempt_timeout: Duration::from_secs(8),
            describe_timeout: Duration::from_secs(3),
            request_validity: Duration::from_secs(30),
            enforce_validity: false,
            user_agent: concat!("eni-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A reason why no client can be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The endpoint is not exactly scheme, host and port.
    #[error(
        "ens.endpoint must be http:// or https:// with a host, without path, query and user: {0}"
    )]
    Endpoint(String),
    /// The request validity is as long as ENS's window, so no date can enforce it.
    #[error("ens.request_validity must be below 15 minutes")]
    Validity,
    /// The HTTP client cannot be built, for example without CA certificates.
    #[error(
        "the http client cannot be built: {0}; install CA certificates, or set SSL_CERT_FILE \
        to a CA bundle"
    )]
    Client(String),
}
