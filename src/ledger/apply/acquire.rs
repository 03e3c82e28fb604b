//! The acquire command. Answers from the record, queues, grants the lock, or reserves a slot and
//! records the send.

use std::sync::Arc;

use crate::model::{Failure, InterfaceId, Reason, State, Ticket, Uid};

use super::super::bounds::LEASE_MARGIN;
use super::super::command::{Acquire, LeaseGrant, Mode, Reply};
use super::super::record::{Attempt, AttemptState, InFlight, LockGrant, RequestEntry, SendEntry};
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    pub(super) fn acquire_slot(&mut self, wanted: &Acquire) -> Reply {
        if let Some(reply) = self.known(wanted) {
            return reply;
        }
        if let Some(freeze) = &self.context.partition.freeze {
            return Reply::Frozen(freeze.clone());
        }
        if let Some(exceeded) = self.capacity_exceeded_for(&wanted.eni) {
            self.clear_queue(wanted.ticket);
            return Reply::CapacityExceeded(exceeded);
        }
        if self.in_hold_down() {
            return Reply::Recovering(self.context.partition.hold_down_until);
        }
        if wanted.mode == Mode::Query {
            return Reply::Admissible;
        }
        let grant = match self.acquire(wanted.ticket) {
            Ok(grant) => grant,
            Err(ahead) => return Reply::Queued { ahead },
        };
        let stale = self.recent_observation().is_none();
        if stale || wanted.mode == Mode::Enqueue {
            return Reply::Granted { grant, stale, free_slots: self.free_slots() };
        }
        self.reserve(wanted, grant)
    }

    /// Answers without the lock: a replay, a join, or an ENI that is already attached. Only a
    /// request id that began an attempt is remembered. The others sent nothing and may be repeated.
    fn known(&mut self, wanted: &Acquire) -> Option<Reply> {
        let attempt = self.record.attempts.get(&wanted.eni);
        if let Some(entry) = self.context.request {
            if entry.eni != wanted.eni {
                return Some(Reply::RequestIdReused(entry.clone()));
            }
            let current = attempt.filter(|attempt| attempt.uid == entry.uid);
            let refused = current.and_then(|attempt| attempt.state.error());
            let ended = refused.is_some_and(|failure| failure.reason.is_definite());
            if entry.answer.is_some() || ended {
                let answer = current.map(Attempt::attachment).or_else(|| entry.answer.clone());
                return Some(Reply::Replayed(RequestEntry { answer, ..entry.clone() }));
            }
        }
        let attempt = attempt?;
        let shared = || self.record.attempts.shared(&wanted.eni);
        match attempt.state.kind() {
            State::Failed | State::Detached => None,
            State::Attached if self.is_unconfirmed(attempt) => {
                Some(Reply::Unconfirmed { until: self.settles_at(attempt) })
            }
            State::Attached | State::Detaching => {
                let fresh =
                    attempt.described_at.is_some_and(|asked_at| asked_at >= wanted.confirmed_since);
                Some(Reply::AlreadyAttached { attempt: shared()?, fresh })
            }
            State::Pending if attempt.uid == wanted.uid => {
                let attempt = shared()?;
                self.reserved_before(wanted.ticket, attempt)
            }
            State::Pending | State::Verifying | State::Attaching | State::Unknown => {
                Some(Reply::Joined(shared()?))
            }
        }
    }

    /// Repeats the answer to the same command after its reply was lost, while the grant lasts.
    fn reserved_before(&mut self, ticket: Ticket, attempt: Arc<Attempt>) -> Option<Reply> {
        let is_held = |grant: &LockGrant| grant.ticket == ticket && !grant.provisional;
        let held = self.record.lock.as_ref().is_some_and(is_held);
        Some(match held.then(|| self.acquire(ticket).ok()).flatten() {
            Some(grant) => Reply::Reserved { grant, attempt, free_slots: self.free_slots() },
            None => Reply::Joined(attempt),
        })
    }

    /// Reserves a slot and records the send, under the grant and with a valid observation.
    fn reserve(&mut self, wanted: &Acquire, grant: LeaseGrant) -> Reply {
        let now = self.now();
        let previous = self.record.attempts.get(&wanted.eni).cloned();
        let seen_here_at = previous.as_ref().and_then(|previous| previous.observed_attached_at);
        let attempt = Attempt {
            sends: vec![SendEntry::new(now)],
            observed_attached_at: seen_here_at,
            was_recently_attached: seen_here_at
                .is_some_and(|seen| seen + self.context.bounds.lag >= now),
            state: AttemptState::Pending(InFlight {
                superseded: previous.map(Box::new),
                ..InFlight::new(grant.expires_at + LEASE_MARGIN)
            }),
            trace: wanted.trace.clone(),
            request: wanted.request.clone(),
            caller: wanted.caller.clone(),
            ..Attempt::new(self.context.instance, &wanted.eni, wanted.uid, now)
        };
        if let Some(key) = &wanted.request {
            self.remember(key.clone(), RequestEntry::new(&attempt.eni, attempt.uid, None));
        }
        self.put(attempt);
        self.reserved_reply(&wanted.eni, grant)
    }

    /// Permits another send for an attempt without a response whose ENI a later Describe call shows
    /// as free. As a first send, it needs a valid observation: an external attachment may have
    /// taken its slot.
    pub(super) fn resend(&mut self, ticket: Ticket, uid: Uid, eni: &InterfaceId) -> Reply {
        let may = |attempt: &&Attempt| attempt.uid == uid && attempt.may_be_resent();
        let Some(mut attempt) = self.record.attempts.get(eni).filter(may).cloned() else {
            self.release_place(ticket);
            return Reply::NotFound;
        };
        if self.in_hold_down() {
            return Reply::Recovering(self.context.partition.hold_down_until);
        }
        let grant = match self.acquire(ticket) {
            Ok(grant) => grant,
            Err(ahead) => return Reply::Queued { ahead },
        };
        // The slot is reserved, but external attachments may have come since.
        if self.recent_observation().is_none() {
            let (stale, free_slots) = (true, self.free_slots());
            return Reply::Granted { grant, stale, free_slots };
        }
        if let Some(exceeded) = self.capacity_exceeded_for(eni) {
            let why = "sent without an answer that settles it, and not again: others have filled the instance since; detach another eni first";
            let refusal = Failure::new(Reason::NotApplied, why).with("limit", exceeded.limit);
            attempt.state.refuse(refusal);
            self.keep(attempt);
            self.release_place(ticket);
            return Reply::NotFound;
        }
        if self.enabled(SafetyCheck::SendWritten) {
            attempt.sends.push(SendEntry::new(self.now()));
        }
        attempt.poll_count = 0;
        attempt.state.advance(AttemptState::Verifying);
        attempt.state.schedule(grant.expires_at + LEASE_MARGIN, attempt.state.is_stuck());
        self.keep(attempt);
        self.reserved_reply(eni, grant)
    }

    fn reserved_reply(&self, eni: &InterfaceId, grant: LeaseGrant) -> Reply {
        match self.record.attempts.shared(eni) {
            Some(attempt) => Reply::Reserved { grant, attempt, free_slots: self.free_slots() },
            None => Reply::NotFound,
        }
    }
}
