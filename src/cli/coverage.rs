//! The completeness of a read and the age of its describe, in words.

use std::fmt;
use std::time::Duration;

use prost_types::Timestamp;
use serde_json::{Value, json};

use super::json::rfc3339;
use crate::grpc::proto::{Heartbeat, ListAttachmentsResponse};

/// The completeness of a read of a whole instance.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Coverage {
    pub(super) observe_time: Option<Timestamp>,
    pub(super) incomplete: bool,
}

impl From<&ListAttachmentsResponse> for Coverage {
    fn from(page: &ListAttachmentsResponse) -> Self {
        Self { observe_time: page.observe_time, incomplete: page.incomplete }
    }
}

impl From<&Heartbeat> for Coverage {
    fn from(heartbeat: &Heartbeat) -> Self {
        Self { observe_time: heartbeat.observe_time, incomplete: heartbeat.incomplete }
    }
}

impl Coverage {
    /// The coverage of two pages of a list: the weaker of both.
    pub(super) fn and(self, other: Self) -> Self {
        let when = |coverage: &Self| coverage.observe_time.map(|time| (time.seconds, time.nanos));
        Self {
            observe_time: std::cmp::min_by_key(self, other, when).observe_time,
            incomplete: self.incomplete || other.incomplete,
        }
    }

    /// The fields of a warning, for scripts.
    pub(super) fn to_json(self) -> Value {
        let mut fields = json!({"incomplete": self.incomplete});
        if let Some(time) = self.observe_time.and_then(rfc3339) {
            fields["observeTime"] = time.into();
        }
        fields
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.observe_time.and_then(age_and_time) {
            Some(age) => write!(f, "ENS was last asked for the whole instance {age}"),
            None => f.write_str("ENS was never asked for the whole instance"),
        }
    }
}

/// A time and its age by this machine's clock: `3m 5s ago (2026-11-23T09:00:00Z)`. `None` for an
/// invalid time.
pub(super) fn age_and_time(time: Timestamp) -> Option<String> {
    Some(format!("{} ({})", age(time)?, rfc3339(time)?))
}

/// The age of a time by this machine's clock: `3m 5s ago`. `None` for an invalid time.
pub(super) fn age(time: Timestamp) -> Option<String> {
    let then = jiff::Timestamp::new(time.seconds, time.nanos).ok()?;
    let seconds = jiff::Timestamp::now().duration_since(then).as_secs();
    let ago = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Some(format!("{} ago", humantime::format_duration(ago)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: Option<i64>, incomplete: bool) -> Coverage {
        Coverage {
            observe_time: seconds.map(|seconds| Timestamp { seconds, nanos: 0 }),
            incomplete,
        }
    }

    #[test]
    fn pages_claim_no_more_than_the_weakest() {
        assert_eq!(at(Some(5), false).and(at(Some(3), false)), at(Some(3), false));
        assert_eq!(at(Some(5), false).and(at(None, true)), at(None, true));
        assert_eq!(at(Some(3), true).and(at(Some(9), false)), at(Some(3), true));
    }

    #[test]
    fn an_age_is_shown_in_plain_words() {
        let time = jiff::Timestamp::now() - Duration::from_secs(3 * 24 * 3600 + 7200);
        let coverage = at(Some(time.as_second()), true);
        let text = coverage.to_string();
        assert!(text.starts_with("ENS was last asked for the whole instance 3days 2h"), "{text}");
        assert_eq!(at(None, true).to_string(), "ENS was never asked for the whole instance");
        assert_eq!(at(None, true).to_json(), json!({"incomplete": true}));
    }
}
