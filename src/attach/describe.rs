//! What an attach asks of ENS beside the send: the instance's ENIs when the observation is too old, and the ENI itself when the
//! ledger thinks that it is attached already.

use std::time::Duration;

use crate::ens::{DescribeError, EniStatus, Ens, Permit, Purpose, Row};
use crate::ledger::Ledger;
use crate::ledger::command::{Command, Finding, Sight, Status};
use crate::ledger::record::Attempt;
use crate::model::{Failure, InstanceId, Timestamp};

use super::{Attacher, Attempting, LEAST_ROUND, LEDGER_RETRY, failures};

/// The pause after a describe that failed in passing, or told nothing.
pub(super) const DESCRIBE_PAUSE: Duration = Duration::from_millis(500);

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Every ENI of the instance, and when ENS was asked. The inner error is worth another try after a pause.
    pub(super) async fn describe(
        &self,
        instance: &InstanceId,
        permit: Permit,
    ) -> Result<(Timestamp, Vec<Sight>), Result<(Duration, Failure), Failure>> {
        let sent_at = self.book.ledger().now(instance);
        match self.ens.interfaces_of(permit, instance).await {
            Ok(rows) => Ok((sent_at, sights(instance, rows))),
            Err(error) => Err(failures::describe(&error).map(|why| (pause_after(&error), why))),
        }
    }
}

impl<L: Ledger, E: Ens> Attempting<L, E> {
    /// Looks whether the ENI that the ledger has on the instance is still there, and records what ENS shows. How long to wait before the
    /// ledger is asked again, and what the caller hears if there is no time for that.
    pub(super) async fn reread(&self) -> Result<(Duration, Failure), Failure> {
        let attacher = &self.attacher;
        let permit = attacher.permit(Purpose::Describe, &self.gate).await?;
        let (instance, eni) = (&self.request.instance, &self.request.eni);
        if self.was_described().await {
            attacher.budget.give_back(permit).await;
            return Ok((LEAST_ROUND, failures::doubtful()));
        }
        self.gate.blocked_by(failures::unaffirmed("it did not answer in time"));
        let sent_at = attacher.book.ledger().now(instance);
        let finding = match attacher.ens.interfaces(permit, std::slice::from_ref(eni)).await {
            Ok(rows) => rows.first().map_or(Finding::Missing, |row| finding(instance, row)),
            Err(DescribeError::UnknownId(_)) => Finding::Missing,
            Err(error) => {
                let why = failures::describe(&error).map_err(|final_one| failures::unaffirmed(&final_one.message))?;
                return Ok((pause_after(&error), failures::unaffirmed(&why.message)));
            }
        };
        let settle = Command::Settle {
            sent_at,
            findings: vec![(eni.clone(), finding)],
        };
        let record = match attacher.book.execute(instance, &settle).await {
            Ok(answer) => answer.record,
            Err(error) => return Ok((LEDGER_RETRY, self.gate.unreached(&error)?)),
        };
        let told = |attempt: &Attempt| attempt.described_at >= Some(sent_at);
        let pause = match record.attempts.get(eni).is_none_or(told) {
            true => LEAST_ROUND,
            // What it said was of no use: it is not asked again at once.
            false => DESCRIBE_PAUSE,
        };
        Ok((pause, failures::unaffirmed("its answer did not settle it")))
    }

    /// Whether another call had ENS asked for the ENI since this one came, while its permit was waited for.
    async fn was_described(&self) -> bool {
        let looked = self.attacher.book.execute(&self.request.instance, &Command::Look).await;
        let is_new =
            |attempt: &Attempt| attempt.described_at >= Some(self.affirmed_since()) && attempt.doubted_at.is_none();
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
pub(crate) fn sights(instance: &InstanceId, rows: Vec<Row>) -> Vec<Sight> {
    let here = |row: &Row| row.instance.as_ref().is_none_or(|on| on == instance);
    rows.into_iter()
        .filter(here)
        .map(|row| Sight {
            status: status(row.status),
            eni: row.eni,
            text: row.status_text,
            primary: row.primary,
        })
        .collect()
}

/// One row of a describe by id, in the ledger's terms.
pub(crate) fn finding(instance: &InstanceId, row: &Row) -> Finding {
    let text = row.status_text.clone();
    match (&row.instance, row.status) {
        (_, EniStatus::Available) => Finding::Available { text },
        (Some(on), EniStatus::Deleting | EniStatus::Other) if on == instance => Finding::Here {
            status: Status::Other,
            text,
        },
        (Some(on), status_here) if on == instance => Finding::Here {
            status: status(status_here),
            text,
        },
        (Some(other), EniStatus::Attaching | EniStatus::InUse | EniStatus::Detaching) => Finding::Elsewhere {
            instance: other.clone(),
            text,
        },
        _ => Finding::Unclear { text },
    }
}

fn status(status: EniStatus) -> Status {
    match status {
        EniStatus::Available => Status::Available,
        EniStatus::Attaching => Status::Attaching,
        EniStatus::InUse => Status::InUse,
        EniStatus::Detaching => Status::Detaching,
        EniStatus::Deleting | EniStatus::Other => Status::Other,
    }
}
