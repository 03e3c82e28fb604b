//! The check of a batch that is to attach all of its ENIs: whether the known free slots hold them.
//! It takes no lock and no slot.

use std::slice;

use tokio::time::Instant;

use crate::ens::{Ens, InstanceRow};
use crate::failures::{Operation, attach as failures};
use crate::ledger::apply::{CapacityCheck, Context};
use crate::ledger::{LedgerStore, Partition, Record};
use crate::model::{Failure, InstanceId, InterfaceId, Timestamp};
use crate::rate_limit::{Permit, RateClass};
use crate::telemetry::metrics::RefusedBy;

use super::Attacher;
use super::batch::BatchRequest;
use super::caller_session::CallerSession;

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Checks that the instance has a free slot for each ENI of the batch that uses none yet.
    /// Describes the instance if no valid observation shows it.
    ///
    /// # Errors
    /// `ENI_LIMIT_EXCEEDED`, or the reason why the free slots are not known. Nothing was sent.
    pub async fn ensure_capacity(&self, batch: &BatchRequest) -> Result<(), Failure> {
        let session = CallerSession::new(batch.deadline);
        session.set_pending_error(failures::not_sent(
            "the describe of the instance got no answer in time",
        ));
        let capacity = session.until_deadline(self.capacity(batch)).await.flatten();
        let capacity = capacity.map_err(|failure| failure.with("instanceId", &batch.instance))?;
        if capacity.is_exceeded() {
            self.backends.metrics.limit_rejected(RefusedBy::Ledger);
            return Err(failures::capacity_exceeded_by_all(&capacity, &batch.instance));
        }
        Ok(())
    }

    async fn capacity(&self, batch: &BatchRequest) -> Result<CapacityCheck, Failure> {
        let BatchRequest { instance, enis, deadline, .. } = batch;
        let patience = deadline.saturating_duration_since(Instant::now());
        let _place = self.validations.acquire(1, patience, batch.peer, None).await?;
        if let Some(capacity) = self.known_capacity(instance, enis).await? {
            return Ok(capacity);
        }
        let permit = || self.permit(RateClass::Describe, *deadline);
        if !self.backends.ledger.knows(instance) {
            self.existing(instance, permit().await?).await?;
        }
        let permit = permit().await?;
        let observed = self.backends.observe_and_record_instance(instance, permit, None).await;
        observed.map_err(|error| Operation::Attach.not_observed(&error))?;
        let late = || failures::not_sent("the describe took longer than its result is valid");
        self.known_capacity(instance, enis).await?.ok_or_else(late)
    }

    /// ENS's row of the instance. Nothing is written for an instance that does not exist.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`, or why ENS did not show it.
    pub(super) async fn existing(
        &self,
        instance: &InstanceId,
        permit: Permit,
    ) -> Result<InstanceRow, Failure> {
        let rows = self.backends.ens.instances(permit, slice::from_ref(instance)).await;
        let row = rows.map_err(|error| Operation::Attach.describe_failed(&error))?.pop();
        row.ok_or_else(|| failures::unknown_instance().with("instanceId", instance))
    }

    /// A permit for one describe of a check.
    pub(super) async fn permit(
        &self,
        class: RateClass,
        deadline: Instant,
    ) -> Result<Permit, Failure> {
        let permit = self.backends.limiter.permit(class, deadline).await;
        permit.map_err(|missing| Operation::Attach.no_permit(&missing))
    }

    /// The check by what the ledger has now.
    async fn known_capacity(
        &self,
        instance: &InstanceId,
        enis: &[InterfaceId],
    ) -> Result<Option<CapacityCheck>, Failure> {
        let ledger = &self.backends.ledger;
        let snapshot = ledger.read(instance).await;
        let snapshot = snapshot.map_err(|error| Operation::Attach.ledger_unavailable(&error))?;
        let (partition, now) = (&snapshot.partition, snapshot.now);
        if now < partition.hold_down_until {
            return Err(failures::recovering(partition.hold_down_until, now));
        }
        Ok(self.check_by(&snapshot.record, partition, now, instance, enis))
    }

    /// The check by this record; `None` if it shows no valid observation.
    pub(super) fn check_by<'a>(
        &self,
        record: &Record,
        partition: &Partition,
        now: Timestamp,
        instance: &InstanceId,
        enis: impl IntoIterator<Item = &'a InterfaceId>,
    ) -> Option<CapacityCheck> {
        let bounds = &self.backends.ledger.bounds().among(partition.shared);
        let context = Context { bounds, instance, partition, request: None, now };
        CapacityCheck::of(record, context, enis)
    }
}
