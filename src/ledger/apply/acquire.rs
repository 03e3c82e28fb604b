//! The way in: answered from what is known, or queued, or granted, or with a slot reserved and the send written.

use crate::model::{Failure, InterfaceId, Reason, State, Ticket, Uid};

use super::super::bounds::LEASE_MARGIN;
use super::super::command::{Acquire, LeaseGrant, Mode, Reply};
use super::super::record::{Attempt, LockGrant, RequestEntry, SendEntry};
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    pub(super) fn acquire_slot(&mut self, enter: &Acquire) -> Reply {
        if let Some(reply) = self.known(enter) {
            return reply;
        }
        if let Some(fullness) = self.capacity_exceeded_for(&enter.eni) {
            self.clear_queue(enter.ticket);
            return Reply::CapacityExceeded(fullness);
        }
        if self.in_hold_down() {
            return Reply::Recovering(self.context.partition.hold_down_until);
        }
        if enter.mode == Mode::Query {
            return Reply::Admissible;
        }
        let grant = match self.acquire(enter.ticket) {
            Ok(grant) => grant,
            Err(ahead) => return Reply::Queued { ahead },
        };
        let stale = self.recent_observation().is_none();
        if stale || enter.mode == Mode::Enqueue {
            return Reply::Granted {
                grant,
                stale,
                room: self.free_slots(),
            };
        }
        self.reserve(enter, grant)
    }

    /// What the ledger can answer without the lock: a replay, a join, an ENI that is here already. Only an id that began an attempt
    /// is remembered: the others sent nothing, and may ask again at will.
    fn known(&mut self, enter: &Acquire) -> Option<Reply> {
        let attempt = self.record.attempts.get(&enter.eni);
        if let Some(entry) = self.context.request {
            if entry.eni != enter.eni {
                return Some(Reply::RequestIdReused(entry.clone()));
            }
            let current = attempt.filter(|attempt| attempt.uid() == entry.uid);
            let refused = current.and_then(|attempt| attempt.attachment.error.as_ref());
            let ended = refused.is_some_and(|failure| failure.reason.is_definite());
            if entry.answer.is_some() || ended {
                let answer = current
                    .map(|attempt| attempt.attachment.clone())
                    .or_else(|| entry.answer.clone());
                return Some(Reply::Replayed(RequestEntry {
                    answer,
                    ..entry.clone()
                }));
            }
        }
        let attempt = attempt?;
        match attempt.attachment.state {
            State::Failed | State::Detached => None,
            State::Attached if self.is_unconfirmed(attempt) => Some(Reply::Unconfirmed {
                until: self.settles_at(attempt),
            }),
            State::Attached | State::Detaching => {
                let fresh = attempt
                    .described_at
                    .is_some_and(|asked_at| asked_at >= enter.confirmed_since);
                let attempt = Box::new(attempt.clone());
                Some(Reply::AlreadyAttached { attempt, fresh })
            }
            State::Pending if attempt.uid() == enter.uid => self.reserved_before(enter.ticket, attempt.clone()),
            State::Pending | State::Verifying | State::Attaching | State::Unknown => {
                Some(Reply::Joined(Box::new(attempt.clone())))
            }
        }
    }

    /// The same command again, its reply having been lost: the same answer, as long as the grant lasts.
    fn reserved_before(&mut self, ticket: Ticket, attempt: Attempt) -> Option<Reply> {
        let is_held = |grant: &LockGrant| grant.ticket == ticket && !grant.provisional;
        let held = self.record.lock.as_ref().is_some_and(is_held);
        Some(match held.then(|| self.acquire(ticket).ok()).flatten() {
            Some(grant) => Reply::Reserved {
                grant,
                attempt: Box::new(attempt),
                room: self.free_slots(),
            },
            None => Reply::Joined(Box::new(attempt)),
        })
    }

    /// Takes a slot and writes the send, under the grant and by a valid observation.
    fn reserve(&mut self, enter: &Acquire, grant: LeaseGrant) -> Reply {
        let now = self.now();
        let former = self.record.attempts.get(&enter.eni).cloned();
        let seen_here_at = former.as_ref().and_then(|former| former.observed_attached_at);
        let attempt = Attempt {
            sends: vec![SendEntry::new(now)],
            observed_attached_at: seen_here_at,
            was_recently_attached: seen_here_at.is_some_and(|seen| seen + self.context.bounds.lag >= now),
            due_at: Some(grant.expires_at + LEASE_MARGIN),
            trace: enter.trace.clone(),
            request: enter.request.clone(),
            superseded: former.map(|former| {
                Box::new(Attempt {
                    superseded: None,
                    ..former
                })
            }),
            ..Attempt::new(self.context.instance, &enter.eni, enter.uid, now)
        };
        if let Some(key) = &enter.request {
            self.remember(key.clone(), RequestEntry::new(&attempt, None));
        }
        self.put(attempt, Some(State::Pending));
        self.reserved_reply(&enter.eni, grant)
    }

    /// Another send for an attempt that went unanswered and that ENS, asked since, shows as free: by a valid observation, as a first
    /// one, for its slot may have been taken by those who ask nobody.
    pub(super) fn resend(&mut self, ticket: Ticket, uid: Uid, eni: &InterfaceId) -> Reply {
        let may = |attempt: &&Attempt| attempt.uid() == uid && attempt.may_be_resent();
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
        // The slot is its own, but others may have attached since, and asked nobody.
        if self.recent_observation().is_none() {
            let (stale, room) = (true, self.free_slots());
            return Reply::Granted { grant, stale, room };
        }
        if let Some(fullness) = self.capacity_exceeded_for(eni) {
            let why = "sent without an answer that settles it, and not again: others have filled the instance since; detach another eni first";
            attempt.refusal = Some(Failure::new(Reason::NotApplied, why).with("limit", fullness.limit));
            attempt.observed_free_at = None;
            self.record.attempts.insert(eni.clone(), attempt);
            self.release_place(ticket);
            return Reply::NotFound;
        }
        if self.enabled(SafetyCheck::SendWritten) {
            attempt.sends.push(SendEntry::new(self.now()));
        }
        attempt.observed_free_at = None;
        attempt.poll_count = 0;
        attempt.due_at = Some(grant.expires_at + LEASE_MARGIN);
        self.record.attempts.insert(eni.clone(), attempt);
        self.reserved_reply(eni, grant)
    }

    fn reserved_reply(&self, eni: &InterfaceId, grant: LeaseGrant) -> Reply {
        match self.record.attempts.get(eni) {
            Some(attempt) => Reply::Reserved {
                grant,
                attempt: Box::new(attempt.clone()),
                room: self.free_slots(),
            },
            None => Reply::NotFound,
        }
    }
}
