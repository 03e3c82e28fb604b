//! Reconciliation of the ledger with ENS. It finds what the queue of due attempts cannot: an
//! attempt missing there, an ENI that others attached or detached, a lost record.
//!
//! A changed instance is reconciled a few times, at growing intervals. One replica claims it at a
//! time, and all together use a small share of the describes. Only the record is corrected; nothing
//! is ever detached.

use std::sync::Arc;
use std::time::Duration;

use crate::drain::{self, Phase};
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::ledger::command::{Command, ReconcileReport, Reply};
use crate::model::{InstanceId, random};
use crate::rate_limit::{Permit, RateClass};

use super::Tracker;

/// Interval between checks for due reconciliations; jittered.
const TICK: Duration = Duration::from_secs(2);
/// How long a claim hides an instance from other replicas; also the pause after a failure.
const VISIBILITY: Duration = Duration::from_secs(60);

impl<L: LedgerStore, E: Ens> Tracker<L, E> {
    /// Reconciles due instances, one at a time, until [`Phase::Stopped`].
    pub async fn reconcile(self: Arc<Self>, drain: drain::Watch) {
        while !drain.has_reached(Phase::Stopped) {
            if !self.reconcile_next().await {
                let pause = TICK.mul_f64(random::between(0.8..1.2));
                drain.pause(pause).await;
            }
        }
    }

    /// Reconciles one instance; `false` if none was due or no permit was free.
    async fn reconcile_next(&self) -> bool {
        let store = self.backends.ledger.store();
        let claim = |due| store.claim_reconciliations(due, VISIBILITY);
        let claimed =
            self.with_permit(RateClass::Reconcile, store.due_reconciliations(1), claim).await;
        let Some((instances, permit)) = claimed else {
            return false;
        };
        // At most one was claimed.
        let Some(instance) = instances.first() else {
            return false;
        };
        self.reconcile_one(instance, permit).await;
        true
    }

    async fn reconcile_one(&self, instance: &InstanceId, permit: Permit) {
        match self
            .backends
            .observe_and_record_instance(instance, permit, Some(Command::Reconcile))
            .await
        {
            Ok((_, answer)) => {
                answer.record.attempts.values().for_each(|attempt| self.note_stuck(attempt));
                if let Reply::Reconciled(report) = answer.reply {
                    self.report(instance, &report);
                }
            }
            Err(error) => {
                tracing::debug!(%instance, %error, "a reconciliation failed; it falls due again")
            }
        }
    }

    fn report(&self, instance: &InstanceId, found: &ReconcileReport) {
        let ReconcileReport { adopted, detached, requeued } = *found;
        self.backends.metrics.reconciled([adopted, detached, requeued]);
        if found.total() > 0 {
            tracing::warn!(%instance, adopted, detached, requeued, "the record differed from ens, and was corrected");
        }
    }
}
