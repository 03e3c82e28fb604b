//! `validate_only`: every check that needs neither lock nor slot. Nothing is sent, now or later.

use std::sync::Arc;

use tokio::time::Instant;

use crate::backends::Backends;
use crate::ens::{EniStatus, Ens, Row};
use crate::failures::{Operation, attach as failures};
use crate::ledger::LedgerStore;
use crate::ledger::command::Reply;
use crate::model::{Failure, State};
use crate::rate_limit::{Permit, RateClass};

use super::caller_session::CallerSession;
use super::{Attacher, Request};

/// The description of a check that passed.
pub type Check = String;

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Checks capacity by the ledger and by ENS, the ENI's state, and the instance's state and
    /// network.
    ///
    /// # Errors
    /// The failure that an attach would end with, as far as it is foreseeable.
    pub async fn validate(self: &Arc<Self>, request: Request) -> Result<Vec<Check>, Failure> {
        let validation = Validation { backends: &self.backends, request: &request };
        let check = async {
            let patience = request.deadline.saturating_duration_since(Instant::now());
            let _place = self.validations.acquire_within(patience, request.peer, None).await?;
            validation.check().await
        };
        CallerSession::new(request.deadline).until_deadline(check).await?
    }
}

/// One `validate_only` call.
struct Validation<'a, L, E> {
    backends: &'a Backends<L, E>,
    request: &'a Request,
}

impl<L: LedgerStore, E: Ens> Validation<'_, L, E> {
    async fn check(&self) -> Result<Vec<Check>, Failure> {
        let Request { instance, eni, caller, .. } = self.request;
        let mut checks = vec![
            "fields: the ids are well-formed".to_owned(),
            format!("identity: the caller is {caller}"),
        ];
        let state = self
            .backends
            .ens
            .instances(self.describe_permit().await?, std::slice::from_ref(instance))
            .await
            .map_err(|error| Operation::Attach.describe_failed(&error))?
            .pop()
            .ok_or_else(|| failures::unknown_instance().about(instance, eni))?;
        if self.is_here(&mut checks).await? {
            return Ok(checks);
        }
        if state.status != "Stopped" {
            return Err(failures::not_stopped(&state.status).about(instance, eni));
        }
        checks.push("instance: it is Stopped".to_owned());
        let row = self.row().await?;
        check_eni(&row, &state.network).map_err(|failure| failure.about(instance, eni))?;
        checks.push("eni: it is Available, and of a type that can be attached".to_owned());
        if row.network.is_empty() || state.network.is_empty() {
            checks.push("network: not checked, because ens shows none".to_owned());
        } else {
            checks.push(format!("network: both are in {}", row.network));
        }
        Ok(checks)
    }

    /// Whether the pair is attached or in flight. If not, checks that a slot is free.
    async fn is_here(&self, checks: &mut Vec<Check>) -> Result<bool, Failure> {
        let Request { instance, eni, .. } = self.request;
        let permit = self.describe_permit().await?;
        // The time is taken before the describe, which then confirms an attached ENI.
        let query = self.request.query_command(self.backends.ledger.store().now(instance));
        let observed = self.backends.record_instance(instance, permit, Some(query)).await;
        let (_, answer) = observed.map_err(|error| Operation::Attach.not_observed(&error))?;
        match answer.reply {
            Reply::CapacityExceeded(fullness) => {
                Err(failures::capacity_exceeded(&fullness, instance, eni))
            }
            Reply::Frozen(freeze) => Err(failures::frozen(&freeze)),
            Reply::Recovering(until) => Err(failures::recovering(until, answer.now)),
            Reply::RequestIdReused(entry) => Err(failures::request_id_reused(&entry.eni)),
            Reply::AlreadyAttached { attempt, .. } if attempt.state.kind() == State::Detaching => {
                Err(failures::detaching(instance, eni))
            }
            Reply::AlreadyAttached { .. } => {
                checks.push(
                    "eni: it is attached to this instance already; an attach would send nothing"
                        .to_owned(),
                );
                Ok(true)
            }
            Reply::Joined(_) => {
                checks.push("eni: its attach is in flight; another one would join it".to_owned());
                Ok(true)
            }
            Reply::Replayed(_) => {
                checks.push("request_id: it has an outcome, which would be replayed".to_owned());
                Ok(true)
            }
            _ => {
                checks.push(format!(
                    "slots: the instance has a free slot (limit {})",
                    self.backends.ledger.bounds_of(instance).limit
                ));
                Ok(false)
            }
        }
    }

    async fn row(&self) -> Result<Row, Failure> {
        let Request { instance, eni, .. } = self.request;
        let row = self.backends.describe_eni(eni, self.describe_permit().await?).await;
        row.map_err(|error| Operation::Attach.describe_failed(&error))?
            .ok_or_else(|| failures::unknown_eni().about(instance, eni))
    }

    async fn describe_permit(&self) -> Result<Permit, Failure> {
        let limiter = &self.backends.limiter;
        let permit = limiter.permit(RateClass::Read, self.request.deadline).await;
        permit.map_err(|missing| Operation::Attach.no_permit(&missing))
    }
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
