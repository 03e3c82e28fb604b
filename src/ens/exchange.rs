//! The only call of ENS: sign, send once, read, classify, report. It requires a [`Permit`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};
use url::Url;

use super::classify::{self, EnsReply};
use super::clock::{Offset, WallClock};
use super::condition::Conditions;
use super::credentials::{Credentials, Provider};
use super::refusal_log::RefusalLog;
use super::report::{Action, CallObserver, CallReport};
use super::settings::Invalid;
use super::{Settings, rejects_the_key, signer, transport};
use crate::model::random;
use crate::names::{attribute, otel, span};
use crate::rate_limit::{Permit, RateLimiter};

const VERSION: &str = "2017-11-10";

/// Parameters of a call.
pub(super) type Parameters<'a> = Vec<(&'a str, &'a str)>;

/// The dependencies and observers of a call.
pub(super) struct Exchange {
    pub(super) settings: Settings,
    pub(super) credentials: Provider,
    pub(super) limiter: RateLimiter,
    pub(super) clock: WallClock,
    pub(super) offset: Offset,
    pub(super) conditions: Conditions,
    host: String,
    http: Client,
    refusals: RefusalLog,
    observer: CallObserver,
}

impl Exchange {
    pub(super) fn new(
        settings: Settings,
        credentials: Provider,
        limiter: RateLimiter,
        observer: CallObserver,
    ) -> Result<Self, Invalid> {
        let host = authority(&settings.endpoint)?;
        let limits = transport::ConnectionBounds {
            connect: (settings.attempt_timeout / 2).min(Duration::from_secs(3)),
            unacknowledged: settings.attempt_timeout,
        };
        let http = transport::client(limits, settings.proxy.as_ref()).map_err(Invalid::Client)?;
        let (clock, offset) = (WallClock::system(), Offset::default());
        let (conditions, refusals) = (Conditions::default(), RefusalLog::default());
        Ok(Self {
            settings,
            credentials,
            limiter,
            clock,
            offset,
            conditions,
            host,
            http,
            refusals,
            observer,
        })
    }

    /// Signs, sends once, and classifies the reply.
    pub(super) async fn call(
        &self,
        action: Action,
        parameters: Parameters<'_>,
        credentials: &Arc<Credentials>,
        date: Timestamp,
        permit: Permit,
    ) -> EnsReply {
        let (began, sent) = (Instant::now(), self.clock.now());
        let span = self.span(action);
        let request = self.request(action, parameters, credentials, date);
        let timeout = match action {
            Action::AttachNetworkInterface => self.settings.attempt_timeout,
            Action::DescribeNetworkInterfaces | Action::DescribeInstances => {
                self.settings.describe_timeout
            }
        };
        let response = transport::send(request, timeout).instrument(span.clone()).await;
        let duration = began.elapsed();
        let (status, date) = response
            .as_ref()
            .map_or((None, None), |response| (Some(response.status), response.date));
        let secrets = self.credentials.redaction();
        let classify = |response| classify::response(&response, &secrets);
        let reply = response.map_or_else(classify::missing_response, classify);
        // A proxy's clock does not count.
        if let Some(date) = date.filter(|_| reply.request_id().is_some()) {
            self.offset.learn(date, sent, self.clock.now());
        }
        self.conditions.learn(&reply);
        record(&span, status, &reply);
        self.refusals.log(action, &reply);
        drop(span);
        (self.observer)(CallReport { action, outcome: reply.label(), duration });
        if reply.code().is_some_and(rejects_the_key) {
            self.credentials.reject(credentials);
        }
        reply.report(permit, &self.limiter).await;
        reply
    }

    fn request(
        &self,
        action: Action,
        parameters: Parameters<'_>,
        credentials: &Credentials,
        date: Timestamp,
    ) -> reqwest::RequestBuilder {
        let query = signer::canonical_query(parameters);
        let nonce = random::uuid().simple().to_string();
        let call = signer::Call {
            host: &self.host,
            action: action.name(),
            version: VERSION,
            query: &query,
            date,
            nonce: &nonce,
        };
        let mut url = self.settings.endpoint.clone();
        url.set_path("/");
        url.set_query(Some(&query));
        let request = self
            .http
            .post(url)
            // hyper omits it, and some proxies then answer 411.
            .header("content-length", "0")
            .header("accept", "application/json")
            .header("user-agent", &self.settings.user_agent);
        call.headers(credentials.signing_key())
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, value))
    }

    fn span(&self, action: Action) -> Span {
        tracing::info_span!(
            span::ENS_CALL,
            { otel::KIND } = "client",
            { otel::NAME } = action.name(),
            { otel::STATUS } = field::Empty,
            { attribute::HTTP_METHOD } = "POST",
            { attribute::SERVER_ADDRESS } = self.settings.endpoint.host_str(),
            { attribute::SERVER_PORT } = self.settings.endpoint.port_or_known_default(),
            { attribute::HTTP_STATUS } = field::Empty,
            { attribute::ERROR_TYPE } = field::Empty,
            { attribute::ENS_ACTION } = action.name(),
            { attribute::ENS_REQUEST_ID } = field::Empty,
        )
    }
}

fn record(span: &Span, status: Option<u16>, reply: &EnsReply) {
    if let Some(status) = status {
        span.record(attribute::HTTP_STATUS, status);
    }
    if let Some(id) = reply.request_id() {
        span.record(attribute::ENS_REQUEST_ID, id);
    }
    if let Some(error) = reply.error_type() {
        span.record(attribute::ERROR_TYPE, error);
        span.record(otel::STATUS, "ERROR");
    }
}

/// `Host` as on the wire, of an endpoint with only scheme, host and port.
fn authority(endpoint: &Url) -> Result<String, Invalid> {
    let bare = matches!(endpoint.scheme(), "http" | "https")
        && endpoint.path() == "/"
        && endpoint.query().is_none()
        && endpoint.fragment().is_none()
        && endpoint.username().is_empty()
        && endpoint.password().is_none();
    match (endpoint.host_str(), endpoint.port()) {
        (Some(host), Some(port)) if bare => Ok(format!("{host}:{port}")),
        (Some(host), None) if bare => Ok(host.to_owned()),
        // The URL may hold a password.
        _ => Err(Invalid::Endpoint(format!(
            "{}://{}",
            endpoint.scheme(),
            endpoint.host_str().unwrap_or_default()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_scheme_host_and_port() {
        for (endpoint, host) in [
            ("https://ens.aliyuncs.com", Some("ens.aliyuncs.com")),
            ("https://ens.aliyuncs.com:443/", Some("ens.aliyuncs.com")),
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://[::1]:8080", Some("[::1]:8080")),
            ("https://ens.aliyuncs.com/ens", None),
            ("https://ens.aliyuncs.com/?a=b", None),
            ("https://user:password@ens.aliyuncs.com/", None),
            ("ftp://ens.aliyuncs.com/", None),
        ] {
            let got = authority(&Url::parse(endpoint).expect("a URL"));
            assert_eq!(got.as_deref().ok(), host, "{endpoint}");
            assert!(!format!("{got:?}").contains("password"), "{got:?}");
        }
    }
}
