//! Records Describe calls by id. Settles by compare-and-set on what each attempt was when the call
//! was sent.

use crate::model::{InterfaceId, Timestamp};

use super::super::command::{AttemptUpdate, EniObservation, Reply};
use super::super::record::AttemptState;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    pub(super) fn record_statuses(
        &mut self,
        sent_at: Timestamp,
        observations: &[(InterfaceId, EniObservation)],
    ) -> Reply {
        let mut attempts = Vec::with_capacity(observations.len());
        for (eni, observation) in observations {
            self.claimed.insert(eni.clone());
            self.on_observation(eni, sent_at, observation);
            self.verify_overdue(eni);
            let attempt = self.record.attempts.shared(eni);
            attempts.extend(
                attempt.map(|attempt| AttemptUpdate { resend: attempt.may_be_resent(), attempt }),
            );
        }
        Reply::Attempts(attempts)
    }

    /// An attempt without a result from its owner until the end of the lease has no response.
    fn verify_overdue(&mut self, eni: &InterfaceId) {
        let now = self.now();
        let lost = |attempt: &&super::Attempt| {
            matches!(attempt.state, AttemptState::Pending(_)) && attempt.poll_count > 0
        };
        if let Some(mut attempt) = self.record.attempts.get(eni).filter(lost).cloned()
            && attempt
                .last_send()
                .is_some_and(|send| send.counts_from() + self.context.bounds.lease <= now)
        {
            attempt.state.advance(AttemptState::Verifying);
            self.poll_again(attempt);
        }
    }
}
