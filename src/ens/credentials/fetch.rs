//! Shared by the sources: one bounded HTTP exchange, and the JSON of session credentials.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;

use super::Credentials;
use crate::ens::redaction::Redaction;
use crate::ens::transport::{Handshake, explain};

/// Maximum length of an answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The HTTP clients of the sources.
#[derive(Debug, Clone)]
pub(super) struct Http {
    /// For services of this machine or network. Never uses a proxy.
    pub(super) direct: Client,
    /// For STS, by the configured proxy.
    pub(super) sts: Client,
}

/// A failed fetch of credentials, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct FetchError {
    why: String,
    is_passing: bool,
    /// The remedy, where the cause shows it.
    remedy: Option<String>,
}

impl FetchError {
    /// A failure that lasts until an operator acts.
    pub(super) fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_passing: false, remedy: None }
    }

    /// A failure that a later fetch may not have: an outage, throttling, a file that is being
    /// written.
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_passing: true, remedy: None }
    }

    /// Whether a later fetch may succeed without an operator's help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// What to do, where the cause shows it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// Both failures, of two ways to the same credentials.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            why: format!("{}; {}", self.why, other.why),
            is_passing: self.is_passing || other.is_passing,
            remedy: self.remedy.or(other.remedy),
        }
    }

    /// The same failure, with the place where it occurred.
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        Self { why: format!("{place}: {}", self.why), ..self }
    }

    /// The failure without these secrets, which a server may have repeated.
    pub(super) fn without(mut self, secrets: &Redaction) -> Self {
        secrets.clean(&mut self.why);
        self
    }
}

/// Parts of an error code with which a service asks for a later call.
const PASSING_CODES: &[&str] = &["Throttling", "ServiceUnavailable", "InternalError", "Busy"];

/// Sends one request, bounded from DNS to the last byte.
pub(super) async fn text(
    request: RequestBuilder,
    timeout: Duration,
) -> Result<(StatusCode, String), FetchError> {
    let failed = |error: reqwest::Error| {
        let remedy = Handshake::find(&error).map(|handshake| handshake.remedy);
        FetchError { why: explain(error), is_passing: remedy.is_none(), remedy }
    };
    let mut response = request.timeout(timeout).send().await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(FetchError::lasting("the answer is longer than 1 MiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text =
        String::from_utf8(bytes).map_err(|_| FetchError::lasting("the answer is not text"))?;
    Ok((response.status(), text))
}

/// As [`text`], but any status except 2xx is an error.
pub(super) async fn ok_text(
    request: RequestBuilder,
    timeout: Duration,
) -> Result<String, FetchError> {
    let (status, text) = text(request, timeout).await?;
    if status.is_success() { Ok(text) } else { Err(refusal(status, &text)) }
}

/// An error answer in one line: its code and message, never the whole body.
pub(super) fn refusal(status: StatusCode, body: &str) -> FetchError {
    let refusal = serde_json::from_str::<Refusal>(body).unwrap_or_default();
    let why = match (refusal.code.is_empty(), refusal.message.is_empty()) {
        (true, _) => format!("answered {status}"),
        (false, true) => format!("answered {status}: {}", refusal.code),
        (false, false) => format!("answered {status}: {} ({})", refusal.message, refusal.code),
    };
    let is_passing = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        || PASSING_CODES.iter().any(|part| refusal.code.contains(part));
    FetchError { why, is_passing, remedy: None }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Refusal {
    code: String,
    message: String,
}

/// Session credentials as STS, the metadata service and credential URIs return them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Session {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    access_key_secret: String,
    #[serde(default)]
    security_token: String,
    expiration: Option<Timestamp>,
}

impl Session {
    pub(super) fn parse(text: &str) -> Result<Self, FetchError> {
        // serde's message may quote the input, which holds secrets.
        serde_json::from_str(text)
            .map_err(|_| FetchError::lasting("the answer is not the JSON of session credentials"))
    }

    /// The credentials, if complete: a session needs an expiry and a token.
    pub(super) fn credentials(self) -> Result<Credentials, FetchError> {
        if let Some(code) = self.code.filter(|code| code != "Success") {
            return Err(FetchError::lasting(format!(
                "the answer's Code is {code:?}, not \"Success\""
            )));
        }
        let Some(expiration) = self.expiration else {
            return Err(FetchError::lasting("the answer has no Expiration"));
        };
        for (name, value) in [
            ("AccessKeyId", &self.access_key_id),
            ("AccessKeySecret", &self.access_key_secret),
            ("SecurityToken", &self.security_token),
        ] {
            if value.is_empty() {
                return Err(FetchError::lasting(format!("the answer has no {name}")));
            }
        }
        Ok(Credentials::new(self.access_key_id, self.access_key_secret)
            .with_token(self.security_token)
            .until(expiration))
    }
}
