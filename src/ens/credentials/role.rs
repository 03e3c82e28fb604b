//! A RAM role that other credentials assume (`AssumeRole` of STS), also in a chain.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::context::{ProviderContext, SkipReason};
use super::fetch::{FetchError, Http};
use super::sts::{DURATION_SECONDS, Preference, SESSION_NAME, Sts, VERSION};
use super::{Credentials, oidc};
use crate::ens::redaction::Redaction;
use crate::ens::signer;
use crate::model::random;

const ARN: &str = "ALIBABA_CLOUD_ROLE_ARN";
const SESSION: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
const EXTERNAL_ID: &str = "ALIBABA_CLOUD_EXTERNAL_ID";
const POLICY: &str = "ALIBABA_CLOUD_ROLE_POLICY";
const ACTION: &str = "AssumeRole";

/// A role, and the terms of its session.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    /// A text that the role's trust policy may require.
    pub(super) external_id: Option<SecretString>,
    /// A policy that narrows the role's rights.
    pub(super) policy: Option<String>,
    pub(super) duration_seconds: Option<u32>,
}

/// A role at an endpoint of STS.
#[derive(Debug)]
pub(super) struct AssumedRole {
    role: Role,
    sts: Sts,
}

impl AssumedRole {
    /// The role that the key in the environment assumes, if any. With a variable of OIDC set, the
    /// role is that of the service account, which needs no key.
    pub(super) fn of_environment(context: &ProviderContext) -> Result<Option<Self>, SkipReason> {
        let Some(arn) = context.var(ARN).filter(|_| !oidc::is_named(context)) else {
            return Ok(None);
        };
        let role = Role {
            arn,
            session_name: context.var(SESSION),
            external_id: context.var(EXTERNAL_ID).map(SecretString::from),
            policy: context.var(POLICY),
            duration_seconds: None,
        };
        let sts = Sts::find(context, Preference::default()).map_err(SkipReason::broken)?;
        Ok(Some(Self::new(role, sts)))
    }

    pub(super) fn new(role: Role, sts: Sts) -> Self {
        Self { role, sts }
    }

    pub(super) fn arn(&self) -> &str {
        &self.role.arn
    }

    /// The role's session, for these credentials.
    pub(super) async fn fetch(
        &self,
        http: &Http,
        by: &Credentials,
        now: Timestamp,
    ) -> Result<Credentials, FetchError> {
        let Role { arn, session_name, external_id, policy, duration_seconds } = &self.role;
        let duration = duration_seconds.unwrap_or(DURATION_SECONDS).to_string();
        let external_id = external_id.as_ref().map(ExposeSecret::expose_secret);
        let mut parameters = vec![
            ("RoleArn", arn.as_str()),
            ("RoleSessionName", session_name.as_deref().unwrap_or(SESSION_NAME)),
            ("DurationSeconds", &duration),
        ];
        parameters.extend(external_id.map(|id| ("ExternalId", id)));
        parameters.extend(policy.as_deref().map(|policy| ("Policy", policy)));
        let query = signer::canonical_query(parameters);
        let call = signer::Call {
            host: self.sts.host(),
            action: ACTION,
            version: VERSION,
            query: &query,
            date: now,
            nonce: &random::uuid().simple().to_string(),
        };
        let mut url = self.sts.url();
        url.set_path("/");
        url.set_query(Some(&query));
        let request = http.sts.post(url).header("content-length", "0");
        let headers = call.headers(by.signing_key());
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let secrets = Redaction::of(by.secrets().chain(external_id));
        let session = self.sts.session(request, ACTION).await;
        session.map_err(|error| error.at(format_args!("role {arn}")).without(&secrets))
    }
}
