//! What the ENS client needs to know.

use std::time::Duration;

use url::Url;

/// The ENS client's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The OpenAPI: scheme, host and port, nothing else. Default `https://ens.aliyuncs.com`.
    pub endpoint: Url,
    /// One Attach call, from DNS to the last byte of the answer. Default 8 s.
    pub attempt_timeout: Duration,
    /// One describe, likewise. Default 3 s.
    pub describe_timeout: Duration,
    /// B: how long after its signature an unanswered request may still be applied. Default 30 s.
    pub request_validity: Duration,
    /// Whether ENS itself shall keep that bound: `x-acs-date` is set back, so that it ends 15 minutes after it. Default false.
    pub enforce_validity: bool,
    /// `User-Agent`.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: Url::parse("https://ens.aliyuncs.com").expect("the default endpoint is a URL"),
            attempt_timeout: Duration::from_secs(8),
            describe_timeout: Duration::from_secs(3),
            request_validity: Duration::from_secs(30),
            enforce_validity: false,
            user_agent: concat!("eni-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Why no client can be built from the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The endpoint is more, or less, than scheme, host and port.
    #[error("ens.endpoint must be http:// or https:// with a host, and neither path, query nor user: {0}")]
    Endpoint(String),
    /// B is as long as ENS's own window, so that no date could keep it.
    #[error("ens.request_validity must be below 15 minutes")]
    Validity,
    /// The HTTP client cannot be built, such as without CA certificates.
    #[error("the http client cannot be built: {0} (are there CA certificates? SSL_CERT_FILE names a bundle)")]
    Client(String),
}
