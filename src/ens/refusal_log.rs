//! The log lines with ENS's own words, where callers do not receive them. One line for each code
//! and period, because a refusal of the account affects every call.

use super::classify::EnsReply;
use super::report::Action;
use crate::model::Reason;
use crate::sync::OncePerPeriod;

/// The codes that have their line in this period.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(OncePerPeriod<String>);

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
        if !refusal.message.is_empty() && self.0.is_first(refusal.code.clone()) {
            tracing::warn!(
                action = action.name(),
                code = refusal.code,
                message = refusal.message,
                ens_request_id = refusal.request_id,
                "ens refused a call"
            );
        }
    }
}
