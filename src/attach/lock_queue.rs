//! The FIFO queue of one replica's callers for one instance. The replica holds one ticket in the
//! ledger's queue. The first caller takes the lock and hands it over to callers that waited when it
//! was granted, at most four in all. Then other replicas follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

use crate::failures::attach as failures;
use crate::ledger::BootInstant;
use crate::ledger::command::{LeaseGrant, LockToken, Reply};
use crate::ledger::execute::CommandOutcome;
use crate::model::{Failure, InstanceId, Reason, Ticket, random};
use crate::sync::WeakMap;

use super::budget_places::BudgetPlaces;
use super::retry::LEDGER_PATIENCE;

/// Maximum number of callers that one grant serves.
const MOST_PER_GRANT: usize = 4;

/// The queues of all instances that callers of this replica wait for.
pub(super) type InstanceQueues = WeakMap<InstanceId, InstanceQueue>;

/// The queue of one instance.
#[derive(Default)]
pub(super) struct InstanceQueue {
    /// Held by the first caller. tokio's mutex is fair: its waiters are the queue.
    head: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<QueueState>,
    /// Wakes all waiters after a long outage of the ledger.
    aborted: Notify,
}

#[derive(Default)]
struct QueueState {
    lock: LockState,
    /// Arrival times of the waiters, in their order.
    waiting: BTreeMap<u64, Instant>,
    last_waiter: u64,
    /// The pending error of the first caller, if it blocks all of them.
    blocked_by: Option<Failure>,
    /// Beginning of the current ledger outage.
    outage_since: Option<Instant>,
    /// The hold-down that the last ledger reply showed.
    hold_down: Option<HoldDown>,
    budget: BudgetPlaces,
}

/// A hold-down of the instance's partition, in which no caller receives the lock.
pub(super) struct HoldDown {
    /// Its end, by this machine's clock.
    pub(super) until: Instant,
    /// The error of the callers that wait for it.
    pub(super) error: Failure,
}

/// The replica's place in the ledger's queue, or the lock.
#[derive(Default)]
struct LockState {
    ticket: Option<Ticket>,
    /// Number of tickets known to be ahead.
    ahead: usize,
    held: Option<HeldLock>,
}

/// The lock, held by this replica.
#[derive(Clone, Copy)]
struct HeldLock {
    token: LockToken,
    /// The end of the lease, by this machine's clock.
    ends: BootInstant,
    granted_at: Instant,
    /// Number of callers that it may still serve.
    left: usize,
}

/// The place at the head of the queue, shared by its clones. The last drop frees it.
#[derive(Clone)]
pub(super) struct QueueGuard {
    queue: Arc<InstanceQueue>,
    _head: Arc<OwnedMutexGuard<()>>,
}

/// One caller's entry among the waiters, until it is dropped.
struct Waiter<'a> {
    queue: &'a InstanceQueue,
    place: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting.remove(&self.place);
    }
}

impl InstanceQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        // No critical section leaves the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the queue, if it is free.
    pub(super) fn try_lock(self: &Arc<Self>) -> Option<QueueGuard> {
        let head = self.head.clone().try_lock_owned().ok()?;
        Some(self.guard(head))
    }

    /// Waits for the head of the queue, in the order of arrival.
    ///
    /// # Errors
    /// The ledger outage that blocks the first caller, once it has lasted too long.
    pub(super) async fn lock(self: &Arc<Self>) -> Result<QueueGuard, Failure> {
        let aborted = self.aborted.notified();
        let _waiter = self.register_waiter();
        tokio::select! {
            biased;
            () = aborted => Err(self.blocked_by()),
            head = self.head.clone().lock_owned() => Ok(self.guard(head)),
        }
    }

    /// The next ledger outage, from this call on, that ends the wait of all callers.
    pub(super) fn outage(&self) -> impl Future<Output = Failure> {
        let aborted = self.aborted.notified();
        async move {
            aborted.await;
            self.blocked_by()
        }
    }

    fn guard(self: &Arc<Self>, head: OwnedMutexGuard<()>) -> QueueGuard {
        QueueGuard { queue: self.clone(), _head: Arc::new(head) }
    }

    fn register_waiter(&self) -> Waiter<'_> {
        let mut state = self.state();
        state.last_waiter += 1;
        let place = state.last_waiter;
        state.waiting.insert(place, Instant::now());
        Waiter { queue: self, place }
    }

    /// The error of a waiting caller: the first caller's, if it blocks all of them, or that of a
    /// hold-down.
    pub(super) fn blocked_by(&self) -> Failure {
        let state = self.state();
        let hold_down = state.hold_down.as_ref().filter(|it| Instant::now() < it.until);
        let blocked_by = state.blocked_by.as_ref().or(hold_down.map(|it| &it.error));
        blocked_by.cloned().unwrap_or_else(failures::queue_wait)
    }

    fn has_waiter_since(&self, time: Instant) -> bool {
        let state = self.state();
        state.waiting.first_key_value().is_some_and(|(_, since)| *since <= time)
    }
}

