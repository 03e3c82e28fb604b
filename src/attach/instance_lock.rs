//! The instance lock that an attempt holds.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::ledger::bounds::LEASE_MARGIN;
use crate::ledger::command::Command;
use crate::ledger::{Ledger, LedgerStore};
use crate::model::InstanceId;

use super::lock_queue::QueueGuard;

/// The head of an instance's queue, with the ledger's lock or ticket.
///
/// A drop releases the lock or ticket, unless a caller behind takes it over. It then frees the head
/// of the queue.
pub(super) struct InstanceLock<L: LedgerStore> {
    guard: QueueGuard,
    ledger: Arc<Ledger<L>>,
    instance: InstanceId,
    /// Lease time that a send needs.
    send_time: Duration,
    tasks: TaskTracker,
}

impl<L: LedgerStore> InstanceLock<L> {
    pub(super) fn new(
        guard: QueueGuard,
        ledger: Arc<Ledger<L>>,
        instance: InstanceId,
        send_time: Duration,
        tasks: TaskTracker,
    ) -> Self {
        Self { guard, ledger, instance, send_time, tasks }
    }

    /// Releases the lock or the ticket, and keeps the head of the queue. Both expire if the ledger
    /// fails.
    pub(super) async fn release(&self) {
        if let Some(ticket) = self.guard.reset() {
            // A lease that is not released expires.
            let _ = self.ledger.execute(&self.instance, &Command::Release { ticket }).await;
        }
    }

    /// Whether the lease lasts for a send.
    pub(super) fn lasts_for_send(&self) -> bool {
        self.guard.lease_lasts(self.send_time)
    }

    /// Counts one send under this grant. Returns whether another caller may take the lock over, or
    /// the next attempt of a batch that awaits it.
    pub(super) fn should_hand_over(&self, is_awaited: bool) -> bool {
        self.guard.count_send(self.send_time + LEASE_MARGIN, is_awaited)
    }
}

impl<L: LedgerStore> Deref for InstanceLock<L> {
    type Target = QueueGuard;

    fn deref(&self) -> &QueueGuard {
        &self.guard
    }
}

impl<L: LedgerStore> Drop for InstanceLock<L> {
    fn drop(&mut self) {
        self.guard.leave_budgets_unless_waited();
        if self.guard.is_wanted(self.send_time) {
            return;
        }
        let (Some(ticket), Ok(runtime)) = (self.guard.reset(), Handle::try_current()) else {
            return;
        };
        let (ledger, instance, head) =
            (self.ledger.clone(), self.instance.clone(), self.guard.clone());
        let release = async move {
            let _ = ledger.execute(&instance, &Command::Release { ticket }).await;
            drop(head);
        };
        self.tasks.spawn_on(release.in_current_span(), &runtime);
    }
}
