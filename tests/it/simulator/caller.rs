//! A minimal caller of the OpenAPI: its own signer, and HTTP/1.1 over a plain socket, which shows a
//! reset as such.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use eni_gateway::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};

/// One HTTP answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// HTTP status and ENS's code; `ok` where there is none.
    pub(super) fn code(&self) -> (u16, String) {
        (self.status, self.json()["Code"].as_str().unwrap_or("ok").to_owned())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// Who calls.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) key: &'static str,
    pub(super) secret: &'static str,
    /// Sent instead of a new nonce.
    pub(super) nonce: Option<&'static str>,
    /// Seconds added to the date.
    pub(super) date_offset: i64,
}

impl Caller {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, key: DEFAULT_ID, secret: DEFAULT_SECRET, nonce: None, date_offset: 0 }
    }

    pub(super) async fn attach(&self, instance: &str, eni: &str) -> io::Result<Answer> {
        self.call(
            "AttachNetworkInterface",
            &[("InstanceId", instance), ("NetworkInterfaceId", eni)],
        )
        .await
    }

    /// The status of an ENI, as a describe shows it.
    pub(super) async fn status(&self, eni: &str) -> String {
        let answer =
            self.call("DescribeNetworkInterfaces", &[("NetworkInterfaceId", eni)]).await.unwrap();
        answer.json()["NetworkInterfaceSets"]["NetworkInterfaceSet"][0]["Status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Asks until an ENI has this status; fails after a minute.
    pub(super) async fn until_status(&self, eni: &str, status: &str) {
        super::eventually(|| async { self.status(eni).await == status }).await;
    }

    /// A signed call. Names and values must need no encoding.
    pub(super) async fn call(&self, action: &str, params: &[(&str, &str)]) -> io::Result<Answer> {
        let mut params: Vec<_> =
            params.iter().map(|(key, value)| format!("{key}={value}")).collect();
        params.sort();
        exchange(self.address, &self.request("POST", action, &params.join("&"))).await
    }

    pub(super) fn request(&self, method: &str, action: &str, query: &str) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let nonce =
            format!("nonce-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(self.date_offset);
        let body_hash = hex::encode(Sha256::digest(b""));
        let headers = [
            ("host", self.address.to_string()),
            ("x-acs-action", action.to_owned()),
            ("x-acs-content-sha256", body_hash.clone()),
            ("x-acs-date", date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("x-acs-signature-nonce", self.nonce.map_or(nonce, str::to_owned)),
            ("x-acs-version", "2017-11-10".to_owned()),
        ];
        let names = headers.each_ref().map(|(name, _)| *name).join(";");
        let canonical: String =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let request = format!("{method}\n/\n{query}\n{canonical}\n{names}\n{body_hash}");
        let text = format!("ACS3-HMAC-SHA256\n{}", hex::encode(Sha256::digest(request.as_bytes())));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let sent: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "{method} /?{query} HTTP/1.1\r\n{sent}authorization: ACS3-HMAC-SHA256 Credential={},SignedHeaders={names},\
             Signature={signature}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            self.key
        )
    }
}

/// An unsigned request.
pub(super) async fn plain(address: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(address, &request).await.unwrap()
}

/// Sends, and reads to the end of the connection. An answer shorter than it says is an
/// `UnexpectedEof`.
pub(super) async fn exchange(address: SocketAddr, request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    let promised = answer.header("content-length").and_then(|length| length.parse().ok());
    if promised.is_some_and(|length: usize| length != answer.body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
