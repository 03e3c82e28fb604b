//! The states of instances in ENS, kept for a minute. Equal questions share one call of ENS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::backends::Backends;
use crate::ens::Ens;
use crate::ledger::{BootInstant, LedgerStore};
use crate::model::InstanceId;
use crate::observe::{InstanceStates, ObserveError, SingleFlight};
use crate::rate_limit::{Permit, PermitError};

use super::coverage::OBSERVED_WITHIN;

/// Number of kept states above which old ones are dropped.
const MANY: usize = 4096;

/// The states that this replica knows.
#[derive(Default)]
pub(super) struct States {
    known: Arc<Mutex<BTreeMap<InstanceId, SeenState>>>,
    flights: SingleFlight<Vec<InstanceId>, Arc<InstanceStates>>,
}

/// One state, and when its describe was sent.
struct SeenState {
    sent_at: BootInstant,
    state: Option<String>,
}

impl States {
    /// The states that were described within `max_age`.
    fn recent(
        &self,
        ids: &[InstanceId],
        max_age: Duration,
    ) -> BTreeMap<InstanceId, Option<String>> {
        let max_age = max_age.min(OBSERVED_WITHIN);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = ids.iter().filter_map(|id| {
            let seen = known.get(id).filter(|seen| seen.sent_at.elapsed() < max_age)?;
            Some((id.clone(), seen.state.clone()))
        });
        recent.collect()
    }

    /// The states of these instances, none older than `max_age` or a minute. Describes the
    /// others, in one call, if there is a permit.
    pub(super) async fn describe<L: LedgerStore, E: Ens>(
        &self,
        (backends, tasks): (&Backends<L, E>, &TaskTracker),
        ids: &[InstanceId],
        max_age: Duration,
        permit: impl Future<Output = Result<Permit, PermitError>> + Send + 'static,
        until: Instant,
    ) -> InstanceStates {
        let mut states = self.recent(ids, max_age);
        let missing: Vec<_> = ids.iter().filter(|id| !states.contains_key(id)).cloned().collect();
        if missing.is_empty() {
            return InstanceStates { states, error: None };
        }
        let (backends, known, ids) = (backends.clone(), self.known.clone(), missing.clone());
        let flight = self.flights.join(&missing, tasks, permit, async move |permit| {
            let sent_at = BootInstant::now();
            let found = backends.describe_states(ids, permit).await;
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() > MANY {
                known.retain(|_, seen| seen.sent_at.elapsed() < OBSERVED_WITHIN);
            }
            let seen = found.states.iter();
            known.extend(
                seen.map(|(id, state)| (id.clone(), SeenState { sent_at, state: state.clone() })),
            );
            Ok(Arc::new(found))
        });
        let late = |_| Err(ObserveError::unanswered("no answer in time"));
        match timeout_at(until, flight.result()).await.unwrap_or_else(late) {
            Ok(found) => {
                states.extend(found.states.clone());
                InstanceStates { states, error: found.error.clone() }
            }
            Err(error) => InstanceStates { states, error: Some(error) },
        }
    }
}
