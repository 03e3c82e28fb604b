//! The lock and its queue: first come, first served, over replicas. The poll is the acquire.
//!
//! A released lock goes straight to the first in the queue, for one second on trial: the lease begins when the grantee's
//! next poll confirms it. Nothing renews a lease. Order and speed rest on this file; safety does not.

use crate::model::{Failure, Reason, Revision, State, Ticket, Timestamp, Unknown};

use super::super::bounds::{PROVISIONAL_GRANT, WAITER_LIFE};
use super::super::command::{Change, LeaseGrant, LockToken};
use super::super::record::{Attempt, LockGrant, Waiter};
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// Passes on what is over: another epoch's lock, a lease, a grant on trial, dead places in the queue.
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

    /// That a send was refused or withdrawn may be among the writes that were lost, and its caller was told: what seems unanswered is not
    /// sent again. It is settled from ENS's own status, and its slot is kept until then.
    fn suppress_resends(&mut self) {
        let unanswered = |attempt: &&mut Attempt| {
            let open = matches!(attempt.attachment.state, State::Pending | State::Verifying);
            open && attempt.has_unanswered_send() && attempt.refusal.is_none()
        };
        for attempt in self.record.attempts.values_mut().filter(unanswered) {
            let why = "the ledger's epoch changed before the answer was recorded, so the attach was not sent again; try again";
            attempt.refusal = Some(Failure::new(Reason::NotApplied, why));
            attempt.observed_free_at = None;
        }
    }

    /// Writes that were told may be lost: everything is told anew, above every revision that was given by them, or that an old
    /// primary may go on giving for as long as the failover window.
    fn reissue_revisions(&mut self) {
        let reported = self.record.revision;
        if reported == Revision::default() {
            return;
        }
        self.record.revision = reported.next(self.now() + self.context.bounds.failover_window);
        let enis: Vec<_> = self.record.attempts.keys().cloned().collect();
        for eni in enis {
            let revision = self.next_revision();
            if let Some(attempt) = self.record.attempts.get_mut(&eni) {
                attempt.attachment.revision = revision;
                let from = Some(attempt.attachment.state);
                self.changes.push(Change {
                    attempt: attempt.clone(),
                    from,
                    turned_stuck: false,
                });
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

    /// Until when nothing is reserved, because the ledger may have lost something.
    pub(super) fn hold_down_until(&self) -> Timestamp {
        match self.enabled(SafetyCheck::Hold) {
            true => self.context.partition.hold_down_until,
            false => Timestamp::default(),
        }
    }

    fn grant(&mut self, ticket: Ticket, provisional: bool) -> LockGrant {
        self.record.fence = self.record.fence.next(self.now());
        let life = if provisional {
            PROVISIONAL_GRANT
        } else {
            self.context.bounds.lease
        };
        let grant = LockGrant {
            ticket,
            fence: self.record.fence,
            expires_at: self.now() + life,
            provisional,
            unknown: Unknown::default(),
        };
        self.record.lock = Some(grant.clone());
        grant
    }

    /// The lock for `ticket`, or its place in the queue: how many stand before it. Asking again gives the same grant and the
    /// rest of its lease.
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
            token: LockToken {
                ticket,
                fence: grant.fence,
            },
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
                self.record.queue.push_back(Waiter {
                    ticket,
                    expires_at,
                    unknown,
                });
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

    /// Gives up whatever `ticket` has: its place, or the lock.
    pub(super) fn release_place(&mut self, ticket: Ticket) {
        self.record.queue.retain(|waiter| waiter.ticket != ticket);
        self.release(ticket);
    }

    /// Ends the queue: everybody in it would be told that the instance is full, and asks again if it still matters.
    pub(super) fn clear_queue(&mut self, ticket: Ticket) {
        self.record.queue.clear();
        self.release(ticket);
    }
}
