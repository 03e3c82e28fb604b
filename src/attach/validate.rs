//! `validate_only`: every check that can be made without the lock and without a slot. It sends nothing, now or later.

use std::sync::Arc;

use uuid::Uuid;

use tokio::time::Instant;

use crate::ens::{DescribeError, EniStatus, Ens, Row};
use crate::ledger::LedgerStore;
use crate::ledger::command::{Command, Mode, Reply};
use crate::model::{Failure, Reason, State, Ticket, Uid};
use crate::rate_limit::RateClass;

use super::caller_session::CallerSession;
use super::{Attacher, AttemptTask, Request, failures};

/// A check that was passed, in words.
pub type Check = String;

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Checks what an attach would meet: room by the ledger and by ENS, the ENI's state, the instance's state and network.
    ///
    /// # Errors
    /// The failure that the attach would end with, as far as it can be foreseen.
    pub async fn validate(self: &Arc<Self>, request: Request) -> Result<Vec<Check>, Failure> {
        let session = CallerSession::new(request.deadline);
        let attempting = AttemptTask {
            attacher: self.clone(),
            session: session.clone(),
            request,
            arrived: Instant::now(),
        };
        session.until_deadline(attempting.validate()).await?
    }
}

impl<L: LedgerStore, E: Ens> AttemptTask<L, E> {
    async fn validate(&self) -> Result<Vec<Check>, Failure> {
        let Request {
            instance, eni, caller, ..
        } = &self.request;
        let mut checks = vec![
            "fields: the ids are well-formed".to_owned(),
            format!("identity: the caller is {caller}"),
        ];
        let ens = &self.attacher.ens;
        let state = ens
            .instance(self.describe_permit().await?, instance)
            .await
            .map_err(|error| final_failure(&error))?;
        let Some(state) = state else {
            let why = "ens knows no such instance; check the id, and the account and region that the gateway uses";
            return Err(Failure::new(Reason::InstanceNotFound, why).about(instance, eni));
        };
        if self.is_here(&mut checks).await? {
            return Ok(checks);
        }
        if state.status != "Stopped" {
            let why = format!("the instance is {}; stop it, and try again", state.status);
            return Err(Failure::new(Reason::InstanceNotStopped, why).about(instance, eni));
        }
        checks.push("instance: it is Stopped".to_owned());
        let row = self.row().await?;
        check_eni(&row, &state.network).map_err(|failure| failure.about(instance, eni))?;
        checks.push("eni: it is Available, and of a type that can be attached".to_owned());
        if row.network.is_empty() || state.network.is_empty() {
            checks.push("network: not checked, for ens names none".to_owned());
        } else {
            checks.push(format!("network: both are in {}", row.network));
        }
        Ok(checks)
    }

    /// Whether the pair is attached or under way; otherwise checks that there is room for it.
    async fn is_here(&self, checks: &mut Vec<Check>) -> Result<bool, Failure> {
        let Request { instance, eni, .. } = &self.request;
        let permit = self.describe_permit().await?;
        let (sent_at, rows) = match self.attacher.describe(instance, permit).await {
            Ok(seen) => seen,
            Err(error) => return Err(error.map_or_else(|failure| failure, |(_, why)| why)),
        };
        let enter = self.enter(Ticket(Uuid::nil()), Uid(Uuid::nil()), Mode::Query);
        let command = Command::Observe {
            sent_at,
            rows,
            then: Some(Box::new(enter)),
        };
        let answer = self
            .attacher
            .ledger
            .execute(instance, &command)
            .await
            .map_err(|e| failures::unavailable(&e))?;
        match answer.reply {
            Reply::CapacityExceeded(fullness) => Err(failures::capacity_exceeded(&fullness, instance, eni)),
            Reply::Recovering(until) => Err(failures::recovering(until, answer.now)),
            Reply::RequestIdReused(entry) => Err(failures::request_id_reused(&entry.eni)),
            Reply::AlreadyAttached { attempt, .. } if attempt.attachment.state == State::Detaching => {
                Err(failures::detaching(instance, eni))
            }
            Reply::AlreadyAttached { .. } => {
                checks.push("eni: it is attached to this instance already; an attach would send nothing".to_owned());
                Ok(true)
            }
            Reply::Joined(_) => {
                checks.push("eni: its attach is under way; another one would join it".to_owned());
                Ok(true)
            }
            Reply::Replayed(_) => {
                checks.push("request_id: it was answered before; the same answer would be given again".to_owned());
                Ok(true)
            }
            _ => {
                checks.push(format!(
                    "room: the instance has a free slot (limit {})",
                    self.attacher.ledger.bounds_of(instance).limit
                ));
                Ok(false)
            }
        }
    }

    async fn row(&self) -> Result<Row, Failure> {
        let Request { instance, eni, .. } = &self.request;
        let rows = self
            .attacher
            .ens
            .interfaces(self.describe_permit().await?, std::slice::from_ref(eni))
            .await;
        let rows = match rows {
            Err(DescribeError::UnknownId(_)) => Vec::new(),
            rows => rows.map_err(|error| final_failure(&error))?,
        };
        rows.into_iter().find(|row| row.eni == *eni).ok_or_else(|| {
            let why = "ens knows no such eni; check the id, and the account and region that the gateway uses";
            Failure::new(Reason::EniNotFound, why).about(instance, eni)
        })
    }

    async fn describe_permit(&self) -> Result<crate::rate_limit::Permit, Failure> {
        let limiter = &self.attacher.limiter;
        let permit = limiter.permit(RateClass::Read, self.session.deadline()).await;
        permit.map_err(|missing| failures::no_permit(&missing))
    }
}

fn check_eni(row: &Row, network: &str) -> Result<(), Failure> {
    if row.primary {
        let why = "the eni is a primary one; only secondary enis can be attached";
        return Err(Failure::new(Reason::EniTypeNotSupported, why));
    }
    if row.status != EniStatus::Available {
        let on = row.instance.as_ref().map_or_else(String::new, |on| format!(" on {on}"));
        let why = format!("the eni is {}{on}; it must be Available", row.status_text);
        return Err(Failure::new(Reason::EniNotAvailable, why));
    }
    if !row.network.is_empty() && !network.is_empty() && row.network != network {
        let why = format!(
            "the eni is in network {}, the instance in {network}; both must be in the same one",
            row.network
        );
        return Err(Failure::new(Reason::NetworkMismatch, why));
    }
    Ok(())
}

fn final_failure(error: &DescribeError) -> Failure {
    failures::describe_failed(error).unwrap_or_else(|failure| failure)
}
