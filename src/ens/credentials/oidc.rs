//! A RAM role for a Kubernetes service account (RRSA): STS exchanges the kubelet's OIDC token for a
//! session.
//!
//! The kubelet rotates the token, so each exchange reads the file. The token is sent in the body,
//! because proxies and servers log URLs.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::Serializer;

use super::Credentials;
use super::context::{ProviderContext, SkipReason};
use super::fetch::{FetchError, Http};
use super::sts::{DURATION_SECONDS, Preference, SESSION_NAME, Sts, VERSION};
use crate::ens::redaction::Redaction;

const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
const SESSION: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
const ACTION: &str = "AssumeRoleWithOIDC";

/// `AssumeRoleWithOIDC`.
#[derive(Debug)]
pub(super) struct Oidc {
    pub(super) role: String,
    pub(super) provider: String,
    pub(super) token_file: PathBuf,
    pub(super) session_name: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) duration_seconds: Option<u32>,
    pub(super) sts: Sts,
}

/// Whether the environment names a provider or a token file.
pub(super) fn is_named(context: &ProviderContext) -> bool {
    context.var(PROVIDER).is_some() || context.var(TOKEN_FILE).is_some()
}

impl Oidc {
    pub(super) fn find(context: &ProviderContext) -> Result<Self, SkipReason> {
        let names = [ROLE, PROVIDER, TOKEN_FILE];
        let missing: Vec<&str> =
            names.into_iter().filter(|name| context.var(name).is_none()).collect();
        let (Some(role), Some(provider), Some(token_file)) =
            (context.var(ROLE), context.var(PROVIDER), context.var(TOKEN_FILE))
        else {
            let why = format!("not set: {}", missing.join(", "));
            return Err(if missing.len() == names.len() {
                SkipReason::absent(why)
            } else {
                SkipReason::broken(why)
            });
        };
        Ok(Self {
            role,
            provider,
            token_file: token_file.into(),
            session_name: context.var(SESSION),
            policy: None,
            duration_seconds: None,
            sts: Sts::find(context, Preference::default()).map_err(SkipReason::broken)?,
        })
    }

    pub(super) fn role(&self) -> &str {
        &self.role
    }

    pub(super) async fn fetch(
        &self,
        http: &Http,
        now: Timestamp,
    ) -> Result<Credentials, FetchError> {
        let token = self.token().await?;
        let token = token.expose_secret().trim();
        if token.is_empty() {
            let file = self.token_file.display();
            return Err(FetchError::passing(format!("the token file {file} is empty")));
        }
        let mut url = self.sts.url();
        url.query_pairs_mut()
            .append_pair("Action", ACTION)
            .append_pair("Format", "JSON")
            .append_pair("Version", VERSION)
            .append_pair("Timestamp", &now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let request = http
            .sts
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(self.form(token));
        let session = self.sts.session(request, ACTION).await;
        session.map_err(|error| error.without(&Redaction::of([token])))
    }

    fn form(&self, token: &str) -> String {
        let duration = self.duration_seconds.unwrap_or(DURATION_SECONDS).to_string();
        let mut form = Serializer::new(String::new());
        form.append_pair("RoleArn", &self.role)
            .append_pair("OIDCProviderArn", &self.provider)
            .append_pair("OIDCToken", token)
            .append_pair("RoleSessionName", self.session_name.as_deref().unwrap_or(SESSION_NAME))
            .append_pair("DurationSeconds", &duration);
        if let Some(policy) = &self.policy {
            form.append_pair("Policy", policy);
        }
        form.finish()
    }

    async fn token(&self) -> Result<SecretString, FetchError> {
        let file = self.token_file.display();
        let read = tokio::fs::read_to_string(&self.token_file).await;
        read.map(SecretString::from).map_err(|error| {
            let why = format!("the token file {file} cannot be read: {error}");
            match error.kind() {
                // The kubelet may be about to write it.
                io::ErrorKind::NotFound => FetchError::passing(why),
                _ => FetchError::lasting(why),
            }
        })
    }
}
