//! Calls of ENS, signed as ENS wants them: the canonical request hashed, and its hash signed by
//! HMAC-SHA256.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Result;
use crate::side::{KEY_ID, KEY_SECRET};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The account's HTTP client.
pub(super) struct Account {
    http: Client,
    endpoint: String,
    host: String,
}

impl Account {
    pub(super) fn new(endpoint: &str) -> Result<Self> {
        Ok(Self {
            http: Client::builder()
                .no_proxy()
                .http1_only()
                .timeout(Duration::from_secs(8))
                .build()?,
            endpoint: endpoint.to_owned(),
            host: endpoint.trim_start_matches("http://").to_owned(),
        })
    }

    /// Describes an instance's ENIs.
    pub(super) async fn describe(&self, instance: &str) -> Result<()> {
        let query = format!("InstanceId={instance}&PageNumber=1&PageSize=50");
        self.call("DescribeNetworkInterfaces", &query).await.map(drop)
    }

    /// Attaches an ENI. The RequestId.
    pub(super) async fn attach(&self, instance: &str, eni: &str) -> Result<String> {
        let query = format!("InstanceId={instance}&NetworkInterfaceId={eni}");
        let answer = self.call("AttachNetworkInterface", &query).await?;
        Ok(answer["RequestId"].as_str().ok_or("no RequestId")?.to_owned())
    }

    async fn call(&self, action: &str, query: &str) -> Result<Value> {
        let date = jiff::Timestamp::try_from(SystemTime::now())?
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let nonce = format!("{:032x}", rand::random::<u128>());
        let headers = [
            ("host", self.host.as_str()),
            ("x-acs-action", action),
            ("x-acs-content-sha256", EMPTY),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", &nonce),
            ("x-acs-version", "2017-11-10"),
        ];
        let names = headers.map(|(name, _)| name).join(";");
        let lines = headers.map(|(name, value)| format!("{name}:{value}\n")).concat();
        let canonical = format!("POST\n/\n{query}\n{lines}\n{names}\n{EMPTY}");
        let to_sign = format!("ACS3-HMAC-SHA256\n{}", hex::encode(Sha256::digest(canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY_SECRET.as_bytes())?;
        mac.update(to_sign.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let authorization = format!(
            "ACS3-HMAC-SHA256 Credential={KEY_ID},SignedHeaders={names},Signature={signature}"
        );
        let mut request = self
            .http
            .post(format!("{}/?{query}", self.endpoint))
            .header("content-length", "0")
            .header("accept", "application/json")
            .header("user-agent", "floor")
            .header("authorization", authorization);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = request.send().await?.error_for_status()?.bytes().await?;
        Ok(serde_json::from_slice(&body)?)
    }
}
