//! The RAM role of the gateway's ECS instance, from its metadata service.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use url::Url;

use super::Credentials;
use super::context::{ProviderContext, SkipReason};
use super::fetch::{FetchError, Session, ok_text, text};
use crate::ens::redaction::Redaction;

const DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
const ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
const V1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";

/// Timeout of the service, which is one hop away or absent.
const TIMEOUT: Duration = Duration::from_secs(1);
const TOKEN_TTL: &str = "X-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aliyun-ecs-metadata-token";
const PATH: &str = "latest/meta-data/ram/security-credentials/";

/// The metadata service, version 2 or else version 1.
#[derive(Debug)]
pub(super) struct EcsRole {
    base: Url,
    role: Option<String>,
    v1_allowed: bool,
}

impl EcsRole {
    pub(super) fn find(context: &ProviderContext) -> Result<Self, SkipReason> {
        if context.is_true(DISABLED) {
            return Err(SkipReason::absent(format!("switched off by {DISABLED}")));
        }
        Ok(Self {
            base: context.metadata().clone(),
            role: context.var(ROLE),
            v1_allowed: !context.is_true(V1_DISABLED),
        })
    }

    /// Whether the role is configured; otherwise the metadata service may be absent.
    pub(super) fn is_named(&self) -> bool {
        self.role.is_some()
    }

    pub(super) async fn fetch(&self, http: &Client) -> Result<Credentials, FetchError> {
        let failed = |error| FetchError(format!("the metadata service at {}: {error}", self.base));
        let token = self.token(http).await.map_err(failed)?;
        let secrets = Redaction::of(token.as_deref());
        let failed = |error| failed(error).without(&secrets);
        let role = match &self.role {
            Some(role) => role.clone(),
            None => self.get(http, PATH, token.as_deref()).await.map_err(failed)?.trim().to_owned(),
        };
        let path = format!("{PATH}{role}");
        let session = self.get(http, &path, token.as_deref()).await.map_err(failed)?;
        Session::parse(&session).and_then(Session::credentials).map_err(failed)
    }

    /// A token of version 2; `None` if it is not offered and version 1 is allowed.
    async fn token(&self, http: &Client) -> Result<Option<String>, FetchError> {
        let request = http.put(self.url("latest/api/token")?).header(TOKEN_TTL, "21600");
        let (status, text) = text(request, TIMEOUT).await?;
        match status {
            StatusCode::OK => Ok(Some(text.trim().to_owned())),
            _ if self.v1_allowed => Ok(None),
            status => Err(FetchError(format!(
                "no token: answered {status}, and version 1 is switched off by {V1_DISABLED}"
            ))),
        }
    }

    async fn get(
        &self,
        http: &Client,
        path: &str,
        token: Option<&str>,
    ) -> Result<String, FetchError> {
        let mut request = http.get(self.url(path)?);
        if let Some(token) = token {
            request = request.header(TOKEN, token);
        }
        ok_text(request, TIMEOUT).await
    }

    fn url(&self, path: &str) -> Result<Url, FetchError> {
        self.base.join(path).map_err(|_| FetchError(format!("{path:?} is not a path")))
    }
}
