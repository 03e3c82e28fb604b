//! What went wrong, once, in the form that both an RPC's status and `Attachment.error` are made from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Code, InstanceId, InterfaceId, Reason, Timestamp, random};

/// A refusal or a failure as callers get it. Built by [`Failure::new`] and refined by the methods below.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// What happened, for programs.
    pub reason: Reason,
    /// The canonical code; the reason's own unless a deadline decided otherwise.
    pub code: Code,
    /// What happened and what to do, for people.
    pub message: String,
    /// ENS's own error code; empty if ENS gave none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ens_code: String,
    /// ENS's RequestId; empty if ENS gave none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ens_request_id: String,
    /// `ErrorInfo.metadata`: `instanceId`, `networkInterfaceId`, `limit`, `attached`, `inFlight`, `observedAt`,
    /// `answeredAt`. `ensCode` and `ensRequestId` are added from the fields above.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How long to wait before another try (`RetryInfo`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// Bad fields of the request, with what is wrong with each (`BadRequest`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

impl Failure {
    /// A failure with the reason's own code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            code: reason.code(),
            message: message.into(),
            ens_code: String::new(),
            ens_request_id: String::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            fields: Vec::new(),
        }
    }

    /// With another canonical code than the reason's own.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// With ENS's own words for it.
    #[must_use]
    pub fn ens(mut self, code: impl Into<String>, request_id: impl Into<String>) -> Self {
        self.ens_code = code.into();
        self.ens_request_id = request_id.into();
        self
    }

    /// With one entry of metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// About this pair.
    #[must_use]
    pub fn about(self, instance: &InstanceId, eni: &InterfaceId) -> Self {
        self.with("instanceId", instance).with("networkInterfaceId", eni)
    }

    /// As ENS showed it at this time.
    #[must_use]
    pub fn observed_at(self, time: Timestamp) -> Self {
        self.with("observedAt", time)
    }

    /// To be tried again after this long.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// This replica is going away; `advice` is what to do. The delay is jittered, so that what one replica served does not come to the
    /// others all at once.
    #[must_use]
    pub fn draining(advice: &str) -> Self {
        let delay = Duration::from_millis(random::between(50..=1000));
        Self::new(Reason::Draining, format!("this replica is going away{advice}")).retry_after(delay)
    }

    /// A bad field of the request.
    pub fn invalid_field(field: &str, problem: impl ToString) -> Self {
        let mut failure = Self::new(Reason::InvalidField, format!("{field} {}", problem.to_string()));
        failure.fields.push((field.to_owned(), problem.to_string()));
        failure
    }
}
