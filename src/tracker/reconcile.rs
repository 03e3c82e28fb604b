//! The comparison of ledger and ENS, for what the queue of due attempts cannot find: an attempt that lost its place there, an
//! ENI that others attached or detached, a record that was lost.
//!
//! An instance that changed is compared a few times, ever more seldom, and then no more; one replica at a time claims it, and
//! all of them together take a small share of the account's describes. Only the record is put right: nothing is ever detached.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::attach::to_observed_enis;
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::ledger::command::{Command, ReconcileReport, Reply};
use crate::model::{InstanceId, random};
use crate::rate_limit::{Permit, RateClass};

use super::Tracker;

/// How often a replica looks whether a comparison is due; jittered.
const TICK: Duration = Duration::from_secs(2);
/// How long an instance that one replica compares is hidden from the others; also, how soon one that failed is tried again.
const VISIBILITY: Duration = Duration::from_secs(60);

impl<L: LedgerStore, E: Ens> Tracker<L, E> {
    /// Compares what is due, one instance at a time, until `stop`.
    pub async fn reconcile(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if !self.reconcile_next().await {
                let pause = TICK.mul_f64(random::between(0.8..1.2));
                // Stopped or not, the condition of the loop says.
                let _ = tokio::time::timeout(pause, stop.cancelled()).await;
            }
        }
    }

    /// Whether there was something to compare, and a permit for it.
    async fn reconcile_next(&self) -> bool {
        let ledger = self.ledger.store();
        let claim = |due| ledger.claim_reconciliations(due, VISIBILITY);
        let claimed = self
            .with_permit(RateClass::Reconcile, ledger.due_reconciliations(1), claim)
            .await;
        let Some((instances, permit)) = claimed else {
            return false;
        };
        // One was asked for.
        let Some(instance) = instances.first() else {
            return false;
        };
        self.reconcile_one(instance, permit).await;
        true
    }

    async fn reconcile_one(&self, instance: &InstanceId, permit: Permit) {
        let sent_at = self.ledger.store().now(instance);
        let rows = match self.ens.interfaces_of(permit, instance).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%instance, %error, "ens could not be asked for a comparison; it falls due again");
                return;
            }
        };
        let observe = Command::Observe {
            sent_at,
            rows: to_observed_enis(instance, rows),
            then: Some(Box::new(Command::Reconcile)),
        };
        match self.ledger.execute(instance, &observe).await {
            Ok(answer) => {
                answer
                    .record
                    .attempts
                    .values()
                    .for_each(|attempt| self.note_stuck(attempt));
                if let Reply::Reconciled(differences) = answer.reply {
                    self.report(instance, &differences);
                }
            }
            Err(error) => tracing::debug!(%instance, %error, "a comparison could not be recorded; it falls due again"),
        }
    }

    fn report(&self, instance: &InstanceId, found: &ReconcileReport) {
        let ReconcileReport {
            adopted,
            detached,
            requeued,
        } = *found;
        self.metrics.reconciled([adopted, detached, requeued]);
        if found.total() > 0 {
            tracing::warn!(%instance, adopted, detached, requeued, "the ledger differed from ens; the record is put right");
        }
    }
}
