//! The production [`Ens`], over HTTP.
//!
//! An Attach awaits nothing before it is signed and sent. [`Ens::prepare`] fixed its inputs before
//! the lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use tokio::time::Instant;

use super::clock::TOLERANCE;
use super::condition::{Condition, describe_offset};
use super::credentials::{Credentials, Provider};
use super::exchange::{Exchange, Parameters};
use super::report::{Action, CallObserver};
use super::settings::Invalid;
use super::{
    DescribeError, Ens, InstanceRow, MAX_IDS, MAX_INSTANCES, Outcome, Prepared, Row, Settings,
    rejects_the_key, wire,
};
use crate::model::{Failure, InstanceId, InterfaceId, Reason};
use crate::rate_limit::{HeldPermit, Permit, RateClass, RateLimiter};

/// Maximum age of an `x-acs-date` at ENS.
const DATE_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Page size within the limits of every documented version.
const PAGE_SIZE: &str = "50";
/// Maximum number of pages, above any real answer: an instance has ten ENIs, a batch fifty.
const MAX_PAGES: usize = 20;

/// The permits of one describe, one for each of its calls.
struct Permits<'a> {
    exchange: &'a Exchange,
    class: RateClass,
    left: Option<HeldPermit>,
    calls: u32,
}

impl<'a> Permits<'a> {
    fn new(exchange: &'a Exchange, permit: Permit) -> Self {
        let class = permit.class();
        Self { exchange, class, left: Some(exchange.limiter.hold(permit)), calls: 0 }
    }

    /// The permit for the next call.
    async fn next(&mut self) -> Result<Permit, DescribeError> {
        self.calls += 1;
        if let Some(left) = self.left.take() {
            let (one, rest) = left.spend_one();
            self.left = rest;
            return Ok(one);
        }
        let Exchange { limiter, settings, .. } = self.exchange;
        let further = match self.class {
            // The caller may hold the instance's lock.
            RateClass::Describe => limiter.try_permit(self.class).await,
            _ => limiter.permit(self.class, Instant::now() + settings.describe_timeout).await,
        };
        further.map_err(|missing| DescribeError::NoPermit { missing, calls: self.calls })
    }
}

/// The credentials' source failed. The cause is in the log. It names the account's role.
struct NoCredentials {
    is_passing: bool,
}

/// The text for a caller while the source is down.
const NO_CREDENTIALS: &str = "the gateway cannot fetch its ens credentials at the moment";

/// The failure of an attach.
impl From<NoCredentials> for Failure {
    fn from(missing: NoCredentials) -> Self {
        if missing.is_passing {
            let why = format!("{NO_CREDENTIALS}; nothing was sent; try again");
            Self::new(Reason::NotApplied, why)
        } else {
            Self::new(
                Reason::EnsCredentialsRejected,
                "the gateway has no valid ens credentials; inform its operators",
            )
        }
    }
}

impl From<NoCredentials> for DescribeError {
    fn from(missing: NoCredentials) -> Self {
        if missing.is_passing {
            Self::Unavailable(NO_CREDENTIALS.to_owned())
        } else {
            Self::NotReady(missing.into())
        }
    }
}

/// The ENS client.
pub struct HttpEns {
    exchange: Exchange,
}

impl HttpEns {
    /// A client. It does not connect yet.
    ///
    /// # Errors
    /// The settings are inconsistent, or no HTTP client can be built.
    pub fn new(
        settings: Settings,
        credentials: Provider,
        limiter: RateLimiter,
        observer: CallObserver,
    ) -> Result<Self, Invalid> {
        if settings.request_validity >= DATE_WINDOW {
            return Err(Invalid::Validity);
        }
        let exchange = Exchange::new(settings, credentials, limiter, observer)?;
        Ok(Self { exchange })
    }

    /// The credentials' source, without secrets.
    #[must_use]
    pub fn credential_source(&self) -> String {
        self.exchange.credentials.source()
    }

