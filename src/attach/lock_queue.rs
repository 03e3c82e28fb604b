//! The FIFO queue of one replica's callers for one instance. The replica as a whole holds one ticket in the ledger's queue. The first
//! caller takes the lock, and hands it over to callers that already waited when it was granted: four at most, then other replicas
//! follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

use crate::ledger::BootInstant;
use crate::ledger::command::{LeaseGrant, LockToken, Reply};
use crate::ledger::execute::CommandOutcome;
use crate::model::{Failure, InstanceId, Reason, Ticket, random};

use super::weak_map::WeakMap;

/// Most callers that one grant serves.
const MOST_PER_GRANT: usize = 4;

/// The queues of all instances that callers of this replica wait for.
pub(super) type InstanceQueues = WeakMap<InstanceId, InstanceQueue>;

/// The queue of one instance.
#[derive(Default)]
pub(super) struct InstanceQueue {
    guard: Arc<tokio::sync::Mutex<LockState>>,
    waiting: Mutex<Waiters>,
    /// What blocks the first caller, where it blocks all of them.
    reason: Mutex<Option<Failure>>,
    told: Notify,
}

#[derive(Default)]
struct Waiters {
    last: u64,
    since: BTreeMap<u64, Instant>,
}

/// The place in the ledger's queue, or the lock.
#[derive(Default)]
pub(super) struct LockState {
    ticket: Option<Ticket>,
    standing: QueuePosition,
}

/// The ledger's last reply about this replica's ticket.
#[derive(Default)]
enum QueuePosition {
    /// Nothing yet.
    #[default]
    Unknown,
    /// So many stand before it.
    Queued(usize),
    /// It has the lock.
    Granted(HeldLock),
}

/// The lock, held by this replica.
#[derive(Clone, Copy)]
pub(super) struct HeldLock {
    pub(super) hold: LockToken,
    /// When the lease ends, by this machine's clock.
    pub(super) ends: BootInstant,
    came: Instant,
    left: usize,
}

/// The place at the head of the queue.
pub(super) struct QueueGuard {
    line: Arc<InstanceQueue>,
    state: OwnedMutexGuard<LockState>,
}

struct WaiterEntry<'a> {
    line: &'a InstanceQueue,
    place: u64,
}

impl Drop for WaiterEntry<'_> {
    fn drop(&mut self) {
        self.line
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .since
            .remove(&self.place);
    }
}

impl InstanceQueue {
    /// The head of the queue, if it is free.
    pub(super) fn try_lock(self: &Arc<Self>) -> Option<QueueGuard> {
        let state = self.guard.clone().try_lock_owned().ok()?;
        Some(QueueGuard {
            line: self.clone(),
            state,
        })
    }

    /// Waits for the head of the queue.
    pub(super) async fn lock(self: &Arc<Self>) -> QueueGuard {
        let _waiter = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.last += 1;
            let place = waiting.last;
            waiting.since.insert(place, Instant::now());
            WaiterEntry { line: self, place }
        };
        let state = self.guard.clone().lock_owned().await;
        QueueGuard {
            line: self.clone(),
            state,
        }
    }

    /// Publishes what blocks the first caller to those behind, where it blocks all of them.
    pub(super) fn set_blocked_by(&self, why: &Failure) {
        let keeps_everybody = matches!(
            why.reason,
            Reason::CoordinationUnavailable | Reason::CoordinationRecovering | Reason::EnsThrottled
        );
        let reason = keeps_everybody.then(|| why.clone());
        let mut told = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != reason {
            *told = reason;
            self.told.notify_waiters();
        }
    }

    /// Waits until what blocks all callers differs from `known`.
    pub(super) async fn blocked_by_changed(&self, known: Option<&Failure>) -> Option<Failure> {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // What changes between the look and the wait is not missed.
            told.as_mut().enable();
            let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if reason.as_ref() != known {
                return reason;
            }
            told.await;
        }
    }

    fn has_waiter_since(&self, time: Instant) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.since.first_key_value().is_some_and(|(_, since)| *since <= time)
    }
}

impl QueueGuard {
    /// The ticket for the ledger's queue: the same one until its grant is over.
    pub(super) fn ticket(&mut self) -> Ticket {
        *self.state.ticket.get_or_insert_with(|| Ticket(random::uuid()))
    }

