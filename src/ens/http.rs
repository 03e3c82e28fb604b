//! ENS over HTTP: [`Ens`] as it is in production. One call is: sign, send once, read, classify, report.
//!
//! An Attach awaits nothing before it is signed and sent; what it needs was fixed by [`Ens::prepare`] before the lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};
use url::Url;
use uuid::Uuid;

use super::budget::{NoPermit, Purpose};
use super::classify::{self, Reply};
use super::clock::{Offset, WallClock};
use super::credentials::{Credentials, Provider};
use super::report::{Action, CallReport, Observer};
use super::settings::Invalid;
use super::{
    Budget, DescribeError, Ens, InstanceRow, MAX_IDS, Outcome, Permit, Prepared, Row, Settings, signer, transport, wire,
};
use crate::model::{Failure, InstanceId, InterfaceId, Reason};

const VERSION: &str = "2017-11-10";
/// How old an `x-acs-date` may be for ENS.
const DATE_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Inside what every version of the documents allows.
const PAGE_SIZE: &str = "50";
/// More ENIs than any answer here can have: an instance has ten, a batch fifty.
const MAX_PAGES: usize = 20;

/// The ENS client.
pub struct HttpEns {
    settings: Settings,
    host: String,
    http: Client,
    credentials: Provider,
    budget: Budget,
    clock: WallClock,
    offset: Offset,
    observer: Observer,
}

type Parameters<'a> = Vec<(&'a str, &'a str)>;

impl HttpEns {
    /// A client. Connects to nothing yet.
    ///
    /// # Errors
    /// The settings contradict themselves, or no HTTP client can be built.
    pub fn new(settings: Settings, credentials: Provider, budget: Budget, observer: Observer) -> Result<Self, Invalid> {
        let host = authority(&settings.endpoint)?;
        if settings.request_validity >= DATE_WINDOW {
            return Err(Invalid::Validity);
        }
        let limits = transport::Limits {
            connect: (settings.attempt_timeout / 2).min(Duration::from_secs(3)),
            unacknowledged: settings.attempt_timeout,
        };
        let http = transport::client(limits).map_err(Invalid::Client)?;
        let (clock, offset) = (WallClock::system(), Offset::default());
        Ok(Self {
            settings,
            host,
            http,
            credentials,
            budget,
            clock,
            offset,
            observer,
        })
    }

    /// With another wall clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Where the credentials come from, without secrets.
    #[must_use]
    pub fn credential_source(&self) -> String {
        self.credentials.source()
    }

