//! The turn of one attempt of a batch, and what it hands on to the next one.

use tokio::sync::oneshot;

use crate::ledger::LedgerStore;
use crate::model::{Failure, Reason};

use super::caller_session::Answer;
use super::discovery::Discovery;
use super::instance_lock::InstanceLock;

/// The place of a batch in the instance's queue, between two attempts.
pub(super) struct BatchPlace<L: LedgerStore> {
    pub(super) lock: Option<InstanceLock<L>>,
    pub(super) discovery: Option<Discovery>,
    /// ENS's refusal of the instance itself.
    pub(super) refusal: Option<Failure>,
}

impl<L: LedgerStore> Default for BatchPlace<L> {
    fn default() -> Self {
        Self { lock: None, discovery: None, refusal: None }
    }
}

/// The turn of one attempt of a batch.
pub(super) struct Turn<L: LedgerStore> {
    /// Takes the place over, until it is handed on.
    next: Option<oneshot::Sender<BatchPlace<L>>>,
    is_last: bool,
    refusal: Option<Failure>,
}

impl<L: LedgerStore> Turn<L> {
    /// A turn after this refusal, and the place when it is handed on.
    pub(super) fn new(
        refusal: Option<Failure>,
        is_last: bool,
    ) -> (Self, oneshot::Receiver<BatchPlace<L>>) {
        let (next, handed_on) = oneshot::channel();
        (Self { next: Some(next), is_last, refusal }, handed_on)
    }

    /// ENS's refusal of the instance, for an earlier ENI. It stands for this one, too.
    pub(super) fn refusal(&self) -> Option<Failure> {
        self.refusal.clone()
    }

    /// Whether another attempt will take the lock over.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_last && self.next.is_some()
    }

    /// Records the attempt's outcome, before the place is handed on.
    pub(super) fn record_outcome(&mut self, outcome: &Answer) {
        if let Some(refusal) = outcome.as_ref().err().filter(|why| refuses_instance(why)) {
            let mut refusal = refusal.clone();
            // The ENIs behind are not sent.
            refusal.ens_request_id.clear();
            self.refusal = Some(refusal);
        }
    }

    /// Hands the place on, once.
    pub(super) fn hand_on(&mut self, lock: Option<InstanceLock<L>>, discovery: Option<Discovery>) {
        if let Some(next) = self.next.take() {
            // A batch whose callers have left has no next attempt.
            let _ = next.send(BatchPlace { lock, discovery, refusal: self.refusal.clone() });
        }
    }
}

/// Whether every other ENI would be refused likewise.
fn refuses_instance(failure: &Failure) -> bool {
    matches!(
        failure.reason,
        Reason::InstanceNotFound | Reason::InstanceNotStopped | Reason::InstanceNotSupported
    )
}
