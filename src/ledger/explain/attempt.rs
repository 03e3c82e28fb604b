//! The sentences about one attempt.

use serde_json::json;

use super::super::record::{Attempt, AttemptState};
use super::{Explainer, Statement, Subject, is_attached, statement};

impl Explainer<'_> {
    pub(super) fn attempt(&self, attempt: &Attempt) -> Statement {
        let kind = attempt.state.kind();
        let mut text = self.state(attempt);
        if let Some(refusal) = attempt.state.refusal() {
            text += &format!(
                " ENS refused one copy of the request ({}: {}), and another copy may still have \
                 been applied.",
                refusal.reason.name(),
                refusal.message
            );
        }
        if attempt.state.is_stuck() {
            text += " It is stuck: it has been in flight for longer than tracker.stuck_after.";
        }
        if let Some(due_at) = attempt.state.due_at() {
            text += &format!(" A replica describes it next at {}.", self.at(due_at));
        }
        if !attempt.ens_status.is_empty() {
            let time = attempt.observed_at.map(|time| format!(" at {}", self.at(time)));
            text += &format!(
                " ENS's last status is {}{}.",
                attempt.ens_status,
                time.unwrap_or_default()
            );
        }
        let facts = json!({
            "known": true,
            "state": kind.name(),
            "uid": attempt.uid.to_string(),
            "fromGateway": attempt.is_from_gateway(),
            "usesSlot": attempt.is_reserved() || is_attached(attempt),
            "sends": attempt.sends.len(),
            "unansweredSends": attempt.has_unanswered_send(),
            "nextDescribe": attempt.state.due_at().map(|at| at.to_string()),
            "stuck": attempt.state.is_stuck(),
            "reason": attempt.state.error().map(|error| error.reason.name()),
            "ensStatus": attempt.ens_status,
            "ensRequestId": attempt.ens_request_id,
            "updatedAt": attempt.updated_at.to_string(),
        });
        statement(Subject::Attempt, Some(&attempt.eni), text, facts)
    }

    fn state(&self, attempt: &Attempt) -> String {
        let updated = self.at(attempt.updated_at);
        let sent = attempt.last_send().map_or_else(
            || "nothing was sent yet".to_owned(),
            |send| format!("the last of {} sends was at {}", attempt.sends.len(), self.at(send.at)),
        );
        match &attempt.state {
            AttemptState::Pending(_) => format!(
                "PENDING: a slot is reserved since {}, and {sent}. ENS has not answered yet.",
                self.at(attempt.created_at)
            ),
            AttemptState::Verifying(_) => format!(
                "VERIFYING: {sent}, and ENS's answer is missing or proves nothing. A describe after \
                 {} that does not show it here proves that nothing was applied.",
                self.at(attempt.grace_ends(self.bounds))
            ),
            AttemptState::Resendable(_) => format!(
                "VERIFYING: {sent}, and ENS shows the network interface free since. The attach may \
                 be sent again."
            ),
            AttemptState::Attaching(_) => {
                format!(
                    "ATTACHING since {updated}: ENS accepted the attach, or shows it attaching."
                )
            }
            AttemptState::Attached(attached) => match &attached.unconfirmed {
                None => format!("ATTACHED since {updated}."),
                Some(unconfirmed) => format!(
                    "ATTACHED, but unconfirmed: the describe of {} did not show it here. That may \
                     be the past, so ENS is asked again.",
                    self.at(unconfirmed.since)
                ),
            },
            AttemptState::Failed(failed) => format!(
                "FAILED at {updated} with {}: {} It uses no slot.",
                failed.error.reason.name(),
                sentence(&failed.error.message)
            ),
            AttemptState::Detaching(_) => {
                format!("DETACHING since {updated}. It uses its slot until ENS no longer shows it.")
            }
            AttemptState::Detached(_) => format!("DETACHED at {updated}. It uses no slot."),
            AttemptState::Unknown(_) => {
                "In a state that this version does not know. It uses its slot.".to_owned()
            }
        }
    }
}

/// A message as a sentence.
fn sentence(message: &str) -> String {
    let end = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{message}{end}")
}
