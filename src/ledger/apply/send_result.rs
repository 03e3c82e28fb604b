//! How a send was answered, and what that proves.

use crate::model::{Failure, Reason, State, Unknown};

use super::super::bounds::{FIRST_POLL, LEARNED_LIMIT_LIFE};
use super::super::command::{AttemptUpdate, Reply, SendResult};
use super::super::record::{Attempt, LearnedLimit, RequestEntry, RequestKey};
use super::super::safety_checks::SafetyCheck;
use super::{RecordUpdate, on_the_second};

impl RecordUpdate<'_> {
    pub(super) fn record_send_result(&mut self, sent: &Attempt, answer: &SendResult) -> Reply {
        let Some(mut attempt) = self.find(sent, answer) else {
            return Reply::NotFound;
        };
        let Some(send_at) = sent.last_send().map(|send| send.at) else {
            return Reply::NotFound;
        };
        if *answer == SendResult::NoEffect {
            // Only this one, and only once: the command may come again because its reply was lost.
            attempt.sends.retain(|send| send.at != send_at);
        }
        if !matches!(answer, SendResult::NoResponse | SendResult::Unproven(_)) {
            let now = self.now();
            for send in attempt.sends.iter_mut().filter(|send| send.at == send_at) {
                send.answered_at.get_or_insert(now);
            }
        }
        if attempt.attachment.state.is_attaching() {
            self.on_send_result(attempt, answer);
        } else {
            self.on_late_send_result(attempt, answer);
        }
        let now = self
            .record
            .attempts
            .get(&sent.attachment.eni)
            .filter(|now| now.uid() == sent.uid());
        let settled = now.map(|attempt| AttemptUpdate {
            attempt: attempt.clone(),
            resend: false,
        });
        Reply::Attempts(settled.into_iter().collect())
    }

    /// The attempt in the ledger; if the ledger lost it and nobody took its place, as its owner remembers it.
    fn find(&self, sent: &Attempt, answer: &SendResult) -> Option<Attempt> {
        match self.record.attempts.get(&sent.attachment.eni) {
            Some(attempt) if attempt.uid() == sent.uid() => Some(attempt.clone()),
            Some(other) if !matches!(other.attachment.state, State::Failed | State::Detached) => None,
            // What was never sent need not come back.
            _ if *answer == SendResult::NoEffect => None,
            // Nobody knows how long ago its times were, should the epoch have changed.
            _ => Some(self.restarted(sent)),
        }
    }

    fn on_send_result(&mut self, mut attempt: Attempt, answer: &SendResult) {
        let now = self.now();
        if *answer != SendResult::NoEffect {
            // It can no longer be withdrawn.
            attempt.superseded = None;
        }
        match answer {
            SendResult::Accepted { ens_request_id } => {
                attempt.attachment.ens_request_id.clone_from(ens_request_id);
                attempt.refusal = None;
                attempt.observed_free_at = None;
                attempt.poll_count = 0;
                attempt.due_at = Some(on_the_second(now + FIRST_POLL));
                let enter = (attempt.attachment.state != State::Attaching).then_some(State::Attaching);
                let key = attempt.request.clone();
                self.put(attempt.clone(), enter);
                if let (Some(key), Some(put)) = (key, self.record.attempts.get(&attempt.attachment.eni)) {
                    let put = put.clone();
                    self.remember_answer(key, &put, State::Attaching);
                }
            }
            // Another copy is on its way already: what ENS says to this one is about that one.
            SendResult::Refused(_) | SendResult::StatusConflict(_) | SendResult::Unproven(_)
                if attempt.attachment.state == State::Attaching =>
            {
                self.record.attempts.insert(attempt.attachment.eni.clone(), attempt);
            }
            SendResult::Refused(failure) => self.refused(attempt, failure),
            SendResult::StatusConflict(failure) => {
                attempt.refusal = Some(failure.clone());
                attempt.due_at = Some(now);
                self.verify(attempt);
            }
            SendResult::NoEffect => self.withdraw(attempt),
            SendResult::Unproven(failure) => {
                attempt.refusal = Some(failure.clone());
                self.verify_after_lag(attempt);
            }
            SendResult::NoResponse => {
                if !self.enabled(SafetyCheck::AskBeforeResend) {
                    attempt.observed_free_at = Some(now);
                }
                self.verify_after_lag(attempt);
            }
        }
    }

    /// A describe that is sent sooner after the last send proves nothing.
    fn verify_after_lag(&mut self, mut attempt: Attempt) {
        let now = self.now();
        let shows = attempt
            .last_send()
            .map_or(now, |send| send.counts_from() + self.context.bounds.lag);
        attempt.due_at = Some(on_the_second(shows.max(now)));
        self.verify(attempt);
    }

    fn verify(&mut self, attempt: Attempt) {
        let enter = (attempt.attachment.state == State::Pending).then_some(State::Verifying);
        self.put(attempt, enter);
    }

    /// ENS refused this copy. That proves nothing about another copy that is unanswered, nor about one that the ledger may have lost.
    fn refused(&mut self, mut attempt: Attempt, failure: &Failure) {
        if failure.reason == Reason::EniLimitExceeded {
            self.learn_limit(&attempt);
        }
        let may_lack_a_copy = self.in_hold_down() && self.enabled(SafetyCheck::AbsenceInHold);
        if (attempt.has_unanswered_send() || may_lack_a_copy) && self.enabled(SafetyCheck::OtherCopies) {
            attempt.refusal = Some(failure.clone());
            return self.verify_after_lag(attempt);
        }
        attempt.attachment.error = Some(failure.clone());
        self.end(attempt, State::Failed);
    }

    fn learn_limit(&mut self, attempt: &Attempt) {
        let others = self
            .used_slots()
            .into_iter()
            .filter(|eni| **eni != attempt.attachment.eni)
            .count();
        let at = attempt.last_send().map_or(self.now(), |send| send.at);
        self.record.learned_limit = Some(LearnedLimit {
            limit: others,
            at,
            until: self.now() + LEARNED_LIMIT_LIFE,
            unknown: Unknown::default(),
        });
    }

    /// As if this send had never been written: without another one the attempt is erased, and the former state stays.
    fn withdraw(&mut self, mut attempt: Attempt) {
        if !attempt.sends.is_empty() {
            attempt.due_at = Some(on_the_second(self.now() + FIRST_POLL));
            return self.verify(attempt);
        }
        self.record.attempts.remove(&attempt.attachment.eni);
        if let Some(key) = attempt.request.take() {
            self.forget(key);
        }
        match attempt.superseded.take() {
            Some(former) => self.put(*former, None),
            None => {
                self.next_revision();
            }
        }
    }

    /// The tracker was faster: the state stays; what the answer adds is ENS's RequestId.
    fn on_late_send_result(&mut self, mut attempt: Attempt, answer: &SendResult) {
        if let SendResult::Accepted { ens_request_id } = answer
            && attempt.attachment.ens_request_id.is_empty()
        {
            attempt.attachment.ens_request_id.clone_from(ens_request_id);
            return self.put(attempt, None);
        }
        self.record.attempts.insert(attempt.attachment.eni.clone(), attempt);
    }

    /// Keeps the definite answer of the request that began the attempt: accepted, or refused for the caller's own reasons.
    pub(super) fn remember_answer(&mut self, key: RequestKey, attempt: &Attempt, state: State) {
        let refused = attempt.attachment.error.as_ref().filter(|_| state == State::Failed);
        if refused.is_some_and(|failure| !failure.reason.is_definite()) {
            return;
        }
        let answer = Some(crate::model::Attachment {
            state,
            ..attempt.attachment.clone()
        });
        self.remember(key, RequestEntry::new(attempt, answer));
    }
}
