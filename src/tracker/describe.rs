//! One batch of describes by id: what is missing from it is asked for alone, and one unknown id fails nobody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::{Duration, Instant};

use crate::attach::to_eni_observation;
use crate::ens::{DescribeError, Ens, Row};
use crate::ledger::command::EniObservation;
use crate::ledger::{BootInstant, Due, LedgerStore};
use crate::model::{InstanceId, InterfaceId, Timestamp};
use crate::rate_limit::{Permit, RateClass};

use super::Tracker;

/// How long the further questions of one batch may wait for their permits.
const FURTHER_WITHIN: Duration = Duration::from_secs(5);

/// What was seen of one instance's attempts by one describe.
pub(super) type InstanceObservations = (InstanceId, Timestamp, Vec<(InterfaceId, EniObservation)>);

impl<L: LedgerStore, E: Ens> Tracker<L, E> {
    pub(super) async fn describe_due(&self, due: &[Due], permit: Permit) -> Vec<InstanceObservations> {
        let ids: BTreeSet<InterfaceId> = due.iter().map(|due| due.eni.clone()).collect();
        let deadline = Instant::now() + FURTHER_WITHIN;
        let mut permit = Some(permit);
        let mut questions = VecDeque::from([ids.into_iter().collect::<Vec<_>>()]);
        let mut looks = Vec::new();
        while let Some(ids) = questions.pop_front() {
            let permit = match permit.take() {
                Some(permit) => permit,
                None => match self.limiter.permit(RateClass::Track, deadline).await {
                    Ok(permit) => permit,
                    Err(error) => {
                        tracing::debug!(%error, "a batch is left for the next round");
                        break;
                    }
                },
            };
            let sent = BootInstant::now();
            match self.ens.interfaces(permit, &ids).await {
                Ok(rows) => {
                    let missing = self.read(due, &ids, &rows, sent, &mut looks);
                    questions.extend(missing.into_iter().map(|id| vec![id]));
                }
                Err(DescribeError::UnknownId(_)) if ids.len() == 1 => {
                    self.read(due, &ids, &[], sent, &mut looks);
                }
                Err(DescribeError::UnknownId(_)) => {
                    let (left, right) = ids.split_at(ids.len() / 2);
                    questions.extend([left.to_vec(), right.to_vec()]);
                }
                Err(error) => {
                    tracing::warn!(%error, batch = ids.len(), "ens could not be asked for a batch; it falls due again");
                    self.unclear(due, &ids, sent, &mut looks);
                }
            }
        }
        looks
    }

    /// Sorts the rows by the instances that asked for them. The ids that are missing and must be asked for alone.
    fn read(
        &self,
        due: &[Due],
        ids: &[InterfaceId],
        rows: &[Row],
        sent: BootInstant,
        looks: &mut Vec<InstanceObservations>,
    ) -> Vec<InterfaceId> {
        let mut missing = BTreeSet::new();
        let found = due.iter().filter(|due| ids.contains(&due.eni)).filter_map(|due| {
            match rows.iter().find(|row| row.eni == due.eni) {
                Some(row) => Some((due, to_eni_observation(&due.instance, row))),
                None if ids.len() == 1 => Some((due, EniObservation::Missing)),
                None => {
                    missing.insert(due.eni.clone());
                    None
                }
            }
        });
        looks.extend(self.by_instance(found, sent));
        missing.into_iter().collect()
    }

    /// Nothing was learnt; the attempts fall due again after their pause.
    fn unclear(&self, due: &[Due], ids: &[InterfaceId], sent: BootInstant, looks: &mut Vec<InstanceObservations>) {
        let unclear = || EniObservation::Unclear { text: String::new() };
        let asked = due
            .iter()
            .filter(|due| ids.contains(&due.eni))
            .map(|due| (due, unclear()));
        looks.extend(self.by_instance(asked, sent));
    }

    /// Each instance's findings, and when ENS was asked by the ledger's clock for that instance.
    fn by_instance<'a>(
        &self,
        found: impl Iterator<Item = (&'a Due, EniObservation)>,
        sent: BootInstant,
    ) -> Vec<InstanceObservations> {
        let mut instances: BTreeMap<&InstanceId, Vec<(InterfaceId, EniObservation)>> = BTreeMap::new();
        for (due, finding) in found {
            instances
                .entry(&due.instance)
                .or_default()
                .push((due.eni.clone(), finding));
        }
        let ledger = self.ledger.store();
        instances
            .into_iter()
            .map(|(instance, findings)| (instance.clone(), ledger.now(instance) - sent.elapsed(), findings))
            .collect()
    }
}
