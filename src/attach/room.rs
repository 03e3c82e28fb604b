//! The check of a batch that is to attach all of its ENIs: whether the known free slots hold them.
//! It takes no lock and no slot.

use tokio::time::Instant;

use crate::ens::Ens;
use crate::failures::{Operation, attach as failures};
use crate::ledger::LedgerStore;
use crate::ledger::apply::{Context, Room};
use crate::model::{Failure, InstanceId, InterfaceId};
use crate::rate_limit::RateClass;
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
    pub async fn ensure_room(&self, batch: &BatchRequest) -> Result<(), Failure> {
        let session = CallerSession::new(batch.deadline);
        session.set_pending_error(failures::not_sent(
            "the describe of the instance got no answer in time",
        ));
        let room = session.until_deadline(self.room(batch)).await.flatten();
        let room = room.map_err(|failure| failure.with("instanceId", &batch.instance))?;
        if room.needed > room.free {
            self.backends.metrics.limit_rejected(RefusedBy::Ledger);
            return Err(failures::no_room_for_all(&room, &batch.instance));
        }
        Ok(())
    }

    async fn room(&self, batch: &BatchRequest) -> Result<Room, Failure> {
        let BatchRequest { instance, enis, deadline, .. } = batch;
        let patience = deadline.saturating_duration_since(Instant::now());
        let _place = self.validations.acquire_within(patience, batch.peer, None).await?;
        if let Some(room) = self.known_room(instance, enis).await? {
            return Ok(room);
        }
        let permit = self.backends.limiter.permit(RateClass::Describe, *deadline).await;
        let permit = permit.map_err(|missing| Operation::Attach.no_permit(&missing))?;
        let observed = self.backends.record_instance(instance, permit, None).await;
        observed.map_err(|error| Operation::Attach.not_observed(&error))?;
        let late = || failures::not_sent("the describe took longer than its result is valid");
        self.known_room(instance, enis).await?.ok_or_else(late)
    }

    /// The room by the record; `None` if it shows no valid observation.
    async fn known_room(
        &self,
        instance: &InstanceId,
        enis: &[InterfaceId],
    ) -> Result<Option<Room>, Failure> {
        let ledger = &self.backends.ledger;
        let snapshot = ledger.read(instance).await;
        let snapshot = snapshot.map_err(|error| Operation::Attach.ledger_unavailable(&error))?;
        let (partition, now) = (&snapshot.partition, snapshot.now);
        if now < partition.hold_down_until {
            return Err(failures::recovering(partition.hold_down_until, now));
        }
        let bounds = &ledger.bounds().among(partition.shared);
        let context = Context { bounds, instance, partition, request: None, now };
        Ok(Room::of(&snapshot.record, context, enis))
    }
}
