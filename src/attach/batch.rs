//! Attaches of several ENIs to one instance, as one batch.
//!
//! ```text
//!  queue ─► ENI 1 ─► ENI 2 ─► … ─► release
//!             └► outcome  └► outcome
//! ```
//!
//! Each ENI has an attempt of its own, with the rules and the answer of a single attach. The batch
//! has one place in the instance's queue. An attempt hands it on when it no longer needs it, with
//! the rest of the lease. So an attempt whose outcome is awaited delays no other.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::admission::Peer;
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::model::{Attachment, Caller, Failure, InstanceId, InterfaceId, RequestId};

use super::turn::{BatchPlace, Turn};
use super::{Attacher, AttemptTask, Request};

/// One call to attach several ENIs.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    /// The instance.
    pub instance: InstanceId,
    /// The ENIs, in the order of their attaches.
    pub enis: Vec<InterfaceId>,
    /// The caller's idempotency key.
    pub request_id: Option<RequestId>,
    /// The caller.
    pub caller: Caller,
    /// The caller's connection.
    pub peer: Peer,
    /// Deadline of the call.
    pub deadline: Instant,
}

impl BatchRequest {
    /// The attach of each ENI, with an idempotency key of its own.
    pub fn requests(&self) -> impl Iterator<Item = Request> {
        self.enis.iter().map(|eni| Request {
            instance: self.instance.clone(),
            eni: eni.clone(),
            request_id: self.request_id.map(|id| id.of_eni(eni)),
            caller: self.caller.clone(),
            peer: self.peer,
            deadline: self.deadline,
        })
    }
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Attaches several ENIs, each as [`Attacher::attach`] does. Returns when each has its answer,
    /// in their order, or at the deadline. Not atomic.
    pub async fn attach_batch(
        self: &Arc<Self>,
        batch: &BatchRequest,
    ) -> Vec<Result<Attachment, Failure>> {
        let (attempts, callers): (Vec<_>, Vec<_>) =
            batch.requests().map(|request| self.attempt(request)).unzip();
        for attempt in &attempts {
            attempt.session.wait_in(Some(attempt.queue.clone()));
        }
        self.tasks.spawn(run_in_turn(self.tasks.clone(), attempts).in_current_span());
        join_all(callers.into_iter().map(|caller| self.answer(caller))).await
    }
}

/// Runs the attempts of a batch, each on a task of its own when the one before has left the queue.
/// An outage of the ledger that has lasted too long ends the wait of all behind, as it does in the
/// queue.
async fn run_in_turn<L: LedgerStore, E: Ens>(tasks: TaskTracker, attempts: Vec<AttemptTask<L, E>>) {
    let mut place = BatchPlace::default();
    let mut attempts = attempts.into_iter().peekable();
    while let Some(mut attempt) = attempts.next() {
        if attempt.session.is_abandoned() {
            continue;
        }
        attempt.session.wait_in(None);
        let BatchPlace { lock, discovery, refusal } = place;
        let (turn, handed_on) = Turn::new(refusal, attempts.peek().is_none());
        (attempt.lock, attempt.discovery, attempt.turn) = (lock, discovery, Some(turn));
        let queue = attempt.queue.clone();
        let outage = queue.outage();
        tasks.spawn(attempt.run_for_caller().in_current_span());
        tokio::select! {
            biased;
            // First: an attempt that ends by an outage also hands its place on.
            outage = outage => {
                for mut attempt in attempts {
                    let failure = attempt.session.refuse(outage.clone());
                    attempt.send_answer(Err(failure));
                }
                return;
            }
            // The place of an attempt that panicked is free.
            handed_on = handed_on => place = handed_on.unwrap_or_default(),
        }
    }
}
