//! The callers of one replica for one instance stand in line here, first come, first served; the replica as a whole stands
//! in the ledger's queue. Whoever is first takes the lock, and passes it on to those who already waited when it came, four
//! at most: then other replicas have their turn.

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

/// The line of one instance.
#[derive(Default)]
pub(super) struct InstanceQueue {
    guard: Arc<tokio::sync::Mutex<LockState>>,
    waiting: Mutex<Waiters>,
    /// What keeps the first in line, where it keeps everybody.
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

/// What the ledger last said of this replica's ticket.
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

/// A turn at the head of the line.
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
    /// The turn, if nobody else has it.
    pub(super) fn try_lock(self: &Arc<Self>) -> Option<QueueGuard> {
        let state = self.guard.clone().try_lock_owned().ok()?;
        Some(QueueGuard {
            line: self.clone(),
            state,
        })
    }

    /// The turn, once everybody before has had theirs.
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

    /// Tells those in line what keeps the first one, or that it is nothing but the others.
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

    /// What keeps the first in line, where it keeps everybody, once that is another than is `known`.
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
    /// The ticket to ask the ledger with: the same one until its grant is over.
    pub(super) fn ticket(&mut self) -> Ticket {
        *self.state.ticket.get_or_insert_with(|| Ticket(random::uuid()))
    }

    /// The line that it is the head of.
    pub(super) fn line(&self) -> Arc<InstanceQueue> {
        self.line.clone()
    }

    /// What the ledger's answer says of the lock and the places before.
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

    /// Whether nobody is left for whom the lock, or the place in the queue, would be kept.
    pub(super) fn has_no_waiters(&self) -> bool {
        let came = self.held().map_or_else(Instant::now, |held| held.came);
        !self.line.has_waiter_since(came)
    }

    /// Whether no other ticket is known to come before this one.
    pub(super) fn is_next(&self) -> bool {
        !matches!(self.state.standing, QueuePosition::Queued(1..))
    }

    /// The grant is over, or the place given up: the next one asks with a new ticket. The old one, if the ledger may know it.
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