    /// How far ENS's clock is ahead (negative: behind), if that stops sends.
    #[must_use]
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        self.exchange.offset.off()
    }

    /// The lasting problems of the calls.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        let clock = self.clock_offset().map(|off| Condition {
            name: "clock off",
            why: format!("this machine's {}: nothing is sent", describe_offset(off)),
        });
        clock.into_iter().chain(self.exchange.conditions.current()).collect()
    }

    /// Makes one read if there is a problem, unless that was done just now. Without calls, nothing
    /// else would show that it ended.
    pub async fn recheck(&self) {
        if self.conditions().is_empty() || !self.exchange.offset.may_recheck() {
            return;
        }
        let Ok(permit) = self.exchange.limiter.try_permit(RateClass::Describe).await else {
            return;
        };
        // A refusal shows the clock and the key as well.
        let _ = self.probe(permit, Action::DescribeNetworkInterfaces, SignedDuration::ZERO).await;
    }

    /// Sends one signed read of one row. `action` is a describe; its `x-acs-date` is `offset` from
    /// now.
    ///
    /// # Errors
    /// ENS refused the date or the read, or gave no usable answer.
    pub async fn probe(
        &self,
        permit: Permit,
        action: Action,
        offset: SignedDuration,
    ) -> Result<(), DescribeError> {
        let credentials = self.credentials().await?;
        let parameters = vec![("PageNumber", "1"), ("PageSize", "1")];
        let date = self.exchange.clock.now() + offset;
        self.exchange
            .call(action, parameters, &credentials, date, permit)
            .await
            .into_described()
            .map(drop)
    }

    async fn credentials(&self) -> Result<Arc<Credentials>, NoCredentials> {
        let fetched = self.exchange.credentials.get().await;
        let why = fetched.as_ref().err().map(|error| {
            format!("no ens credentials from {}: {error}", self.exchange.credentials.source())
        });
        self.exchange.conditions.learn_credentials(why.as_deref());
        fetched.map_err(|error| NoCredentials { is_passing: error.is_passing() })
    }

    fn clock_is_off(&self) -> Result<(), Failure> {
        let Some(off) = self.exchange.offset.off() else {
            return Ok(());
        };
        Err(Failure::new(
            Reason::EnsCredentialsRejected,
            format!(
                "this gateway's {}, and nothing is sent beyond 5 s; synchronise it (ntp)",
                describe_offset(off)
            ),
        ))
    }

    /// One describe, repeated once with fresh credentials if ENS refused the first.
    async fn describe(
        &self,
        action: Action,
        parameters: Parameters<'_>,
        permits: &mut Permits<'_>,
    ) -> Result<Value, DescribeError> {
        let credentials = self.credentials().await?;
        let permit = permits.next().await?;
        let reply = self
            .exchange
            .call(action, parameters.clone(), &credentials, self.exchange.clock.now(), permit)
            .await;
        if !reply.code().is_some_and(rejects_the_key) {
            return reply.into_described();
        }
        let fresh = self.credentials().await?;
        if Arc::ptr_eq(&fresh, &credentials) {
            return reply.into_described();
        }
        let permit = permits.next().await?;
        self.exchange
            .call(action, parameters, &fresh, self.exchange.clock.now(), permit)
            .await
            .into_described()
    }

    /// The pages of `DescribeNetworkInterfaces` until `enough`: the whole answer, or an error.
    async fn all_interfaces(
        &self,
        filter: Parameters<'_>,
        permit: Permit,
        enough: impl Fn(&BTreeSet<InterfaceId>) -> bool,
    ) -> Result<Vec<Row>, DescribeError> {
        let mut permits = Permits::new(&self.exchange, permit);
        let (mut rows, mut seen, mut expected) = (Vec::new(), BTreeSet::new(), None);
        for number in 1..=MAX_PAGES {
            let number = number.to_string();
            let mut parameters = filter.clone();
            parameters.extend([("PageNumber", number.as_str()), ("PageSize", PAGE_SIZE)]);
            let action = Action::DescribeNetworkInterfaces;
            let body = self.describe(action, parameters, &mut permits).await?;
            let page = wire::interfaces(body)
                .map_err(|error| DescribeError::Unavailable(error.to_string()))?;
            let came = page.rows.len();
            let all_new = page.rows.iter().all(|row| seen.insert(row.eni.clone()));
            rows.extend(page.rows);
            if all_new && enough(&seen) {
                return Ok(rows);
            }
            // A changed count or a repeated row: the data changed between two pages.
            if !all_new
                || page.total != *expected.get_or_insert(page.total)
                || rows.len() > page.total
            {
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
}

impl Ens for HttpEns {
    async fn prepare(&self) -> Result<Prepared, Failure> {
        if self.exchange.offset.off().is_some() {
            self.recheck().await;
        }
        self.clock_is_off()?;
        let credentials = self.credentials().await.map_err(Failure::from)?;
        let mut date = self.exchange.clock.now();
        if self.exchange.settings.enforce_validity {
            // A clock that is ahead, within the tolerance, makes a request look younger. The bound
            // must still hold.
            date = date
                - DATE_WINDOW.saturating_sub(self.exchange.settings.request_validity)
                - TOLERANCE;
        }
        Ok(Prepared::new(credentials, date))
    }

    async fn attach(
        &self,
        prepared: &Prepared,
        permit: Permit,
        instance: &InstanceId,
        eni: &InterfaceId,
    ) -> Outcome {
        let parameters =
            vec![("InstanceId", instance.as_str()), ("NetworkInterfaceId", eni.as_str())];
        let Prepared { credentials, date } = prepared;
        // A describe since `prepare` may have shown it.
        if let Err(failure) = self.clock_is_off() {
            self.exchange.limiter.give_back(permit).await;
            return Outcome::NotSent { why: failure.message };
        }
        self.exchange
            .call(Action::AttachNetworkInterface, parameters, credentials, *date, permit)
            .await
            .into_outcome()
    }

    async fn interfaces(
        &self,
        permit: Permit,
        ids: &[InterfaceId],
    ) -> Result<Vec<Row>, DescribeError> {
        // Further ids are missing from the answer, and described alone.
        let ids: BTreeSet<&InterfaceId> = ids.iter().take(MAX_IDS).collect();
        if ids.is_empty() {
            // Without a filter ENS would return the whole account.
            self.exchange.limiter.give_back(permit).await;
            return Ok(Vec::new());
        }
        let names: Vec<String> =
            (1..=ids.len()).map(|number| format!("NetworkInterfaceIds.{number}")).collect();
        let filter =
            names.iter().map(String::as_str).zip(ids.iter().map(|id| id.as_str())).collect();
        // The rows of these ids count, whatever total the answer gives.
        let all_seen = |seen: &BTreeSet<InterfaceId>| ids.iter().all(|id| seen.contains(*id));
        let mut rows = self.all_interfaces(filter, permit, all_seen).await?;
        rows.retain(|row| ids.contains(&row.eni));
        Ok(rows)
    }

    async fn interfaces_of(
        &self,
        permit: Permit,
        instance: &InstanceId,
    ) -> Result<Vec<Row>, DescribeError> {
        let mut rows =
            self.all_interfaces(vec![("InstanceId", instance.as_str())], permit, |_| false).await?;
        // A row without an instance matched the filter, and may be attaching here.
        rows.retain(|row| row.instance.as_ref().is_none_or(|shown| shown == instance));
        Ok(rows)
    }

    async fn instances(
        &self,
        permit: Permit,
        ids: &[InstanceId],
    ) -> Result<Vec<InstanceRow>, DescribeError> {
        let ids: BTreeSet<&InstanceId> = ids.iter().take(MAX_INSTANCES).collect();
        let list = serde_json::json!(ids).to_string();
        let size = MAX_INSTANCES.to_string();
        let parameters =
            vec![("InstanceIds", list.as_str()), ("PageNumber", "1"), ("PageSize", &size)];
        let mut permits = Permits::new(&self.exchange, permit);
        match self.describe(Action::DescribeInstances, parameters, &mut permits).await {
            Ok(body) => {
                let rows = wire::instances(body)
                    .map_err(|error| DescribeError::Unavailable(error.to_string()))?;
                Ok(rows.into_iter().filter(|row| ids.contains(&row.instance)).collect())
            }
            Err(DescribeError::Refused(refusal)) if refusal.code == "InstanceNotFound" => {
                match ids.len() {
                    1 => Ok(Vec::new()),
                    _ => Err(DescribeError::UnknownId(refusal)),
                }
            }
            Err(error) => Err(error),
        }
    }
}
