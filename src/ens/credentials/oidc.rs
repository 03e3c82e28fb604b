//! A RAM role for a Kubernetes service account (RRSA): STS exchanges the kubelet's OIDC token for a
//! session.
//!
//! The kubelet rotates the token, so each exchange reads the file. The token is sent in the body,
//! because proxies and servers log URLs.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::Credentials;
use super::context::{ProviderContext, SkipReason};
use super::fetch::{FetchError, Session, ok_text};
use crate::ens::redaction::Redaction;

const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
const SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
const ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
const REGION: &str = "ALIBABA_CLOUD_STS_REGION";
const VPC: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";

const TIMEOUT: Duration = Duration::from_secs(5);

/// `AssumeRoleWithOIDC`.
#[derive(Debug)]
pub(super) struct Oidc {
    role: String,
    provider: String,
    token_file: PathBuf,
    session_name: String,
    sts: Url,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    credentials: Session,
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
        let session_name = context.var(SESSION_NAME).unwrap_or_else(|| "eni-gateway".to_owned());
        let sts = sts_endpoint(context).map_err(SkipReason::broken)?;
        Ok(Self { role, provider, token_file: token_file.into(), session_name, sts })
    }

    pub(super) fn role(&self) -> &str {
        &self.role
    }

    pub(super) async fn fetch(
        &self,
        http: &Client,
        now: Timestamp,
    ) -> Result<Credentials, FetchError> {
        let file = self.token_file.display();
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map(SecretString::from)
            .map_err(|error| {
                let why = format!("the token file {file} cannot be read: {error}");
                match error.kind() {
                    // The kubelet may be about to write it.
                    io::ErrorKind::NotFound => FetchError::passing(why),
                    _ => FetchError::lasting(why),
                }
            })?;
        let token = token.expose_secret().trim();
        if token.is_empty() {
            return Err(FetchError::passing(format!("the token file {file} is empty")));
        }
        let mut url = self.sts.clone();
        url.query_pairs_mut()
            .append_pair("Action", "AssumeRoleWithOIDC")
            .append_pair("Format", "JSON")
            .append_pair("Version", "2015-04-01")
            .append_pair("Timestamp", &now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let form = Serializer::new(String::new())
            .append_pair("RoleArn", &self.role)
            .append_pair("OIDCProviderArn", &self.provider)
            .append_pair("OIDCToken", token)
            .append_pair("RoleSessionName", &self.session_name)
            .append_pair("DurationSeconds", "3600")
            .finish();
        let request = http
            .post(url)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let host = self.sts.host_str().unwrap_or_default();
        let text = ok_text(request, TIMEOUT)
            .await
            .map_err(|error| error.at(format_args!("sts at {host}")))
            .map_err(|error| error.without(&Redaction::of([token])))?;
        let answer: Answer = serde_json::from_str(&text).map_err(|_| {
            FetchError::lasting(format!(
                "sts at {host}: the answer is not the JSON of AssumeRoleWithOIDC"
            ))
        })?;
        answer.credentials.credentials()
    }
}

/// The configured endpoint, else the region's (in the VPC if configured), else the central one.
fn sts_endpoint(context: &ProviderContext) -> Result<Url, String> {
    let host = match (context.var(ENDPOINT), context.var(REGION)) {
        (Some(endpoint), _) => endpoint,
        (None, Some(region)) if context.is_true(VPC) => format!("sts-vpc.{region}.aliyuncs.com"),
        (None, Some(region)) => format!("sts.{region}.aliyuncs.com"),
        (None, None) => "sts.aliyuncs.com".to_owned(),
    };
    let text = if host.contains("://") { host.clone() } else { format!("https://{host}") };
    let url = Url::parse(&text).map_err(|_| format!("{host:?} is not an endpoint of sts"))?;
    // The token is as sensitive as a password.
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(format!(
            "{ENDPOINT} must be https://, because the token would be readable on the network"
        )),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::default(&[], Ok("https://sts.aliyuncs.com/"))]
    #[case::region(&[(REGION, "cn-hangzhou")], Ok("https://sts.cn-hangzhou.aliyuncs.com/"))]
    #[case::vpc(&[(REGION, "cn-hangzhou"), (VPC, "true")], Ok("https://sts-vpc.cn-hangzhou.aliyuncs.com/"))]
    #[case::vpc_alone(&[(VPC, "true")], Ok("https://sts.aliyuncs.com/"))]
    #[case::named(&[(ENDPOINT, "sts-vpc.cn-beijing.aliyuncs.com"), (REGION, "cn-hangzhou")], Ok("https://sts-vpc.cn-beijing.aliyuncs.com/"))]
    #[case::url(&[(ENDPOINT, "https://sts.example")], Ok("https://sts.example/"))]
    #[case::loopback(&[(ENDPOINT, "http://127.0.0.1:8080")], Ok("http://127.0.0.1:8080/"))]
    #[case::plaintext(&[(ENDPOINT, "http://sts.example")], Err("must be https://"))]
    fn the_endpoint_is_the_named_one_then_the_region_s(
        #[case] vars: &'static [(&'static str, &'static str)],
        #[case] expected: Result<&str, &str>,
    ) {
        match (sts_endpoint(&ProviderContext::of(vars)), expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (got, _) => panic!("{got:?}"),
        }
    }
}
