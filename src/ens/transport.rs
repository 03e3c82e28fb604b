//! One HTTP request, sent once. Trap: HTTP clients may resend by themselves, which would bypass the
//! lease check. So: no retries, no redirects, HTTP/1.1 (without "refused streams"), and no proxy
//! from the environment. A request is resent only if a pooled connection was closed before its
//! first byte was written. A configured proxy only sees a tunnel.

use std::error::Error as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::HeaderMap;
use reqwest::{Client, Proxy, RequestBuilder, redirect, retry};
use url::Url;

use crate::tls_fault::{Remedies, TlsFault};

/// Maximum length of an answer, in bytes.
const MAX_ANSWER: usize = 8 << 20;
/// Maximum `x-acs-retry-after`, as in the official SDKs.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Bounds of a client's connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionBounds {
    /// Timeout for DNS, TCP and TLS together.
    pub(super) connect: Duration,
    /// Maximum time that sent data stays unacknowledged, also on an abandoned socket. So it bounds
    /// how late a request arrives.
    pub(super) unacknowledged: Duration,
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), unacknowledged: Duration::from_secs(8) }
    }
}

/// A client that sends once. It uses the system's CA certificates or `SSL_CERT_FILE`, and the
/// process's rustls provider. `proxy` tunnels to `https://` servers, and is used for no others.
pub(super) fn client(limits: ConnectionBounds, proxy: Option<&Url>) -> Result<Client, String> {
    let builder = match proxy {
        None => Client::builder().no_proxy(),
        Some(proxy) => Client::builder().proxy(Proxy::https(proxy.clone()).map_err(explain)?),
    };
    builder
        .retry(retry::never())
        .redirect(redirect::Policy::none())
        .referer(false)
        .http1_only()
        .connect_timeout(limits.connect)
        // Below the keep-alive of any upstream, to make the race with a closing connection rare.
        .pool_idle_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(16)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_user_timeout(limits.unacknowledged)
        .build()
        .map_err(explain)
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// `x-acs-retry-after`, at most 120 s.
    pub retry_after: Option<Duration>,
    /// `Date`.
    pub date: Option<Timestamp>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A missing response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingResponse {
    /// Whether a byte of the request may have reached ENS.
    pub sent: bool,
    /// `dns`, `connect`, `request` (not sent); `timeout`, `connection`, `body`.
    pub kind: &'static str,
    /// The cause, without the URL.
    pub why: String,
    /// The failed handshake, if that is the cause.
    pub handshake: Option<Handshake>,
}

/// A failed TLS handshake in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {remedy}")]
pub struct Handshake {
    /// The cause.
    pub why: String,
    /// The remedy.
    pub remedy: String,
}

impl Handshake {
    /// The failed handshake among an error and its causes.
    pub(super) fn find(error: &reqwest::Error) -> Option<Self> {
        let fault = TlsFault::find(error)?;
        Some(Self { why: fault.to_string(), remedy: fault.remedy(&TLS) })
    }
}

impl Response {
    /// A response of these parts. An unreadable header counts as absent.
    #[must_use]
    pub fn new(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Self {
        Self { status, retry_after: retry_after(headers), date: date(headers), body }
    }
}

/// Sends one request; `timeout` runs from DNS to the last byte of the answer.
pub(super) async fn send(
    request: RequestBuilder,
    timeout: Duration,
) -> Result<Response, MissingResponse> {
    let mut response = request.timeout(timeout).send().await.map_err(MissingResponse::from)?;
    let mut answer = Response::new(response.status().as_u16(), response.headers(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(MissingResponse::in_body)? {
        if answer.body.len() + chunk.len() > MAX_ANSWER {
            let why = format!("the answer is longer than {MAX_ANSWER} bytes");
            return Err(MissingResponse { sent: true, kind: "body", why, handshake: None });
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
}

impl From<reqwest::Error> for MissingResponse {
    fn from(error: reqwest::Error) -> Self {
        // Connecting is DNS, TCP and TLS. Any other failure counts as sent.
        let (sent, kind) = if error.is_dns() {
            (false, "dns")
        } else if error.is_connect() {
            (false, "connect")
        } else if error.is_builder() {
            (false, "request")
        } else if error.is_timeout() {
            (true, "timeout")
        } else {
            (true, "connection")
        };
        let handshake = Handshake::find(&error);
        Self { sent, kind, why: explain(error), handshake }
    }
}

impl MissingResponse {
    /// A failure in the answer: the request was sent.
    fn in_body(error: reqwest::Error) -> Self {
        let kind = if error.is_timeout() { "timeout" } else { "body" };
        Self { sent: true, kind, why: explain(error), handshake: None }
    }
}

/// The remedies for a failed handshake.
const TLS: Remedies<'_> = Remedies {
    plaintext: "use an http:// endpoint",
    encrypted: "use an https:// endpoint",
    authorities: "set SSL_CERT_FILE to a CA bundle with its authority",
    name: "use a name of the certificate in the endpoint",
    identity: "use an endpoint that requires none",
};

/// An error with all its causes in one line, without the URL.
pub(super) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = match Handshake::find(&error) {
        Some(handshake) => format!("{handshake}: {error}"),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let millis: u64 = headers.get("x-acs-retry-after")?.to_str().ok()?.trim().parse().ok()?;
    (millis > 0).then(|| Duration::from_millis(millis).min(MAX_RETRY_AFTER))
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(headers.get(reqwest::header::DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
    }

    #[test]
    fn retry_after_is_in_milliseconds_and_bounded() {
        for (value, expected) in [
            ("700", Some(Duration::from_millis(700))),
            (" 1 ", Some(Duration::from_millis(1))),
            ("999999999", Some(MAX_RETRY_AFTER)),
            ("0", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(&headers("x-acs-retry-after", value)), expected, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn the_date_header_is_read() {
        let expected = "2026-11-23T08:49:37Z".parse().ok();
        assert_eq!(date(&headers("date", "Mon, 23 Nov 2026 08:49:37 GMT")), expected);
        assert_eq!(date(&headers("date", "yesterday")), None);
    }
}
