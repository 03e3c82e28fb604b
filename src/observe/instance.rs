//! A describe of one whole instance.

use crate::backends::Backends;
use crate::ens::{DescribeError, Ens};
use crate::ledger::LedgerStore;
use crate::ledger::command::{Command, ObservedEni};
use crate::ledger::execute::CommandOutcome;
use crate::model::{InstanceId, Timestamp};
use crate::rate_limit::Permit;

use super::{ObserveError, rows};

/// Every ENI that one describe showed on an instance.
pub(crate) struct InstanceObservation {
    /// When the describe was sent, by the ledger's clock.
    pub(crate) sent_at: Timestamp,
    /// The ENIs.
    pub(crate) rows: Vec<ObservedEni>,
}

impl<L: LedgerStore, E: Ens> Backends<L, E> {
    /// Observes an instance. The caller records it: an attach does so in the commit of its
    /// reservation.
    pub(crate) async fn observe_instance(
        &self,
        instance: &InstanceId,
        permit: Permit,
    ) -> Result<InstanceObservation, DescribeError> {
        // Taken before the call, so that a clock step makes the observation older, never newer.
        let sent_at = self.ledger.store().now(instance);
        let rows = self.ens.interfaces_of(permit, instance).await?;
        let rows = rows::to_observed_enis(instance, rows);
        Ok(InstanceObservation { sent_at, rows })
    }

    /// Observes an instance and records it, with `then` in the same commit. Also returns when the
    /// describe was sent.
    pub(crate) async fn observe_and_record_instance(
        &self,
        instance: &InstanceId,
        permit: Permit,
        then: Option<Command>,
    ) -> Result<(Timestamp, CommandOutcome), ObserveError> {
        let InstanceObservation { sent_at, rows } = self.observe_instance(instance, permit).await?;
        let then = then.map(Box::new);
        let observe = Command::Observe { sent_at, rows, then };
        Ok((sent_at, self.ledger.execute(instance, &observe).await?))
    }
}
