//! Describes of the states of instances, many in one call.

use std::collections::{BTreeMap, VecDeque};

use crate::backends::Backends;
use crate::ens::{DescribeError, Ens};
use crate::ledger::LedgerStore;
use crate::model::InstanceId;
use crate::rate_limit::{Permit, RateClass};

use super::ObserveError;

/// The states that ENS showed.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct InstanceStates {
    /// The state of each instance, verbatim; `None` if ENS does not know the instance.
    pub(crate) states: BTreeMap<InstanceId, Option<String>>,
    /// Why others are missing.
    pub(crate) error: Option<ObserveError>,
}

impl InstanceStates {
    /// Whether ENS may have the instance.
    pub(crate) fn may_exist(&self, instance: &InstanceId) -> bool {
        self.states.get(instance).is_none_or(Option::is_some)
    }
}

impl<L: LedgerStore, E: Ens> Backends<L, E> {
    /// The states of at most [`MAX_INSTANCES`](crate::ens::MAX_INSTANCES) instances. Further calls
    /// are needed only if ENS fails a call for an unknown id. They take a read's permits at once.
    pub(crate) async fn describe_states(
        &self,
        ids: Vec<InstanceId>,
        permit: Permit,
    ) -> InstanceStates {
        let (mut permit, mut batches) = (Some(permit), VecDeque::from([ids]));
        let mut found = InstanceStates::default();
        while let Some(ids) = batches.pop_front() {
            let permit = match permit.take() {
                Some(permit) => Ok(permit),
                None => self.limiter.try_permit(RateClass::Read).await,
            };
            let rows = match permit {
                Ok(permit) => self.ens.instances(permit, &ids).await.map_err(ObserveError::from),
                Err(missing) => Err(missing.into()),
            };
            match rows {
                Ok(rows) => {
                    found.states.extend(ids.into_iter().map(|id| (id, None)));
                    let shown = rows.into_iter().map(|row| (row.instance, Some(row.status)));
                    found.states.extend(shown);
                }
                Err(ObserveError::Describe(DescribeError::UnknownId(_))) if ids.len() > 1 => {
                    let (left, right) = ids.split_at(ids.len() / 2);
                    batches.extend([left.to_vec(), right.to_vec()]);
                }
                Err(error) => {
                    found.error = Some(error);
                    break;
                }
            }
        }
        found
    }
}
