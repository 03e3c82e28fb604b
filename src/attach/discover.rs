//! The describe of an instance that the ledger does not know. Nothing is stored before it, and few
//! such attaches run at once: callers with made-up ids neither fill the ledger nor use up the calls
//! of ENS that other attaches need.

use std::pin::pin;
use std::task::Poll;

use futures_util::poll;
use tokio::time::Instant;

use crate::admission::AdmissionPermit;
use crate::ens::{DescribeError, Ens};
use crate::failures::{Operation, attach as failures};
use crate::ledger::LedgerStore;
use crate::model::Failure;
use crate::rate_limit::{PermitError, RateClass};

use super::AttemptTask;
use super::discovery::Discovery;
use super::flow::Step;

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Whether the instance needs no discovery.
    pub(super) fn knows_instance(&self) -> bool {
        self.resends.is_some()
            || self.discovery.is_some()
            || self.backends().ledger.knows(&self.request.instance)
    }

    /// Describes the instance, in turn with other attaches to unknown instances.
    pub(super) async fn discover(&mut self) -> Result<Step, Failure> {
        self.session.ensure_time_to_send()?;
        let place = self.discovery_place().await?;
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

    /// Waits for a place until the deadline.
    async fn discovery_place(&self) -> Result<AdmissionPermit, Failure> {
        let patience = self.session.deadline().saturating_duration_since(Instant::now());
        let discoveries = &self.attacher.discoveries;
        let mut place = pin!(discoveries.acquire_within(patience, self.request.peer, None));
        let place = match poll!(place.as_mut()) {
            Poll::Ready(place) => place,
            Poll::Pending => {
                let wait = self.backends().limiter.wait(RateClass::Describe).unwrap_or_default();
                let missing = PermitError::DeadlineExceeded { wait };
                self.set_pending_error(Operation::Attach.no_permit(&missing));
                self.session.until_deadline(place).await?
            }
        };
        place.map_err(|refused| self.session.refuse(refused.into()))
    }
}