impl QueueGuard {
    /// The ticket for the ledger's queue, the same until its grant ends.
    pub(super) fn ticket(&self) -> Ticket {
        let mut state = self.queue.state();
        *state.lock.ticket.get_or_insert_with(|| Ticket(random::uuid()))
    }

    /// Sets the error that blocks the queue; a hold-down is known by itself. All callers wait out a
    /// ledger outage as long as the first one.
    pub(super) fn set_blocked_by(&self, why: &Failure) {
        let blocks_all =
            matches!(why.reason, Reason::CoordinationUnavailable | Reason::EnsThrottled);
        let is_outage = why.reason == Reason::CoordinationUnavailable;
        let mut state = self.queue.state();
        state.blocked_by = blocks_all.then(|| why.clone());
        let since = state.outage_since.unwrap_or_else(Instant::now);
        state.outage_since = is_outage.then_some(since);
        if is_outage && since.elapsed() >= LEDGER_PATIENCE {
            self.queue.aborted.notify_waiters();
        }
    }

    /// Clears the error that blocks the queue, because the ledger answered. The next wait of the
    /// first caller sets it again. The callers behind wait out a later outage in full.
    pub(super) fn record_ledger_reached(&self, hold_down: Option<HoldDown>) {
        let mut state = self.queue.state();
        (state.blocked_by, state.outage_since) = (None, None);
        state.hold_down = hold_down;
    }

    /// Ends the wait of all callers behind with this ledger outage.
    pub(super) fn abort_waiters(&self, why: &Failure) {
        self.set_blocked_by(why);
        self.queue.aborted.notify_waiters();
    }

    /// Reads or changes the places of its callers in the lines for the budget.
    pub(super) fn with_budget<T>(&self, change: impl FnOnce(&mut BudgetPlaces) -> T) -> T {
        change(&mut self.queue.state().budget)
    }

    /// Ends the places in all lines, unless a caller behind takes them over.
    pub(super) fn leave_budgets_unless_waited(&self) {
        let mut state = self.queue.state();
        if state.waiting.is_empty() {
            state.budget.leave_all();
        }
    }

    /// Applies a ledger reply's lock and queue position.
    pub(super) fn apply_reply(&self, answer: &CommandOutcome) {
        let granted = |grant: LeaseGrant, free_slots| {
            self.set_granted(grant, answer.deadline(grant.expires_at), free_slots)
        };
        match answer.reply {
            Reply::Granted { grant, free_slots, .. } => granted(grant, free_slots),
            Reply::Reserved { grant, free_slots, .. } => granted(grant, free_slots + 1),
            Reply::Queued { ahead } => {
                let lock = &mut self.queue.state().lock;
                (lock.ahead, lock.held) = (ahead, None);
            }
            Reply::CapacityExceeded(_) => {
                self.reset();
            }
            _ => {
                let lock = &mut self.queue.state().lock;
                // There is nothing to release where the ledger does not know the ticket.
                if lock.ticket.is_some_and(|ticket| !answer.record.has_ticket(ticket)) {
                    *lock = LockState::default();
                }
            }
        }
    }

    /// Records a grant, with the number of free slots.
    fn set_granted(&self, lease: LeaseGrant, ends: BootInstant, free_slots: usize) {
        let lock = &mut self.queue.state().lock;
        lock.ahead = 0;
        match &mut lock.held {
            Some(held) if held.token == lease.token => held.ends = held.ends.min(ends),
            held => {
                *held = Some(HeldLock {
                    token: lease.token,
                    ends,
                    granted_at: Instant::now(),
                    left: free_slots.clamp(1, MOST_PER_GRANT),
                });
            }
        }
    }

    fn held(&self) -> Option<HeldLock> {
        self.queue.state().lock.held
    }

    /// Whether no other ticket is known to be ahead.
    pub(super) fn is_next(&self) -> bool {
        self.queue.state().lock.ahead == 0
    }

    /// Whether the lock is held, with at least this much of its lease left.
    pub(super) fn lease_lasts(&self, needed: Duration) -> bool {
        self.held().is_some_and(|held| BootInstant::now() + needed <= held.ends)
    }

