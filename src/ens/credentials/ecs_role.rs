//! The RAM role of the gateway's ECS instance, from its metadata service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;
use url::Url;

use super::Credentials;
use super::context::{ProviderContext, SkipReason};
use super::fetch::{FetchError, Session, ok_text};
use crate::ens::redaction::Redaction;

const DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
const ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
const V1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";

/// Timeout of one request to the service, which is one hop away or absent.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Time for all requests of a fetch, both versions together.
const BUDGET: Duration = Duration::from_secs(3);
const TOKEN_TTL: &str = "X-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aliyun-ecs-metadata-token";
const PATH: &str = "latest/meta-data/ram/security-credentials/";

/// The metadata service: version 2, or version 1 if any request of version 2 fails.
#[derive(Debug)]
pub(super) struct EcsRole {
    base: Url,
    role: Option<String>,
    v1_allowed: bool,
    /// Whether the fall-back to version 1 was logged.
    fell_back: AtomicBool,
}

impl EcsRole {
    pub(super) fn find(context: &ProviderContext) -> Result<Self, SkipReason> {
        if context.is_true(DISABLED) {
            return Err(SkipReason::absent(format!("switched off by {DISABLED}")));
        }
        Ok(Self::named(context, context.var(ROLE)))
    }

    /// The role of this name, or the instance's own.
    pub(super) fn named(context: &ProviderContext, role: Option<String>) -> Self {
        Self {
            base: context.metadata().clone(),
            role,
            v1_allowed: !context.is_true(V1_DISABLED),
            fell_back: AtomicBool::new(false),
        }
    }

    /// Whether the role is configured; otherwise the metadata service may be absent.
    pub(super) fn is_named(&self) -> bool {
        self.role.is_some()
    }

    pub(super) async fn fetch(&self, http: &Client) -> Result<Credentials, FetchError> {
        let until = Instant::now() + BUDGET;
        let fetched = match self.fetch_v2(http, until).await {
            Err(error) if self.v1_allowed => {
                let fetched = self.fetch_role(http, None, until).await;
                if fetched.is_ok() && !self.fell_back.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "version 2 of the metadata service failed; the \
                        gateway uses version 1");
                }
                fetched.map_err(|other| error.and(other.at("version 1")))
            }
            fetched => fetched,
        };
        fetched.map_err(|error| error.at(format_args!("the metadata service at {}", self.base)))
    }

    async fn fetch_v2(&self, http: &Client, until: Instant) -> Result<Credentials, FetchError> {
        let request = http.put(self.url("latest/api/token")?).header(TOKEN_TTL, "21600");
        let token = ok_text(request, time_for_request(until)).await.map_err(|error| {
            if self.v1_allowed {
                return error.at("no token");
            }
            error.at(format_args!("no token, and version 1 is switched off by {V1_DISABLED}"))
        })?;
        let token = token.trim();
        let fetched = self.fetch_role(http, Some(token), until).await;
        fetched.map_err(|error| error.without(&Redaction::of([token])))
    }

    /// The role's credentials, by version 2 with a token and by version 1 without.
    async fn fetch_role(
        &self,
        http: &Client,
        token: Option<&str>,
        until: Instant,
    ) -> Result<Credentials, FetchError> {
        let role = match &self.role {
            Some(role) => role.clone(),
            None => self.get(http, PATH, token, until).await?.trim().to_owned(),
        };
        let session = self.get(http, &format!("{PATH}{role}"), token, until).await?;
        Session::parse(&session).and_then(Session::credentials)
    }

    async fn get(
        &self,
        http: &Client,
        path: &str,
        token: Option<&str>,
        until: Instant,
    ) -> Result<String, FetchError> {
        let mut request = http.get(self.url(path)?);
        if let Some(token) = token {
            request = request.header(TOKEN, token);
        }
        ok_text(request, time_for_request(until)).await
    }

    fn url(&self, path: &str) -> Result<Url, FetchError> {
        self.base.join(path).map_err(|_| FetchError::lasting(format!("{path:?} is not a path")))
    }
}

fn time_for_request(until: Instant) -> Duration {
    TIMEOUT.min(until.saturating_duration_since(Instant::now()))
}
