//! The lock and its queue: first come, first served, across replicas. An acquire is also the poll.
//!
//! A released lock is handed to the first ticket in the queue as a provisional grant for one
//! second. The lease begins when that ticket's next poll confirms it. A lease is never renewed.
//! Order and speed depend on this file. Safety does not.

use crate::model::{Failure, Reason, Revision, State, Ticket, Timestamp, Unknown};

use super::super::bounds::{PROVISIONAL_GRANT, WAITER_LIFE};
use super::super::command::{Change, LeaseGrant, LockToken};
use super::super::record::{Attempt, LockGrant, QueuedTicket};
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// Removes what has expired: a lock of another epoch, a lease, a provisional grant, dead places
    /// in the queue.
    pub(super) fn expire_stale_state(&mut self) {
        let now = self.now();
        if self.record.epoch != self.context.partition.epoch {
            self.record.epoch.clone_from(&self.context.partition.epoch);
            self.record.lock = None;
            self.record.queue.clear();
            self.invalidate_observation();
            self.restart_times();
            self.suppress_resends();
            self.reissue_revisions();
        }
        self.restart_future_times();
        if self.record.lock.as_ref().is_some_and(|grant| grant.expires_at <= now) {
            self.record.lock = None;
        }
        self.record.queue.retain(|waiter| waiter.expires_at > now);
        self.hand_over();
    }

    /// Stops further sends of attempts without a response. A recorded rejection may be lost
    /// although its caller saw it. These attempts settle from ENS status, and keep their slots
    /// until then.
    fn suppress_resends(&mut self) {
        let unanswered = |attempt: &Attempt| {
            let open = matches!(attempt.state.kind(), State::Pending | State::Verifying);
            open && attempt.has_unanswered_send() && attempt.state.refusal().is_none()
        };
        for attempt in self.record.attempts.values_mut_where(unanswered) {
            let why = "the ledger's epoch changed before the answer was recorded, so the attach was not sent again; try again";
            attempt.state.refuse(Failure::new(Reason::NotApplied, why));
        }
    }

    /// Gives every attachment a new revision, because reported writes may be lost. The new
    /// revisions exceed those that the lost writes gave, also by a clock that was ahead of the
    /// revisions or behind them. They also exceed those that an old primary may still give within
    /// the failover window.
    fn reissue_revisions(&mut self) {
        let reported = self.record.revision;
        if reported == Revision::default() {
            return;
        }
        let latest = self.now().max(Timestamp::from_micros(reported.0));
        self.record.revision = reported.next(latest + self.context.bounds.failover_window);
        let enis: Vec<_> = self.record.attempts.keys().cloned().collect();
        for eni in enis {
            let revision = self.next_revision();
            if let Some(attempt) = self.record.attempts.get_mut(&eni) {
                attempt.revision = revision;
            }
            if let Some(attempt) = self.record.attempts.shared(&eni) {
                let from = Some(attempt.state.kind());
                self.changes.push(Change { attempt, from, turned_stuck: false });
            }
        }
    }

    fn hand_over(&mut self) {
        if self.record.lock.is_some() || self.in_hold_down() {
            return;
        }
        if let Some(next) = self.record.queue.pop_front() {
            self.grant(next.ticket, true);
            self.handed_over = true;
        }
    }

    pub(super) fn in_hold_down(&self) -> bool {
        self.now() < self.hold_down_until()
    }

    /// Time until which nothing is reserved, because the ledger may have lost something.
    pub(super) fn hold_down_until(&self) -> Timestamp {
        if self.enabled(SafetyCheck::HoldDown) {
            self.context.partition.hold_down_until
        } else {
            Timestamp::default()
        }
    }

    fn grant(&mut self, ticket: Ticket, provisional: bool) -> LockGrant {
        self.record.fencing_token = self.record.fencing_token.next(self.now());
        let life = if provisional { PROVISIONAL_GRANT } else { self.context.bounds.lease };
        let grant = LockGrant {
            ticket,
            fencing_token: self.record.fencing_token,
            expires_at: self.now() + life,
            provisional,
            unknown: Unknown::default(),
        };
        self.record.lock = Some(grant.clone());
        grant
    }

    /// Returns the lock for `ticket`, or the number of tickets ahead of it. A repeated call returns
    /// the same grant with the rest of its lease.
    pub(super) fn acquire(&mut self, ticket: Ticket) -> Result<LeaseGrant, usize> {
        let now = self.now();
        let grant = match self.record.lock.clone() {
            None => self.grant(ticket, false),
            Some(mut grant) if grant.ticket == ticket => {
                if grant.provisional {
                    grant.provisional = false;
                    grant.expires_at = now + self.context.bounds.lease;
                    self.record.lock = Some(grant.clone());
                }
                grant
            }
            Some(_) => return Err(self.enqueue(ticket)),
        };
        Ok(LeaseGrant {
            token: LockToken { ticket, fencing_token: grant.fencing_token },
            expires_at: grant.expires_at,
        })
    }

    fn enqueue(&mut self, ticket: Ticket) -> usize {
        let expires_at = self.now() + WAITER_LIFE;
        match self.record.queue.iter().position(|waiter| waiter.ticket == ticket) {
            Some(place) => {
                self.record.queue[place].expires_at = expires_at;
                place
            }
            None => {
                let unknown = Unknown::default();
                self.record.queue.push_back(QueuedTicket { ticket, expires_at, unknown });
                self.record.queue.len() - 1
            }
        }
    }

    /// Ends the grant of `ticket`, and hands the lock over.
    pub(super) fn release(&mut self, ticket: Ticket) {
        if self.record.lock.as_ref().is_some_and(|grant| grant.ticket == ticket) {
            self.record.lock = None;
            self.hand_over();
        }
    }

    /// Releases the place in the queue or the lock of `ticket`.
    pub(super) fn release_place(&mut self, ticket: Ticket) {
        self.record.queue.retain(|waiter| waiter.ticket != ticket);
        self.release(ticket);
    }

    /// Clears the queue. Every ticket in it would get the reply that the instance is full. Callers
    /// that still need the lock acquire again.
    pub(super) fn clear_queue(&mut self, ticket: Ticket) {
        self.record.queue.clear();
        self.release(ticket);
    }
}
