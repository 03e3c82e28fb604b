//! Records the result of a send, and what it proves.

use crate::model::{Failure, Reason, State, Timestamp, Unknown};

use super::super::bounds::{FIRST_POLL, LEARNED_LIMIT_LIFE};
use super::super::command::{AttemptUpdate, Reply, SendResult};
use super::super::record::{
    Attempt, AttemptState, InFlight, LearnedLimit, RequestEntry, RequestKey,
};
use super::super::safety_checks::SafetyCheck;
use super::{RecordUpdate, on_the_second};

impl RecordUpdate<'_> {
    pub(super) fn record_send_result(&mut self, sent: &Attempt, result: &SendResult) -> Reply {
        let Some(mut attempt) = self.find(sent, result) else {
            return Reply::NotFound;
        };
        let Some(send_at) = sent.last_send().map(|send| send.at) else {
            return Reply::NotFound;
        };
        if *result == SendResult::NoEffect {
            // Only this send, and only once: the command may be repeated because its reply was
            // lost.
            attempt.sends.retain(|send| send.at != send_at);
        }
        if !matches!(result, SendResult::NoResponse | SendResult::Unproven(_)) {
            let now = self.now();
            for send in attempt.sends.iter_mut().filter(|send| send.at == send_at) {
                send.answered_at.get_or_insert(now);
            }
        }
        if attempt.state.in_flight().is_some() {
            self.on_send_result(attempt, result);
        } else {
            self.on_late_send_result(attempt, result);
        }
        let now = self.record.attempts.shared(&sent.eni).filter(|now| now.uid == sent.uid);
        let settled = now.map(|attempt| AttemptUpdate { attempt, resend: false });
        Reply::Attempts(settled.into_iter().collect())
    }

    /// The attempt in the ledger. If the ledger lost it and no other took its place, the owner's
    /// copy.
    fn find(&self, sent: &Attempt, result: &SendResult) -> Option<Attempt> {
        match self.record.attempts.get(&sent.eni) {
            Some(attempt) if attempt.uid == sent.uid => Some(attempt.clone()),
            Some(other) if !super::has_ended(other) => None,
            // An attempt that was never sent need not be restored.
            _ if *result == SendResult::NoEffect => None,
            // The age of its times is unknown if the epoch changed.
            _ => Some(self.restarted(sent)),
        }
    }

    fn on_send_result(&mut self, mut attempt: Attempt, result: &SendResult) {
        let (now, eni) = (self.now(), attempt.eni.clone());
        if let (true, Some(flight)) =
            (*result != SendResult::NoEffect, attempt.state.in_flight_mut())
        {
            // It can no longer be withdrawn.
            flight.superseded = None;
        }
        match result {
            SendResult::Accepted { ens_request_id } => {
                attempt.ens_request_id.clone_from(ens_request_id);
                attempt.poll_count = 0;
                attempt.state.advance(|flight| {
                    AttemptState::Attaching(InFlight {
                        due_at: on_the_second(now + FIRST_POLL),
                        refusal: None,
                        ..flight
                    })
                });
                self.put(attempt);
                let accepted = self.record.attempts.shared(&eni);
                if let Some((key, accepted)) =
                    accepted.and_then(|accepted| Some((accepted.request.clone()?, accepted)))
                {
                    self.remember_answer(key, &accepted);
                }
            }
            // Another copy is already on its way. ENS's answer to this one concerns that one.
            SendResult::Refused(_) | SendResult::StatusConflict(_) | SendResult::Unproven(_)
                if attempt.state.kind() == State::Attaching =>
            {
                self.keep(attempt);
            }
            SendResult::Refused(failure) => self.refused(attempt, failure),
            SendResult::StatusConflict(failure) => {
                attempt.state.refuse(failure.clone());
                self.verify(attempt, now);
            }
            SendResult::NoEffect => self.withdraw(attempt),
            SendResult::Unproven(failure) => {
                attempt.state.refuse(failure.clone());
                self.verify_after_lag(attempt);
            }
            SendResult::NoResponse => {
                if !self.enabled(SafetyCheck::AskBeforeResend) {
                    attempt.state.advance(AttemptState::Resendable);
                }
                self.verify_after_lag(attempt);
            }
        }
    }

    /// A Describe call sent sooner after the last send proves nothing.
    fn verify_after_lag(&mut self, attempt: Attempt) {
        let now = self.now();
        let shows =
            attempt.last_send().map_or(now, |send| send.counts_from() + self.context.bounds.lag);
        self.verify(attempt, on_the_second(shows.max(now)));
    }

    fn verify(&mut self, mut attempt: Attempt, due_at: Timestamp) {
        if matches!(attempt.state, AttemptState::Pending(_)) {
            attempt.state.advance(AttemptState::Verifying);
        }
        attempt.state.schedule(due_at, attempt.state.is_stuck());
        self.put(attempt);
    }

    /// ENS refused this copy. That proves nothing about another copy without a response, nor about
    /// one that the ledger may have lost.
    fn refused(&mut self, mut attempt: Attempt, failure: &Failure) {
        if failure.reason == Reason::EniLimitExceeded {
            self.learn_limit(&attempt);
        }
        let may_lack_a_copy = self.in_hold_down() && self.enabled(SafetyCheck::AbsenceInHoldDown);
        if (attempt.has_unanswered_send() || may_lack_a_copy)
            && self.enabled(SafetyCheck::OtherCopies)
        {
            attempt.state.refuse(failure.clone());
            return self.verify_after_lag(attempt);
        }
        self.end(attempt, AttemptState::failed(failure.clone()));
    }

    fn learn_limit(&mut self, attempt: &Attempt) {
        let others = self.used_slots().into_iter().filter(|eni| **eni != attempt.eni).count();
        let at = attempt.last_send().map_or(self.now(), |send| send.at);
        self.record.learned_limit = Some(LearnedLimit {
            limit: others,
            at,
            until: self.now() + LEARNED_LIMIT_LIFE,
            unknown: Unknown::default(),
        });
    }

    /// Withdraws this send. Without another send the attempt is erased, and the state before it
    /// stays.
    fn withdraw(&mut self, mut attempt: Attempt) {
        if !attempt.sends.is_empty() {
            let due_at = on_the_second(self.now() + FIRST_POLL);
            return self.verify(attempt, due_at);
        }
        self.record.attempts.remove(&attempt.eni);
        if let Some(key) = attempt.request.take() {
            self.forget(key);
        }
        let superseded = attempt.state.in_flight_mut().and_then(|flight| flight.superseded.take());
        match superseded {
            Some(previous) => self.put(*previous),
            None => {
                self.next_revision();
            }
        }
    }

    /// The tracker was faster. The state stays, and the result only adds ENS's RequestId.
    fn on_late_send_result(&mut self, mut attempt: Attempt, result: &SendResult) {
        if let SendResult::Accepted { ens_request_id } = result
            && attempt.ens_request_id.is_empty()
        {
            attempt.ens_request_id.clone_from(ens_request_id);
            return self.put(attempt);
        }
        self.keep(attempt);
    }

    /// Keeps the definite answer of the request that began the attempt: accepted, or refused for
    /// the caller's own reasons. Forgets the request if there is no such instance: nothing can have
    /// changed, and such requests must not fill the store.
    pub(super) fn remember_answer(&mut self, key: RequestKey, attempt: &Attempt) {
        if attempt.found_no_instance() {
            return self.forget(key);
        }
        let error = attempt.state.error();
        if error.is_none_or(|failure| failure.reason.is_definite()) {
            let answer = Some(attempt.attachment());
            self.remember(key, RequestEntry::new(&attempt.eni, attempt.uid, answer));
        }
    }
}