    /// How far ENS's clock is ahead of this machine's (behind it, if negative), where that is too far to send.
    #[must_use]
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        self.offset.off()
    }

    /// One signed read whose `x-acs-date` is `offset` away from now: whether ENS takes such a date.
    ///
    /// # Errors
    /// ENS did not take it, or gave no usable answer.
    pub async fn probe_date(&self, permit: Permit, offset: SignedDuration) -> Result<(), DescribeError> {
        let credentials = self.credentials().await.map_err(DescribeError::NotReady)?;
        let parameters = vec![("PageNumber", "1"), ("PageSize", "1")];
        let (action, date) = (Action::DescribeNetworkInterfaces, self.clock.now() + offset);
        self.call(action, parameters, &credentials, date, permit)
            .await
            .into_described()
            .map(drop)
    }

    async fn credentials(&self) -> Result<Arc<Credentials>, Failure> {
        self.credentials.get().await.map_err(|error| {
            let source = self.credentials.source();
            Failure::new(
                Reason::EnsCredentialsRejected,
                format!("no ens credentials from {source}: {error}"),
            )
        })
    }

    /// Asks ENS for the time, if nobody did so just now: where the clock was off and nothing else is asked, nothing else would
    /// show that it is right again.
    async fn recheck_clock(&self) {
        if !self.offset.may_recheck() {
            return;
        }
        let Ok(permit) = self.budget.try_permit(Purpose::Describe).await else {
            return;
        };
        // What matters is the answer's `Date`, which a refusal has too.
        let _ = self.probe_date(permit, SignedDuration::ZERO).await;
    }

    fn clock_is_off(&self) -> Result<(), Failure> {
        let Some(off) = self.offset.off() else {
            return Ok(());
        };
        let (seconds, side) = (
            off.as_secs().abs(),
            if off.is_negative() { "ahead of" } else { "behind" },
        );
        Err(Failure::new(
            Reason::EnsCredentialsRejected,
            format!(
                "this gateway's clock is about {seconds} s {side} ens's, and nothing is sent beyond 5 s: \
                 synchronise it (ntp); the gateway notices by itself"
            ),
        ))
    }

    /// One describe, and a second one where the session ended on the way.
    async fn describe(
        &self,
        action: Action,
        parameters: Parameters<'_>,
        permit: Permit,
    ) -> Result<Value, DescribeError> {
        let purpose = permit.purpose();
        let credentials = self.credentials().await.map_err(DescribeError::NotReady)?;
        let reply = self
            .call(action, parameters.clone(), &credentials, self.clock.now(), permit)
            .await;
        if reply.code() != Some("InvalidSecurityToken.Expired") {
            return reply.into_described();
        }
        let fresh = self.credentials().await.map_err(DescribeError::NotReady)?;
        if Arc::ptr_eq(&fresh, &credentials) {
            return reply.into_described();
        }
        let permit = self.further(purpose).await?;
        self.call(action, parameters, &fresh, self.clock.now(), permit)
            .await
            .into_described()
    }

    /// A permit for one more call of the same kind.
    async fn further(&self, purpose: Purpose) -> Result<Permit, DescribeError> {
        let deadline = Instant::now() + self.settings.describe_timeout;
        self.budget.permit(purpose, deadline).await.map_err(|error| {
            let message = error.to_string();
            DescribeError::NotReady(match error {
                NoPermit::Late { wait } => Failure::new(Reason::EnsThrottled, message).retry_after(wait),
                NoPermit::CounterUnreachable(_) => Failure::new(Reason::CoordinationUnavailable, message),
            })
        })
    }

    /// All pages of `DescribeNetworkInterfaces`: the whole answer, or none.
    async fn all_interfaces(&self, filter: Parameters<'_>, permit: Permit) -> Result<Vec<Row>, DescribeError> {
        let purpose = permit.purpose();
        let mut permit = Some(permit);
        let (mut rows, mut seen, mut expected) = (Vec::new(), BTreeSet::new(), None);
        for number in 1..=MAX_PAGES {
            let permit = match permit.take() {
                Some(permit) => permit,
                None => self.further(purpose).await?,
            };
            let number = number.to_string();
            let mut parameters = filter.clone();
            parameters.extend([("PageNumber", number.as_str()), ("PageSize", PAGE_SIZE)]);
            let body = self
                .describe(Action::DescribeNetworkInterfaces, parameters, permit)
                .await?;
            let page = wire::interfaces(body).map_err(|error| DescribeError::Unavailable(error.to_string()))?;
            let came = page.rows.len();
            let all_new = page.rows.iter().all(|row| seen.insert(row.eni.clone()));
            rows.extend(page.rows);
            // A count that changes between pages, a row that comes twice: something moved while we turned the page.
            if !all_new || page.total != *expected.get_or_insert(page.total) || rows.len() > page.total {
                return Err(DescribeError::Incomplete);
            }
            if rows.len() == page.total {
                return Ok(rows);
            }
            if came == 0 {
                return Err(DescribeError::Incomplete);
            }
        }
        Err(DescribeError::Incomplete)
    }

    /// Signs, sends once, and says what that proves.
    async fn call(
        &self,
        action: Action,
        parameters: Parameters<'_>,
        credentials: &Arc<Credentials>,
        date: Timestamp,
        permit: Permit,
    ) -> Reply {
        let (began, sent) = (Instant::now(), self.clock.now());
        let span = self.span(action);
        let request = self.request(action, parameters, credentials, date);
        let timeout = match action {
            Action::AttachNetworkInterface => self.settings.attempt_timeout,
            Action::DescribeNetworkInterfaces | Action::DescribeInstances => self.settings.describe_timeout,
        };
        let response = transport::send(request, timeout).instrument(span.clone()).await;
        let duration = began.elapsed();
        let (status, date) = response
            .as_ref()
            .map_or((None, None), |response| (Some(response.status), response.date));
        let reply = response.map_or_else(classify::fault, |response| classify::response(&response));
        // Only what ENS itself said: a proxy's clock is nobody's business.
        if let Some(date) = date.filter(|_| reply.request_id().is_some()) {
            self.offset.learn(date, sent, self.clock.now());
        }
        record(&span, status, &reply);
        (self.observer)(CallReport {
            action,
            outcome: reply.label(),
            duration,
        });
        if reply.code().is_some_and(rejects_the_key) {
            self.credentials.reject(credentials);
        }
        match reply.throttling() {
            Some(throttling) => self.budget.throttled(&permit, throttling.retry_after).await,
            None if reply.passed() => self.budget.passed(&permit).await,
            None => {}
        }
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
        let nonce = Uuid::new_v4().simple().to_string();
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
            // hyper leaves it out, and some proxies answer 411 then.
            .header("content-length", "0")
            .header("accept", "application/json")
            .header("user-agent", &self.settings.user_agent);
        call.headers(credentials)
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, value))
    }

    fn span(&self, action: Action) -> Span {
        tracing::info_span!(
            "ens.call",
            otel.kind = "client",
            otel.name = action.name(),
            otel.status_code = field::Empty,
            http.request.method = "POST",
            server.address = self.settings.endpoint.host_str(),
            server.port = self.settings.endpoint.port_or_known_default(),
            http.response.status_code = field::Empty,
            error.r#type = field::Empty,
            ens.action = action.name(),
            ens.request_id = field::Empty,
        )
    }
}

