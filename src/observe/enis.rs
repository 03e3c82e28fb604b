//! Describes of ENIs by id, in batches. ENIs missing from an answer are described alone, so one
//! unknown id fails no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::{Duration, Instant};

use crate::backends::Backends;
use crate::ens::{DescribeError, Ens, Row};
use crate::ledger::command::{Command, EniObservation};
use crate::ledger::execute::CommandOutcome;
use crate::ledger::{Due, LedgerError, LedgerStore};
use crate::model::{InstanceId, InterfaceId, Timestamp};
use crate::rate_limit::{Permit, RateClass};

use super::{ObserveError, rows};

/// Maximum wait of the further describes of one batch for their permits.
const FURTHER_WITHIN: Duration = Duration::from_secs(5);

/// The result of one describe by id for one instance's ENIs.
pub(crate) struct EniObservations {
    /// The instance whose record has them.
    pub(crate) instance: InstanceId,
    /// When the describe was sent, by the ledger's clock for this instance.
    pub(crate) sent_at: Timestamp,
    observations: Vec<(InterfaceId, EniObservation)>,
}

impl<L: LedgerStore, E: Ens> Backends<L, E> {
    /// The row of one ENI; `None` where ENS does not know it.
    pub(crate) async fn describe_eni(
        &self,
        eni: &InterfaceId,
        permit: Permit,
    ) -> Result<Option<Row>, DescribeError> {
        match self.ens.interfaces(permit, std::slice::from_ref(eni)).await {
            Ok(rows) => Ok(rows.into_iter().find(|row| row.eni == *eni)),
            Err(DescribeError::UnknownId(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Observes one ENI of this instance and records it. Also returns when the describe was sent.
    pub(crate) async fn observe_and_record_eni(
        &self,
        instance: &InstanceId,
        eni: &InterfaceId,
        permit: Permit,
    ) -> Result<(Timestamp, CommandOutcome), ObserveError> {
        let sent_at = self.ledger.store().now(instance);
        let row = self.describe_eni(eni, permit).await?;
        let observation =
            row.map_or(EniObservation::Missing, |row| rows::to_eni_observation(instance, &row));
        let observed = EniObservations {
            instance: instance.clone(),
            sent_at,
            observations: vec![(eni.clone(), observation)],
        };
        Ok((sent_at, self.record_enis(observed).await?))
    }

    /// Observes at most [`MAX_IDS`](crate::ens::MAX_IDS) ENIs. `permit` is for the first describe;
    /// further ones take the tracker's. ENIs that could not be described are unclear, or missing
    /// from the result.
    pub(crate) async fn observe_enis(&self, due: &[Due], permit: Permit) -> Vec<EniObservations> {
        let ids: BTreeSet<InterfaceId> = due.iter().map(|due| due.eni.clone()).collect();
        let deadline = Instant::now() + FURTHER_WITHIN;
        let mut permit = Some(permit);
        let mut batches = VecDeque::from([ids.into_iter().collect::<Vec<_>>()]);
        let mut observed = Vec::new();
        while let Some(ids) = batches.pop_front() {
            let permit = match permit.take() {
                Some(permit) => permit,
                None => match self.limiter.permit(RateClass::Track, deadline).await {
                    Ok(permit) => permit,
                    Err(error) => {
                        tracing::debug!(%error, "a batch is left for the next tick");
                        break;
                    }
                },
            };
            let asked = due.iter().filter(|due| ids.contains(&due.eni));
            let mut seen = self.unobserved(asked.clone());
            let rows = match self.ens.interfaces(permit, &ids).await {
                Ok(rows) => Some(rows),
                Err(DescribeError::UnknownId(_)) if ids.len() == 1 => Some(Vec::new()),
                Err(DescribeError::UnknownId(_)) => {
                    let (left, right) = ids.split_at(ids.len() / 2);
                    batches.extend([left.to_vec(), right.to_vec()]);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, enis = ids.len(), "a describe of attempts in flight failed; \
                        they fall due again");
                    None
                }
            };
            let mut missing = BTreeSet::new();
            for Due { instance, eni } in asked {
                let row = rows.iter().flatten().find(|row| row.eni == *eni);
                let observation = match (&rows, row) {
                    (_, Some(row)) => rows::to_eni_observation(instance, row),
                    // Nothing was observed. The attempt falls due again after its pause.
                    (None, None) => EniObservation::Unclear { text: String::new() },
                    (Some(_), None) if ids.len() == 1 => EniObservation::Missing,
                    (Some(_), None) => {
                        missing.insert(eni.clone());
                        continue;
                    }
                };
                if let Some(seen) = seen.get_mut(instance) {
                    seen.observations.push((eni.clone(), observation));
                }
            }
            batches.extend(missing.into_iter().map(|id| vec![id]));
            observed.extend(seen.into_values().filter(|seen| !seen.observations.is_empty()));
        }
        observed
    }

    /// Records the observations of one instance's ENIs.
    pub(crate) async fn record_enis(
        &self,
        observed: EniObservations,
    ) -> Result<CommandOutcome, LedgerError> {
        let EniObservations { instance, sent_at, observations } = observed;
        self.ledger.execute(&instance, &Command::RecordStatuses { sent_at, observations }).await
    }

    /// Empty observations, one for each instance, of a describe that is sent now.
    fn unobserved<'a>(
        &self,
        due: impl Iterator<Item = &'a Due>,
    ) -> BTreeMap<InstanceId, EniObservations> {
        due.map(|due| {
            let instance = due.instance.clone();
            let observed = EniObservations {
                instance: instance.clone(),
                sent_at: self.ledger.store().now(&instance),
                observations: Vec::new(),
            };
            (instance, observed)
        })
        .collect()
    }
}