    /// Counts one send under this grant. Returns whether another caller may take the lock over,
    /// with `needed` of the lease left. A batch is one caller, whose next attempt awaits it.
    pub(super) fn count_send(&self, needed: Duration, is_awaited: bool) -> bool {
        let held = {
            let mut state = self.queue.state();
            let Some(held) = &mut state.lock.held else {
                return false;
            };
            held.left = held.left.saturating_sub(1);
            let held = *held;
            // A caller that waits for a permit after this has not waited yet.
            state.budget.leave_all();
            held
        };
        let serves_another = held.left > 0 && self.queue.has_waiter_since(held.granted_at);
        BootInstant::now() + needed < held.ends && (is_awaited || serves_another)
    }

    /// Whether a caller behind can use the lock or ticket, with `needed` of a lease left.
    pub(super) fn is_wanted(&self, needed: Duration) -> bool {
        let held = self.held();
        let since = held.map_or_else(Instant::now, |held| held.granted_at);
        held.is_none_or(|held| BootInstant::now() + needed < held.ends)
            && self.queue.has_waiter_since(since)
    }

    /// Discards the ticket, so that the next caller takes a new one. Returns the old one, if the
    /// ledger may know it.
    pub(super) fn reset(&self) -> Option<Ticket> {
        std::mem::take(&mut self.queue.state().lock).ticket
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::ledger::Record;
    use crate::model::{FencingToken, Timestamp};

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
        let token =
            LockToken { ticket, fencing_token: FencingToken::default().next(Timestamp::default()) };
        let expires_at = Timestamp::default() + Duration::from_secs(15);
        answer(Reply::Granted {
            grant: LeaseGrant { token, expires_at },
            stale: true,
            free_slots: 10,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_the_place_in_the_queue() {
        let guard = Arc::new(InstanceQueue::default()).try_lock().expect("the line is empty");
        let ticket = guard.ticket();
        assert!(guard.is_next(), "nothing is known yet");
        guard.apply_reply(&answer(Reply::Queued { ahead: 1 }));
        assert!(!guard.is_next());
        // The caller in front left.
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

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_the_wait_of_all_callers_that_wait_then() {
        let queue = Arc::new(InstanceQueue::default());
        let head = queue.try_lock().expect("the queue is empty");
        let outage = Failure::new(Reason::CoordinationUnavailable, "the ledger is unavailable");
        let (first, second) = (queue.lock(), queue.lock());
        tokio::pin!(first, second);
        assert!(
            futures_util::poll!(&mut first).is_pending()
                && futures_util::poll!(&mut second).is_pending()
        );
        head.set_blocked_by(&outage);
        assert!(futures_util::poll!(&mut first).is_pending(), "it has only begun");
        tokio::time::advance(LEDGER_PATIENCE).await;
        head.set_blocked_by(&outage);
        let reason = |ended: Result<QueueGuard, Failure>| ended.map(drop).unwrap_err().reason;
        assert_eq!(reason(first.await), Reason::CoordinationUnavailable);
        assert_eq!(reason(second.await), Reason::CoordinationUnavailable);
        head.record_ledger_reached(None);
        assert_eq!(queue.blocked_by().reason, Reason::LockWait);
        let third = queue.lock();
        tokio::pin!(third);
        head.set_blocked_by(&outage);
        assert!(futures_util::poll!(&mut third).is_pending(), "another outage has only begun");
        head.record_ledger_reached(None);
        drop(head);
        assert!(third.await.is_ok(), "it came after the outage");
        assert_eq!(queue.blocked_by().reason, Reason::LockWait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_down_blocks_the_callers_behind_until_it_ends() {
        let queue = Arc::new(InstanceQueue::default());
        let head = queue.try_lock().expect("the queue is empty");
        let error = Failure::new(Reason::CoordinationRecovering, "the ledger recovers");
        let second = Duration::from_secs(1);
        let until = Instant::now() + second;
        head.record_ledger_reached(Some(HoldDown { until, error }));
        // What the first caller alone waits for does not end it.
        head.set_blocked_by(&Failure::new(Reason::EnsUnavailable, "ENS does not answer"));
        assert_eq!(queue.blocked_by().reason, Reason::CoordinationRecovering);
        head.set_blocked_by(&Failure::new(Reason::CoordinationUnavailable, "the ledger is down"));
        assert_eq!(queue.blocked_by().reason, Reason::CoordinationUnavailable);
        head.set_blocked_by(&Failure::new(Reason::EnsUnavailable, "ENS does not answer"));
        tokio::time::advance(second).await;
        assert_eq!(queue.blocked_by().reason, Reason::LockWait);
    }
}
