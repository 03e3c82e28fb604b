//! What went wrong, once, in the form that both an RPC's status and `Attachment.error` are made from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stored::stored;
use super::{Code, InstanceId, InterfaceId, Reason, Timestamp, Unknown, random};

/// Longest message that a record keeps, in bytes.
const MAX_MESSAGE: usize = 1024;
/// Longest word of others that a record keeps, in bytes: a status, a code, an id.
pub(super) const MAX_WORD: usize = 256;

/// Shortens a text to at most so many bytes, by whole characters.
pub(super) fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

stored! {
    /// A refusal or a failure as callers get it. Built by [`Failure::new`] and refined by the methods below.
    #[derive(Clone, PartialEq, Debug, thiserror::Error)]
    #[error("{reason}: {message}")]
    pub struct Failure {
        /// What happened, for programs.
        pub reason: Reason = open,
        /// The canonical code; the reason's own unless a deadline decided otherwise.
        pub code: Code = open,
        /// What happened and what to do, for people.
        pub message: String,
        /// ENS's own error code; empty if ENS gave none.
        pub ens_code: String = optional,
        /// ENS's RequestId; empty if ENS gave none.
        pub ens_request_id: String = optional,
        /// `ErrorInfo.metadata`: `instanceId`, `networkInterfaceId`, `limit`, `attached`, `inFlight`, `observedAt`,
        /// `answeredAt`. `ensCode` and `ensRequestId` are added from the fields above.
        pub metadata: BTreeMap<String, String> = optional,
        /// How long to wait before another try (`RetryInfo`).
        pub retry_after: Option<Duration> = optional,
        /// Bad fields of the request, with what is wrong with each (`BadRequest`).
        pub fields: Vec<(String, String)> = optional,
    }
}

impl Failure {
    /// Cuts what others wrote into it to what a record has room for.
    pub fn trim(&mut self) {
        cut(&mut self.message, MAX_MESSAGE);
        cut(&mut self.ens_code, MAX_WORD);
        cut(&mut self.ens_request_id, MAX_WORD);
        self.metadata.values_mut().for_each(|value| cut(value, MAX_WORD));
    }

    /// About how many bytes it takes as JSON.
    #[must_use]
    pub fn size(&self) -> usize {
        let metadata = self.metadata.iter().map(|(name, value)| name.len() + value.len() + 6);
        let fields = self
            .fields
            .iter()
            .map(|(field, problem)| field.len() + problem.len() + 8);
        let texts = [&self.message, &self.ens_code, &self.ens_request_id].map(String::len);
        130 + texts.iter().sum::<usize>() + metadata.sum::<usize>() + fields.sum::<usize>() + self.unknown.size()
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
