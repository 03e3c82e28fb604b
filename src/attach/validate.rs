//! `validate_only`: every check that needs neither lock nor slot. Nothing is sent, now or later.

use std::sync::Arc;

use tokio::time::Instant;

use crate::ens::{DescribeError, EniStatus, Ens, InstanceRow, Row};
use crate::failures::{Operation, attach as failures};
use crate::ledger::LedgerStore;
use crate::ledger::command::Reply;
use crate::ledger::execute::CommandOutcome;
use crate::model::{Failure, InterfaceId, State};
use crate::rate_limit::{Permit, RateClass};

use super::batch::BatchRequest;
use super::caller_session::CallerSession;
use super::{Attacher, Request};

/// The description of a check that passed.
pub type Check = String;

/// The checks of one ENI that passed, or the failure that its attach would end with.
type Validated = Result<Vec<Check>, Failure>;

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Checks capacity by the ledger and by ENS, the ENI's state, and the instance's state and
    /// network.
    ///
    /// # Errors
    /// The failure that an attach would end with, as far as it is foreseeable.
    pub async fn validate(self: &Arc<Self>, request: Request) -> Result<Vec<Check>, Failure> {
        let mut validated = self.validate_all(&[request]).await?;
        validated.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// As [`Attacher::validate`], for each ENI of a batch, in their order. They share the
    /// describes.
    pub async fn validate_batch(self: &Arc<Self>, batch: &BatchRequest) -> Vec<Validated> {
        let requests: Vec<_> = batch.requests().collect();
        let about = |request: &Request, failure: &Failure| {
            Err(failure.clone().about(&request.instance, &request.eni))
        };
        match self.validate_all(&requests).await {
            Ok(validated) => validated,
            Err(failure) => requests.iter().map(|request| about(request, &failure)).collect(),
        }
    }

    /// Checks requests of one caller for one instance.
    async fn validate_all(&self, requests: &[Request]) -> Result<Vec<Validated>, Failure> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        let validation = Validation { attacher: self, requests, first };
        let check = async {
            let patience = first.deadline.saturating_duration_since(Instant::now());
            let _place = self.validations.acquire(1, patience, first.peer, None).await?;
            validation.check().await
        };
        CallerSession::new(first.deadline).until_deadline(check).await?
    }
}

/// The requests of one `validate_only` call.
struct Validation<'a, L, E> {
    attacher: &'a Attacher<L, E>,
    requests: &'a [Request],
    /// Its instance, caller and deadline are those of all.
    first: &'a Request,
}

/// What the ledger answers for an ENI.
enum LedgerAnswer {
    /// It is attached or in flight.
    Here(Check),
    /// There is a slot for it.
    Free(Check),
}