impl Ens for HttpEns {
    async fn prepare(&self) -> Result<Prepared, Failure> {
        if self.offset.off().is_some() {
            self.recheck_clock().await;
        }
        self.clock_is_off()?;
        let credentials = self.credentials().await?;
        let set_back = match self.settings.enforce_validity {
            true => DATE_WINDOW.saturating_sub(self.settings.request_validity),
            false => Duration::ZERO,
        };
        Ok(Prepared::new(credentials, self.clock.now() - set_back))
    }

    async fn attach(&self, prepared: &Prepared, permit: Permit, instance: &InstanceId, eni: &InterfaceId) -> Outcome {
        let parameters = vec![("InstanceId", instance.as_str()), ("NetworkInterfaceId", eni.as_str())];
        let Prepared { credentials, date } = prepared;
        self.call(Action::AttachNetworkInterface, parameters, credentials, *date, permit)
            .await
            .into_outcome()
    }

    async fn interfaces(&self, permit: Permit, ids: &[InterfaceId]) -> Result<Vec<Row>, DescribeError> {
        let ids: BTreeSet<&InterfaceId> = ids.iter().take(MAX_IDS).collect();
        if ids.is_empty() {
            // Without a filter ENS would show the whole account.
            self.budget.give_back(permit).await;
            return Ok(Vec::new());
        }
        let names: Vec<String> = (1..=ids.len())
            .map(|number| format!("NetworkInterfaceIds.{number}"))
            .collect();
        let filter = names
            .iter()
            .map(String::as_str)
            .zip(ids.iter().map(|id| id.as_str()))
            .collect();
        let mut rows = self.all_interfaces(filter, permit).await?;
        rows.retain(|row| ids.contains(&row.eni));
        Ok(rows)
    }

    async fn interfaces_of(&self, permit: Permit, instance: &InstanceId) -> Result<Vec<Row>, DescribeError> {
        let mut rows = self
            .all_interfaces(vec![("InstanceId", instance.as_str())], permit)
            .await?;
        // A row without an instance came for our filter, and may be on its way here.
        rows.retain(|row| row.instance.as_ref().is_none_or(|shown| shown == instance));
        Ok(rows)
    }

    async fn instance(&self, permit: Permit, instance: &InstanceId) -> Result<Option<InstanceRow>, DescribeError> {
        let ids = serde_json::json!([instance]).to_string();
        let parameters = vec![("InstanceIds", ids.as_str()), ("PageNumber", "1"), ("PageSize", "10")];
        match self.describe(Action::DescribeInstances, parameters, permit).await {
            Ok(body) => wire::instance(body, instance).map_err(|error| DescribeError::Unavailable(error.to_string())),
            Err(DescribeError::Refused(refusal)) if refusal.code == "InstanceNotFound" => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn record(span: &Span, status: Option<u16>, reply: &Reply) {
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    if let Some(id) = reply.request_id() {
        span.record("ens.request_id", id);
    }
    if let Some(error) = reply.error_type() {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
}

/// Whether other credentials might do better.
fn rejects_the_key(code: &str) -> bool {
    code == "InvalidSecurityToken.Expired" || code.starts_with("InvalidAccessKeyId")
}

/// `Host` as it goes over the wire, of an endpoint that is nothing but scheme, host and port.
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
        // The URL itself might hold a password.
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
