//! The endpoint of STS, and its answers.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;
use url::{Host, Position, Url};

use super::Credentials;
use super::context::ProviderContext;
use super::fetch::{FetchError, Session, ok_text};

const ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
const REGION: &str = "ALIBABA_CLOUD_STS_REGION";
const VPC: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";

/// The version of STS's API.
pub(super) const VERSION: &str = "2015-04-01";
/// The name of a session without another one.
pub(super) const SESSION_NAME: &str = "eni-gateway";
/// The lifetime of a session in seconds, which every role permits.
pub(super) const DURATION_SECONDS: u32 = 3600;

const TIMEOUT: Duration = Duration::from_secs(5);

/// What a profile says about STS. Its own values come before those of the environment.
#[derive(Debug, Default)]
pub(super) struct Preference {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) vpc: Option<bool>,
}

/// An endpoint of STS.
#[derive(Debug)]
pub(super) struct Sts(Url);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StsReply {
    credentials: Session,
}

impl Sts {
    /// The configured endpoint, else the region's (in the VPC if configured), else the central one.
    pub(super) fn find(context: &ProviderContext, preference: Preference) -> Result<Self, String> {
        let endpoint = preference.endpoint.or_else(|| context.var(ENDPOINT));
        let region = preference.region.or_else(|| context.var(REGION));
        let host = match (endpoint, region) {
            (Some(endpoint), _) => endpoint,
            (None, Some(region)) if preference.vpc.unwrap_or_else(|| context.is_true(VPC)) => {
                format!("sts-vpc.{region}.aliyuncs.com")
            }
            (None, Some(region)) => format!("sts.{region}.aliyuncs.com"),
            (None, None) => "sts.aliyuncs.com".to_owned(),
        };
        let text = if host.contains("://") { host.clone() } else { format!("https://{host}") };
        let url = Url::parse(&text).map_err(|_| format!("{host:?} is not an endpoint of sts"))?;
        // What is sent there is as sensitive as a password.
        let loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if loopback => Ok(Self(url)),
            _ => Err(format!(
                "{ENDPOINT} must be https://, because credentials would be readable on the network"
            )),
        }
    }

    /// The endpoint's URL.
    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }

    /// `Host` as on the wire.
    pub(super) fn host(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Sends a request and reads the session in its answer.
    pub(super) async fn session(
        &self,
        request: RequestBuilder,
        action: &str,
    ) -> Result<Credentials, FetchError> {
        let place = format!("sts at {}", self.0.host_str().unwrap_or_default());
        let text = ok_text(request.header("accept", "application/json"), TIMEOUT).await;
        let text = text.map_err(|error| error.at(&place))?;
        let answer: StsReply = serde_json::from_str(&text).map_err(|_| {
            FetchError::lasting(format!("{place}: the answer is not the JSON of {action}"))
        })?;
        answer.credentials.credentials().map_err(|error| error.at(&place))
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
        match (Sts::find(&ProviderContext::of(vars), Preference::default()), expected) {
            (Ok(sts), Ok(expected)) => assert_eq!(sts.url().as_str(), expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (got, _) => panic!("{got:?}"),
        }
    }

    #[test]
    fn a_profile_comes_before_the_environment() {
        let context = ProviderContext::of(&[(REGION, "cn-hangzhou"), (VPC, "true")]);
        let preference = Preference {
            region: Some("cn-beijing".to_owned()),
            vpc: Some(false),
            ..Preference::default()
        };
        let sts = Sts::find(&context, preference).expect("an endpoint");
        assert_eq!(sts.host(), "sts.cn-beijing.aliyuncs.com");
    }

    #[test]
    fn the_host_has_a_port_where_the_wire_has_one() {
        for (endpoint, host) in [
            ("https://sts.example:443", "sts.example"),
            ("https://sts.example:8443", "sts.example:8443"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            let endpoint = Some(endpoint.to_owned());
            let preference = Preference { endpoint, ..Preference::default() };
            let sts = Sts::find(&ProviderContext::of(&[]), preference).expect("an endpoint");
            assert_eq!(sts.host(), host);
        }
    }
}
