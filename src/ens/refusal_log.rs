//! The log lines with ENS's own words, where callers do not receive them. One line for each code
//! and period, because a refusal of the account affects every call.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::classify::EnsReply;
use super::report::Action;
use crate::model::Reason;

/// Minimum time between two lines about the same code.
const PERIOD: Duration = Duration::from_secs(10);
/// Maximum number of codes in one period. Further ones have no line.
const MAX_CODES: usize = 32;

/// The codes that have their line in this period.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(Mutex<Option<(Instant, BTreeSet<String>)>>);

impl RefusalLog {
    /// Logs what ENS wrote, if no caller receives it.
    pub(super) fn log(&self, action: Action, reply: &EnsReply) {
        let refusal = match reply {
            EnsReply::Refused(refusal) if Reason::of_ens_code(&refusal.code).is_of_account() => {
                refusal
            }
            EnsReply::Throttled { refusal, .. }
            | EnsReply::Unsettled { refusal: Some(refusal), .. } => refusal,
            _ => return,
        };
        if !refusal.message.is_empty() && self.is_first(&refusal.code) {
            tracing::warn!(
                action = action.name(),
                code = refusal.code,
                message = refusal.message,
                ens_request_id = refusal.request_id,
                "ens refused a call"
            );
        }
    }

    fn is_first(&self, code: &str) -> bool {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let current = period.take().filter(|(since, _)| now.duration_since(*since) < PERIOD);
        let (_, codes) = period.insert(current.unwrap_or_else(|| (now, BTreeSet::new())));
        codes.len() < MAX_CODES && codes.insert(code.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_code_has_one_line_in_a_period() {
        let log = RefusalLog::default();
        assert_eq!(["a", "a", "b"].map(|code| log.is_first(code)), [true, false, true]);
        tokio::time::advance(PERIOD).await;
        assert!(log.is_first("a"));
    }

    #[test]
    fn the_number_of_codes_is_bounded() {
        let log = RefusalLog::default();
        let lines = (0..1000).filter(|number| log.is_first(&number.to_string())).count();
        assert_eq!(lines, MAX_CODES);
    }
}
