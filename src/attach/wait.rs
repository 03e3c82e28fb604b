//! Waits of an attempt, within retry policy and deadline, and the pending error meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::ens::Ens;
use crate::failures::{Operation, attach as failures};
use crate::ledger::{LedgerError, LedgerStore};
use crate::model::Failure;

use super::AttemptTask;
use super::lock_queue::HoldDown;
use super::retry::{LEAST_ROUND, LEDGER_RETRY, Retry};
use super::send_permit::KeptPermits;

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Sets the pending error of the caller and of the callers behind.
    pub(super) fn set_pending_error(&self, why: Failure) {
        if let Some(lock) = &self.lock {
            lock.set_blocked_by(&why);
        }
        self.session.set_pending_error(why);
    }

    /// Pauses before a retry, within retry policy and deadline.
    pub(super) async fn pause(&mut self, pause: Duration, why: Failure) -> Result<(), Failure> {
        let retry = self.retry.after(pause, why)?;
        self.pause_for(retry).await
    }

    /// The pause of this retry.
    pub(super) async fn pause_for(&mut self, Retry { pause, why }: Retry) -> Result<(), Failure> {
        // Other callers may use them meanwhile.
        self.permits = KeptPermits::default();
        self.set_pending_error(why);
        self.session.sleep(pause).await
    }

    /// Pauses before a retry of the ledger. A long outage also ends the wait of the callers behind.
    pub(super) async fn pause_for_ledger(&mut self, error: &LedgerError) -> Result<(), Failure> {
        let why = Operation::Attach.ledger_unavailable(error);
        if self.retry.record_ledger_failure(error) {
            self.abort_waiters(&why);
            return Err(self.session.refuse(why));
        }
        self.pause(LEDGER_RETRY, why).await
    }

    /// Ends the wait of the callers behind with this ledger outage.
    pub(super) fn abort_waiters(&self, why: &Failure) {
        if let Some(lock) = &self.lock {
            lock.abort_waiters(why);
        }
    }

    /// Records that the ledger answered: an outage is over for all callers of the queue.
    pub(super) fn record_ledger_reached(&mut self) {
        self.retry.record_ledger_reached();
        if let Some(lock) = &self.lock {
            lock.record_ledger_reached(self.hold_down());
        }
    }

    /// The hold-down of the instance's partition, as far as it is known.
    fn hold_down(&self) -> Option<HoldDown> {
        let (store, instance) = (self.backends().ledger.store(), &self.request.instance);
        let (now, until) = (store.now(instance), store.partition(instance).hold_down_until);
        (now < until).then(|| HoldDown {
            until: Instant::now() + until.since(now),
            error: failures::recovering(until, now),
        })
    }

    /// Waits for a change of the record, between [`LEAST_ROUND`] and `most`.
    pub(super) async fn next_round(&mut self, most: Duration) -> Result<(), Failure> {
        let changes = &mut self.changes;
        let round = async {
            sleep(LEAST_ROUND).await;
            // The record is read again in both cases.
            let _ = timeout(most.saturating_sub(LEAST_ROUND), changes.changed()).await;
        };
        self.session.until_deadline(round).await
    }
}
