//! The describes of an attach: the instance's ENIs when the observation is too old, and the ENI itself when the
//! ledger thinks that it is attached already.

use std::time::Duration;

use crate::ens::{DescribeError, EniStatus, Ens, Row};
use crate::ledger::LedgerStore;
use crate::ledger::command::{Command, EniObservation, ObservedEni, ObservedStatus};
use crate::ledger::record::Attempt;
use crate::model::{Failure, InstanceId, Timestamp};
use crate::rate_limit::{Permit, RateClass};

use super::{Attacher, AttemptTask, LEAST_ROUND, LEDGER_RETRY, failures};

/// Pause after a describe that failed for the moment, or settled nothing.
pub(super) const DESCRIBE_PAUSE: Duration = Duration::from_millis(500);

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Every ENI of the instance, and when ENS was asked. The inner error is worth another try after a pause.
    pub(super) async fn describe(
        &self,
        instance: &InstanceId,
        permit: Permit,
    ) -> Result<(Timestamp, Vec<ObservedEni>), Result<(Duration, Failure), Failure>> {
        let sent_at = self.ledger.store().now(instance);
        match self.ens.interfaces_of(permit, instance).await {
            Ok(rows) => Ok((sent_at, to_observed_enis(instance, rows))),
            Err(error) => Err(failures::describe_failed(&error).map(|why| (pause_after(&error), why))),
        }
    }
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    /// Looks whether the ENI that the ledger has on the instance is still there, and records what ENS shows. How long to wait before the
    /// ledger is asked again, and what the caller hears if there is no time for that.
    pub(super) async fn refresh_eni(&self) -> Result<(Duration, Failure), Failure> {
        let attacher = &self.attacher;
        let (instance, eni) = (&self.request.instance, &self.request.eni);
        let silent = || failures::unconfirmed_attachment("it did not answer in time");
        self.session.set_pending_error(silent());
        let refresh = attacher.refreshes.of(&(instance.clone(), eni.clone()));
        let _only_one = self.session.until_deadline(refresh.lock()).await?;
        if self.was_described().await {
            return Ok((LEAST_ROUND, failures::unsettled_attachment()));
        }
        let permit = attacher.permit(RateClass::Describe, &self.session).await?;
        self.session.set_pending_error(silent());
        let sent_at = attacher.ledger.store().now(instance);
        let finding = match attacher.ens.interfaces(permit, std::slice::from_ref(eni)).await {
            Ok(rows) => rows
                .first()
                .map_or(EniObservation::Missing, |row| to_eni_observation(instance, row)),
            Err(DescribeError::UnknownId(_)) => EniObservation::Missing,
            Err(error) => {
                let unconfirmed = |why: Failure| failures::unconfirmed_attachment(&why.message);
                let why = failures::describe_failed(&error)
                    .map(unconfirmed)
                    .map_err(unconfirmed)?;
                return Ok((pause_after(&error), why));
            }
        };
        let settle = Command::RecordStatuses {
            sent_at,
            findings: vec![(eni.clone(), finding)],
        };
        let record = match attacher.ledger.execute(instance, &settle).await {
            Ok(answer) => answer.record,
            Err(error) => return Ok((LEDGER_RETRY, self.session.ledger_unreached(&error)?)),
        };
        let told = |attempt: &Attempt| attempt.described_at >= Some(sent_at);
        let pause = match record.attempts.get(eni).is_none_or(told) {
            true => LEAST_ROUND,
            // The describe settled nothing: the next one does not follow at once.
            false => DESCRIBE_PAUSE,
        };
        Ok((pause, failures::unconfirmed_attachment("its answer did not settle it")))
    }

    /// Whether another call had ENS asked for the ENI since this one came.
    async fn was_described(&self) -> bool {
        let looked = self
            .attacher
            .ledger
            .execute(&self.request.instance, &Command::Read)
            .await;
        let is_new = |attempt: &Attempt| {
            attempt.described_at >= Some(self.confirmed_since()) && attempt.unconfirmed_since.is_none()
        };
        looked.is_ok_and(|answer| answer.record.attempts.get(&self.request.eni).is_some_and(is_new))
    }
}

fn pause_after(error: &DescribeError) -> Duration {
    match error {
        DescribeError::Throttled {
            retry_after: Some(pause),
            ..
        } => *pause,
        _ => DESCRIBE_PAUSE,
    }
}

/// The rows of a describe by instance, in the ledger's terms.
pub(crate) fn to_observed_enis(instance: &InstanceId, rows: Vec<Row>) -> Vec<ObservedEni> {
    let here = |row: &Row| row.instance.as_ref().is_none_or(|on| on == instance);
    rows.into_iter()
        .filter(here)
        .map(|row| ObservedEni {
            status: status(row.status),
            eni: row.eni,
            text: row.status_text,
            primary: row.primary,
        })
        .collect()
}

/// One row of a describe by id, in the ledger's terms.
pub(crate) fn to_eni_observation(instance: &InstanceId, row: &Row) -> EniObservation {
    let text = row.status_text.clone();
    match (&row.instance, row.status) {
        (_, EniStatus::Available) => EniObservation::Available { text },
        (Some(on), EniStatus::Deleting | EniStatus::Other) if on == instance => EniObservation::Here {
            status: ObservedStatus::Other,
            text,
        },
        (Some(on), status_here) if on == instance => EniObservation::Here {
            status: status(status_here),
            text,
        },
        (Some(other), EniStatus::Attaching | EniStatus::InUse | EniStatus::Detaching) => EniObservation::Elsewhere {
            instance: other.clone(),
            text,
        },
        _ => EniObservation::Unclear { text },
    }
}

fn status(status: EniStatus) -> ObservedStatus {
    match status {
        EniStatus::Available => ObservedStatus::Available,
        EniStatus::Attaching => ObservedStatus::Attaching,
        EniStatus::InUse => ObservedStatus::InUse,
        EniStatus::Detaching => ObservedStatus::Detaching,
        EniStatus::Deleting | EniStatus::Other => ObservedStatus::Other,
    }
}