    /// The queue that this is the head of.
    pub(super) fn line(&self) -> Arc<InstanceQueue> {
        self.line.clone()
    }

    /// Takes over what the ledger's reply reports about the lock and the tickets ahead.
    pub(super) fn apply_reply(&mut self, answer: &CommandOutcome) {
        match answer.reply {
            Reply::Granted { grant, room, .. } => self.granted(grant, answer.deadline(grant.expires_at), room),
            Reply::Reserved { grant, room, .. } => self.granted(grant, answer.deadline(grant.expires_at), room + 1),
            Reply::Queued { ahead } => self.state.standing = QueuePosition::Queued(ahead),
            Reply::CapacityExceeded(_) => {
                self.reset();
            }
            _ => {}
        }
    }

    /// The ledger granted the lock, with so many slots free.
    fn granted(&mut self, lease: LeaseGrant, ends: BootInstant, room: usize) {
        match &mut self.state.standing {
            QueuePosition::Granted(held) if held.hold == lease.token => held.ends = held.ends.min(ends),
            standing => {
                *standing = QueuePosition::Granted(HeldLock {
                    hold: lease.token,
                    ends,
                    came: Instant::now(),
                    left: room.clamp(1, MOST_PER_GRANT),
                });
            }
        }
    }

    /// The lock, if it is held.
    pub(super) fn held(&self) -> Option<HeldLock> {
        match self.state.standing {
            QueuePosition::Granted(held) => Some(held),
            QueuePosition::Unknown | QueuePosition::Queued(_) => None,
        }
    }

    /// Counts one send under this grant, and says whether another caller may have its turn under it, with so much of the lease
    /// needed.
    pub(super) fn should_hand_over(&mut self, needed: std::time::Duration) -> bool {
        let QueuePosition::Granted(held) = &mut self.state.standing else {
            return false;
        };
        held.left = held.left.saturating_sub(1);
        held.left > 0 && BootInstant::now() + needed < held.ends && self.line.has_waiter_since(held.came)
    }

    /// Whether no caller is left to take over the lock or the ticket.
    pub(super) fn has_no_waiters(&self) -> bool {
        let came = self.held().map_or_else(Instant::now, |held| held.came);
        !self.line.has_waiter_since(came)
    }

    /// Whether no other ticket is known to come before this one.
    pub(super) fn is_next(&self) -> bool {
        !matches!(self.state.standing, QueuePosition::Queued(1..))
    }

    /// Forgets the ticket: the next caller takes a new one. Returns the old one, if the ledger may know it.
    pub(super) fn reset(&mut self) -> Option<Ticket> {
        std::mem::take(&mut *self.state).ticket
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::ledger::Record;
    use crate::model::{Fence, Timestamp};

    use super::*;

    fn answer(reply: Reply) -> CommandOutcome {
        CommandOutcome {
            reply,
            record: Arc::new(Record::default()),
            now: Timestamp::default(),
            requested_at: BootInstant::now(),
        }
    }

    fn granted(ticket: Ticket) -> CommandOutcome {
        let hold = LockToken {
            ticket,
            fence: Fence::default().next(Timestamp::default()),
        };
        let expires_at = Timestamp::default() + std::time::Duration::from_secs(15);
        answer(Reply::Granted {
            grant: LeaseGrant {
                token: hold,
                expires_at,
            },
            stale: true,
            room: 10,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_the_place_in_the_queue() {
        let mut guard = Arc::new(InstanceQueue::default())
            .try_lock()
            .expect("the line is empty");
        let ticket = guard.ticket();
        assert!(guard.is_next(), "nothing is known yet");
        guard.apply_reply(&answer(Reply::Queued { ahead: 1 }));
        assert!(!guard.is_next());
        // The one in front left.
        guard.apply_reply(&granted(ticket));
        assert!(guard.is_next() && guard.held().is_some());
        guard.apply_reply(&answer(Reply::Queued { ahead: 2 }));
        assert!(!guard.is_next() && guard.held().is_none(), "the lease ended");
        guard.apply_reply(&answer(Reply::Queued { ahead: 0 }));
        assert!(guard.is_next() && guard.held().is_none());
        guard.apply_reply(&granted(ticket));
        assert_eq!(guard.reset(), Some(ticket));
        assert!(guard.is_next() && guard.held().is_none() && guard.reset().is_none());
    }
}
