//! A failure in the form from which an RPC's status and `Attachment.error` are made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stored::stored;
use super::{Code, InstanceId, InterfaceId, Reason, Timestamp, Unknown, random};

/// Maximum length of a recorded message, in bytes.
const MAX_MESSAGE: usize = 1024;
/// Maximum length of a recorded status, code or id from outside, in bytes.
pub(crate) const MAX_WORD: usize = 256;

/// Shortens a text to at most `most` bytes, at a character boundary.
pub(crate) fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

stored! {
    /// A failure as callers receive it, built by [`Failure::new`] and the methods below.
    #[derive(Clone, PartialEq, Debug, thiserror::Error)]
    #[error("{reason}: {message}")]
    pub struct Failure {
        /// The reason, for programs.
        pub reason: Reason = open,
        /// The canonical code: the reason's, unless a deadline decided.
        pub code: Code = open,
        /// The cause and the remedy, for people.
        pub message: String,
        /// ENS's error code; empty without one.
        pub ens_code: String = optional,
        /// ENS's RequestId; empty without one.
        pub ens_request_id: String = optional,
        /// `ErrorInfo.metadata`: `instanceId`, `networkInterfaceId`, `limit`, `attached`,
        /// `inFlight`, `observedAt`, `answeredAt`. The fields above add `ensCode` and
        /// `ensRequestId`.
        pub metadata: BTreeMap<String, String> = optional,
        /// Delay before a retry (`RetryInfo`).
        pub retry_after: Option<Duration> = optional,
        /// Bad fields of the request, each with its problem (`BadRequest`).
        pub fields: Vec<(String, String)> = optional,
    }
}

impl Failure {
    /// Cuts texts from outside to the limits of a record.
    pub fn trim(&mut self) {
        cut(&mut self.message, MAX_MESSAGE);
        cut(&mut self.ens_code, MAX_WORD);
        cut(&mut self.ens_request_id, MAX_WORD);
        self.metadata.values_mut().for_each(|value| cut(value, MAX_WORD));
    }

    /// Approximate size as JSON, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let metadata = self.metadata.iter().map(|(name, value)| name.len() + value.len() + 6);
        let fields = self.fields.iter().map(|(field, problem)| field.len() + problem.len() + 8);
        let texts = [&self.message, &self.ens_code, &self.ens_request_id].map(String::len);
        130 + texts.iter().sum::<usize>()
            + metadata.sum::<usize>()
            + fields.sum::<usize>()
            + self.unknown.size()
    }

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
            unknown: Unknown::default(),
        }
    }

    /// Sets another canonical code than the reason's own.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Sets ENS's code and RequestId.
    #[must_use]
    pub fn ens(mut self, code: impl Into<String>, request_id: impl Into<String>) -> Self {
        self.ens_code = code.into();
        self.ens_request_id = request_id.into();
        self
    }

    /// Adds one entry of metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds the instance and the ENI.
    #[must_use]
    pub fn about(self, instance: &InstanceId, eni: &InterfaceId) -> Self {
        self.with("instanceId", instance).with("networkInterfaceId", eni)
    }

    /// Adds the time of the observation.
    #[must_use]
    pub fn observed_at(self, time: Timestamp) -> Self {
        self.with("observedAt", time)
    }

    /// Sets the delay before a retry.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The failure of a draining replica; `advice` is the remedy. The delay is jittered, so that
    /// its callers spread over the other replicas.
    #[must_use]
    pub fn draining(advice: &str) -> Self {
        let delay = Duration::from_millis(random::between(50..=1000));
        Self::new(Reason::Draining, format!("this replica is shutting down{advice}"))
            .retry_after(delay)
    }

    /// A bad field of the request.
    pub fn invalid_field(field: &str, problem: impl ToString) -> Self {
        let mut failure =
            Self::new(Reason::InvalidField, format!("{field} {}", problem.to_string()));
        failure.fields.push((field.to_owned(), problem.to_string()));
        failure
    }
}