impl<L: LedgerStore, E: Ens> Validation<'_, L, E> {
    async fn check(&self) -> Result<Vec<Validated>, Failure> {
        let Request { instance, eni, .. } = self.first;
        let state = self.attacher.existing(instance, self.describe_permit().await?).await;
        let state = state.map_err(|failure| failure.about(instance, eni))?;
        let known = self.known().await?;
        let pairs = self.requests.iter().zip(&known);
        let free = pairs.filter(|(_, known)| matches!(known, Ok(LedgerAnswer::Free(_))));
        let free = free.map(|(request, _)| request.eni.clone()).collect();
        let rows = if state.status == "Stopped" { self.rows(free).await? } else { Vec::new() };
        let validated = self.requests.iter().zip(known);
        Ok(validated.map(|(request, known)| conclude(request, known?, &state, &rows)).collect())
    }

    /// What the ledger answers for each ENI, after a describe of the instance.
    async fn known(&self) -> Result<Vec<Result<LedgerAnswer, Failure>>, Failure> {
        let (instance, ledger) = (&self.first.instance, &self.attacher.backends.ledger);
        let permit = self.describe_permit().await?;
        // The time is taken before the describe, which then confirms an attached ENI.
        let since = ledger.store().now(instance);
        let observed =
            self.attacher.backends.observe_and_record_instance(instance, permit, None).await;
        observed.map_err(|error| Operation::Attach.not_observed(&error))?;
        let (mut known, mut in_need) = (Vec::new(), Vec::new());
        for request in self.requests {
            let answer = ledger.execute(instance, &request.query_command(since)).await;
            let answer = answer.map_err(|error| Operation::Attach.ledger_unavailable(&error))?;
            if answer.reply == Reply::Admissible {
                in_need.push(&request.eni);
            }
            known.push(self.answered(request, answer, &in_need));
        }
        Ok(known)
    }

    /// The ledger's answer for one ENI. `in_need` are those that need a slot, up to this one.
    fn answered(
        &self,
        request: &Request,
        answer: CommandOutcome,
        in_need: &[&InterfaceId],
    ) -> Result<LedgerAnswer, Failure> {
        let Request { instance, eni, .. } = request;
        let here = |check: &str| Ok(LedgerAnswer::Here(check.to_owned()));
        match answer.reply {
            Reply::CapacityExceeded(used) => Err(failures::capacity_exceeded(&used, instance, eni)),
            Reply::Frozen(freeze) => Err(failures::frozen(&freeze)),
            Reply::Recovering(until) => Err(failures::recovering(until, answer.now)),
            Reply::RequestIdReused(entry) => Err(failures::request_id_reused(&entry.eni)),
            Reply::AlreadyAttached { attempt, .. } if attempt.state.kind() == State::Detaching => {
                Err(failures::detaching(instance, eni))
            }
            Reply::AlreadyAttached { .. } => {
                here("eni: it is attached to this instance already; an attach would send nothing")
            }
            Reply::Joined(_) => here("eni: its attach is in flight; another one would join it"),
            Reply::Replayed(_) => here("request_id: it has an outcome, which would be replayed"),
            _ => {
                let ledger = &self.attacher.backends.ledger;
                let (record, now) = (&answer.record, answer.now);
                let partition = &ledger.store().partition(instance);
                // The ENIs before it in a batch come first.
                let enis = in_need.iter().copied();
                match self.attacher.check_by(record, partition, now, instance, enis) {
                    Some(capacity) if capacity.is_exceeded() => {
                        Err(failures::capacity_exceeded(&capacity.used, instance, eni))
                    }
                    _ => Ok(LedgerAnswer::Free(format!(
                        "slots: the instance has a free slot (limit {})",
                        ledger.bounds_of(instance).limit
                    ))),
                }
            }
        }
    }

    /// The rows of these ENIs. Those that are missing from an answer are described alone, so one
    /// unknown id fails no other.
    async fn rows(&self, enis: Vec<InterfaceId>) -> Result<Vec<Row>, Failure> {
        let failed = |error| Operation::Attach.describe_failed(&error);
        let mut rows = match enis.as_slice() {
            [] | [_] => Vec::new(),
            _ => match self
                .attacher
                .backends
                .ens
                .interfaces(self.describe_permit().await?, &enis)
                .await
            {
                Ok(rows) => rows,
                Err(DescribeError::UnknownId(_)) => Vec::new(),
                Err(error) => return Err(failed(error)),
            },
        };
        for eni in &enis {
            if rows.iter().all(|row| row.eni != *eni) {
                let row =
                    self.attacher.backends.describe_eni(eni, self.describe_permit().await?).await;
                rows.extend(row.map_err(failed)?);
            }
        }
        Ok(rows)
    }

    async fn describe_permit(&self) -> Result<Permit, Failure> {
        self.attacher.permit(RateClass::Read, self.first.deadline).await
    }
}

/// The checks of one ENI, by what was asked.
fn conclude(
    request: &Request,
    known: LedgerAnswer,
    state: &InstanceRow,
    rows: &[Row],
) -> Validated {
    let Request { instance, eni, caller, .. } = request;
    let mut checks = vec![
        "fields: the ids are well-formed".to_owned(),
        format!("identity: the caller is {caller}"),
    ];
    match known {
        LedgerAnswer::Here(check) => {
            checks.push(check);
            return Ok(checks);
        }
        LedgerAnswer::Free(check) => checks.push(check),
    }
    let about = |failure: Failure| failure.about(instance, eni);
    if state.status != "Stopped" {
        return Err(about(failures::not_stopped(&state.status)));
    }
    checks.push("instance: it is Stopped".to_owned());
    let row = rows.iter().find(|row| row.eni == *eni);
    let row = row.ok_or_else(|| about(failures::unknown_eni()))?;
    check_eni(row, &state.network).map_err(about)?;
    checks.push("eni: it is Available, and of a type that can be attached".to_owned());
    if row.network.is_empty() || state.network.is_empty() {
        checks.push("network: not checked, because ens shows none".to_owned());
    } else {
        checks.push(format!("network: both are in {}", row.network));
    }
    Ok(checks)
}

fn check_eni(row: &Row, network: &str) -> Result<(), Failure> {
    if row.primary {
        return Err(failures::primary_eni());
    }
    if row.status != EniStatus::Available {
        return Err(failures::eni_not_available(row));
    }
    if !row.network.is_empty() && !network.is_empty() && row.network != network {
        return Err(failures::network_mismatch(&row.network, network));
    }
    Ok(())
}
