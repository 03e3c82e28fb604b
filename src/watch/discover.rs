//! Attachments that the ledger has not seen: ENS is asked once for the whole instance, whoever wants to know, and what it shows
//! is written to the ledger before anybody is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::attach::{failures, sights};
use crate::ens::{Ens, Purpose};
use crate::ledger::Ledger;
use crate::ledger::command::Command;
use crate::model::{Failure, InstanceId};

use super::Hub;

/// How long one question may wait for its permit: past that nobody waits for its answer.
const PERMIT_WITHIN: Duration = Duration::from_secs(10);

/// One question to ENS that is under way; its answer is in the ledger when it ends well.
type Flight = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// The questions of one replica that are under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<BTreeMap<InstanceId, Flight>>);

impl Flights {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Flight>> {
        // Every critical section leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Ledger, E: Ens> Hub<L, E> {
    /// Has the ledger learn what ENS shows on the instance. One who asks while another's question is under way waits for
    /// that one; the question goes on when its asker leaves.
    ///
    /// # Errors
    /// ENS could not be asked in time, or refused, or its answer could not be written.
    pub(super) async fn discover(
        self: &Arc<Self>,
        instance: &InstanceId,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let flight = self.flight(instance);
        match deadline {
            None => flight.await,
            Some(deadline) => timeout_at(deadline, flight)
                .await
                .unwrap_or_else(|_late| Err(failures::not_sent("its answer did not come in time"))),
        }
    }

    fn flight(self: &Arc<Self>, instance: &InstanceId) -> Flight {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(instance) {
            return flight.clone();
        }
        let (hub, asked) = (self.clone(), instance.clone());
        let ask = async move {
            let _landing = Landing {
                hub: hub.clone(),
                instance: asked.clone(),
            };
            hub.ask(&asked).await
        };
        let flight = self.tasks.spawn(ask.in_current_span()).map(|ended| {
            ended.unwrap_or_else(|panic| {
                tracing::error!(error = %panic, "a describe ended by a panic");
                Err(failures::not_sent("its answer was lost"))
            })
        });
        let flight = flight.boxed().shared();
        flights.insert(instance.clone(), flight.clone());
        flight
    }

    async fn ask(&self, instance: &InstanceId) -> Result<(), Failure> {
        let permit = self.budget.permit(Purpose::Read, Instant::now() + PERMIT_WITHIN).await;
        let permit = permit.map_err(|missing| failures::no_permit(&missing))?;
        let sent_at = self.book.ledger().now(instance);
        let rows = self.ens.interfaces_of(permit, instance).await;
        let rows = rows.map_err(|error| failures::describe(&error).unwrap_or_else(|failure| failure))?;
        let observe = Command::Observe {
            sent_at,
            rows: sights(instance, rows),
            then: None,
        };
        let written = self.book.execute(instance, &observe).await;
        written.map(drop).map_err(|error| failures::unavailable(&error))
    }
}

/// Ends a flight, however it ended: the next one who asks begins another.
struct Landing<L: Ledger, E: Ens> {
    hub: Arc<Hub<L, E>>,
    instance: InstanceId,
}

impl<L: Ledger, E: Ens> Drop for Landing<L, E> {
    fn drop(&mut self) {
        self.hub.flights.lock().remove(&self.instance);
    }
}
