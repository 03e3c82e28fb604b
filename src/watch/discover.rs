//! Attachments that the ledger has not seen: ENS is asked once for the whole instance, however many
//! reads want to know, and what it shows is written to the ledger before a read returns it. The
//! account's budget may be exhausted by others: a read does not queue for it, but returns what the
//! ledger knows, or a reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::attach::to_observed_enis;
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::ledger::command::Command;
use crate::model::{Failure, InstanceId, Timestamp};
use crate::rate_limit::{Permit, PermitError, RateClass};

use super::{Hub, failures};

/// Maximum wait of a read's describe for its permit.
const PERMIT_WITHIN: Duration = Duration::from_secs(1);

/// One question to ENS that is under way. When it ends well, its answer is in the ledger; it
/// returns when it was sent.
type Flight = Shared<BoxFuture<'static, Result<Timestamp, Failure>>>;

/// The questions of one replica that are under way.
#[derive(Default)]
pub(super) struct SingleFlight(Mutex<BTreeMap<InstanceId, Flight>>);

impl SingleFlight {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Flight>> {
        // Every critical section leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// Records what ENS shows on the instance; when ENS was asked, by the ledger's clock. Reads
    /// that want to know while a question is under way share it; it continues without them.
    ///
    /// # Errors
    /// A read's reason: ENS could not be asked in time, or refused, or its answer could not be written.
    pub(super) async fn discover(
        self: &Arc<Self>,
        instance: &InstanceId,
        deadline: Option<Instant>,
    ) -> Result<Timestamp, Failure> {
        let flight = self.flight(instance, PERMIT_WITHIN);
        match deadline {
            None => flight.await,
            Some(deadline) => timeout_at(deadline, flight)
                .await
                .unwrap_or_else(|_late| Err(failures::unanswered(instance, "no answer in time"))),
        }
    }

    /// The question about this instance that is under way, or else a new one, which waits for its
    /// permit for `patience` at most.
    pub(super) fn flight(self: &Arc<Self>, instance: &InstanceId, patience: Duration) -> Flight {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(instance) {
            return flight.clone();
        }
        let (hub, asked) = (self.clone(), instance.clone());
        let ask = async move {
            let _landing = RemoveOnDrop {
                hub: hub.clone(),
                instance: asked.clone(),
            };
            hub.ask(&asked, patience).await
        };
        let asked = instance.clone();
        let flight = self.tasks.spawn(ask.in_current_span()).map(move |ended| {
            ended.unwrap_or_else(|panic| {
                tracing::error!(error = %panic, "a describe ended by a panic");
                Err(failures::unanswered(&asked, "its answer was lost"))
            })
        });
        let flight = flight.boxed().shared();
        flights.insert(instance.clone(), flight.clone());
        flight
    }

    /// The permit of one describe for reads and watches, whatever it is of.
    pub(super) async fn permit(&self, patience: Duration) -> Result<Permit, PermitError> {
        self.limiter.permit(RateClass::Read, Instant::now() + patience).await
    }

    async fn ask(&self, instance: &InstanceId, patience: Duration) -> Result<Timestamp, Failure> {
        let permit = self.permit(patience).await;
        let permit = permit.map_err(|missing| failures::no_permit(instance, &missing))?;
        let sent_at = self.ledger.store().now(instance);
        let rows = self.ens.interfaces_of(permit, instance).await;
        let rows = rows.map_err(|error| failures::not_shown(instance, &error))?;
        let observe = Command::Observe {
            sent_at,
            rows: to_observed_enis(instance, rows),
            then: None,
        };
        let written = self.ledger.execute(instance, &observe).await;
        let written = written.map_err(|error| failures::unreadable(&error))?;
        if sent_at > written.now {
            // The rules leave out what was asked in the future.
            return Err(failures::unanswered(instance, "the ledger's clock went back meanwhile"));
        }
        Ok(sent_at)
    }
}

/// Ends a flight, however it ended: the next one who asks begins another.
struct RemoveOnDrop<L: LedgerStore, E: Ens> {
    hub: Arc<Hub<L, E>>,
    instance: InstanceId,
}

impl<L: LedgerStore, E: Ens> Drop for RemoveOnDrop<L, E> {
    fn drop(&mut self) {
        self.hub.flights.lock().remove(&self.instance);
    }
}
