//! Describes by id: settling by compare-and-set on what each attempt was when it was asked for.

use crate::model::{InterfaceId, State, Timestamp};

use super::super::command::{Finding, Reply, Settled};
use super::Turn;

impl Turn<'_> {
    pub(super) fn settle(&mut self, sent_at: Timestamp, findings: &[(InterfaceId, Finding)]) -> Reply {
        let mut attempts = Vec::with_capacity(findings.len());
        for (eni, finding) in findings {
            self.claimed.insert(eni.clone());
            self.look(eni, sent_at, finding);
            self.overdue(eni);
            attempts.extend(self.record.attempts.get(eni).map(|attempt| Settled {
                attempt: attempt.clone(),
                resend: attempt.may_be_resent(),
            }));
        }
        Reply::Attempts(attempts)
    }

    /// An attempt whose owner said nothing until its lease was over went unanswered.
    fn overdue(&mut self, eni: &InterfaceId) {
        let now = self.now();
        let lost = |attempt: &&super::Attempt| attempt.attachment.state == State::Pending && attempt.looks > 0;
        if let Some(attempt) = self.record.attempts.get(eni).filter(lost).cloned()
            && attempt
                .last_send()
                .is_some_and(|send| send.counts_from() + self.context.bounds.lease <= now)
        {
            self.look_again(attempt, Some(State::Verifying));
        }
    }
}
