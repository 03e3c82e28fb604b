//! Conversion of ENS's rows to the ledger's types.

use crate::ens::{EniStatus, Row};
use crate::ledger::command::{EniObservation, ObservedEni, ObservedStatus};
use crate::model::InstanceId;

/// The rows of a describe of the whole instance.
pub(super) fn to_observed_enis(instance: &InstanceId, rows: Vec<Row>) -> Vec<ObservedEni> {
    let here = |row: &Row| row.instance.as_ref().is_none_or(|on| on == instance);
    rows.into_iter()
        .filter(here)
        .map(|row| ObservedEni {
            status: to_status(row.status),
            eni: row.eni,
            text: row.status_text,
            primary: row.primary,
        })
        .collect()
}

/// The observation of one ENI for this instance, from a describe by id.
pub(super) fn to_eni_observation(instance: &InstanceId, row: &Row) -> EniObservation {
    let text = row.status_text.clone();
    match (&row.instance, row.status) {
        (_, EniStatus::Available) => EniObservation::Available { text },
        (Some(on), status) if on == instance => {
            EniObservation::Here { status: to_status(status), text }
        }
        (Some(other), EniStatus::Attaching | EniStatus::InUse | EniStatus::Detaching) => {
            EniObservation::Elsewhere { instance: other.clone(), text }
        }
        _ => EniObservation::Unclear { text },
    }
}

fn to_status(status: EniStatus) -> ObservedStatus {
    match status {
        EniStatus::Available => ObservedStatus::Available,
        EniStatus::Attaching => ObservedStatus::Attaching,
        EniStatus::InUse => ObservedStatus::InUse,
        EniStatus::Detaching => ObservedStatus::Detaching,
        EniStatus::Deleting | EniStatus::Other => ObservedStatus::Other,
    }
}
