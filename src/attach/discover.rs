//! The describe of an instance that the ledger does not know. Nothing is stored before it, and few
//! such attaches run at once: callers with made-up ids neither fill the ledger nor use up the calls
//! of ENS that other attaches need.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::admission::AdmissionPermit;
use crate::ens::{DescribeError, Ens};
use crate::failures::{Operation, attach as failures};
use crate::ledger::LedgerStore;
use crate::model::Failure;
use crate::rate_limit::{PermitError, RateClass};

use super::AttemptTask;
use super::discovery::Discovery;
use super::flow::Step;

/// Maximum wait for a place before the ledger is queried.
const BRIEFLY: Duration = Duration::from_millis(20);

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Whether to describe an instance that this replica does not know without a query of the
    /// ledger. The query saves the describe only if another replica knows the instance, so it is
    /// left out while permits for describes come in chunks. A request id is always queried: it may
    /// have an answer already.
    pub(super) fn describes_unqueried(&self) -> bool {
        let store = self.backends().ledger.store();
        let (now, partition) =
            (store.now(&self.request.instance), store.partition(&self.request.instance));
        self.request.request_id.is_none()
            && partition.freeze.is_none()
            && partition.hold_down_until <= now
            && self.backends().limiter.has_chunk(RateClass::Describe)
    }

    /// Whether the instance needs no discovery.
    pub(super) fn knows_instance(&self) -> bool {
        self.resends.is_some()
            || self.discovery.is_some()
            || self.backends().ledger.knows(&self.request.instance)
    }

    /// A place among the attaches to unknown instances, if one is soon free.
    pub(super) async fn try_place(&self) -> Result<Option<AdmissionPermit>, Failure> {
        timeout(BRIEFLY, self.place()).await.ok().transpose()
    }

    /// Waits for a place, in turn with other attaches to unknown instances.
    pub(super) async fn await_place(&self) -> Result<Step, Failure> {
        self.session.ensure_time_to_send()?;
        let wait = self.backends().limiter.wait(RateClass::Describe).unwrap_or_default();
        let missing = PermitError::DeadlineExceeded { wait };
        self.set_pending_error(Operation::Attach.no_permit(&missing));
        self.session.until_deadline(self.place()).await?.map(Step::Discover)
    }

    async fn place(&self) -> Result<AdmissionPermit, Failure> {
        let patience = self.session.deadline().saturating_duration_since(Instant::now());
        let place = self.attacher.discoveries.acquire(1, patience, self.request.peer, None).await;
        place.map_err(|refused| self.session.refuse(refused.into()))
    }

    /// Describes the instance.
    pub(super) async fn discover(&mut self, place: AdmissionPermit) -> Result<Step, Failure> {
        self.session.ensure_time_to_send()?;
        let Some(permit) = self.permit(RateClass::Describe).await? else {
            return Ok(Step::Enter);
        };
        self.set_pending_error(failures::not_sent(
            "the describe of the instance got no answer in time",
        ));
        let backends = self.backends().clone();
        match backends.observe_instance(&self.request.instance, permit.spend()).await {
            Ok(seen) => {
                self.discovery = Some(Discovery::new(Some(seen), place));
                Ok(Step::Prepare)
            }
            // The describe before the reservation waits for the permits of all its pages.
            Err(DescribeError::NoPermit { .. }) => {
                self.discovery = Some(Discovery::new(None, place));
                Ok(Step::Prepare)
            }
            Err(error) => {
                drop(place);
                let retry = self.retry.after_describe(&error)?;
                self.pause_for(retry).await?;
                Ok(Step::Enter)
            }
        }
    }
}
