//! The caller of an attempt, until it has its answer.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::model::{Attachment, Failure, Reason};

use super::caller_session::{Answer, CallerSession, CloseOnDrop};
use super::{Attacher, AttemptTask, Request};

/// A caller that waits for its answer. A drop ends its wait.
pub(super) struct WaitingCaller {
    request: Request,
    arrived: Instant,
    session: CloseOnDrop,
    answered: oneshot::Receiver<Answer>,
}

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// An attempt that has not begun, and its caller.
    pub(super) fn attempt(
        self: &Arc<Self>,
        request: Request,
    ) -> (AttemptTask<L, E>, WaitingCaller) {
        let session = CallerSession::new(request.deadline);
        let (answer, answered) = oneshot::channel();
        let attempt = AttemptTask {
            answer: Some(answer),
            ..AttemptTask::new(self, session.clone(), request.clone())
        };
        let caller = WaitingCaller {
            request,
            arrived: attempt.arrived,
            session: CloseOnDrop(session),
            answered,
        };
        (attempt, caller)
    }

    /// Waits for the answer of an attempt.
    pub(super) async fn answer(&self, caller: WaitingCaller) -> Result<Attachment, Failure> {
        let WaitingCaller { request, arrived, session, answered } = caller;
        let answer = session.0.wait_for_answer(answered, &self.drain).await;
        let answer = answer.map_err(|failure| failure.about(&request.instance, &request.eni));
        if let Err(Failure { reason: Reason::LockWait, .. }) = &answer {
            self.record_lock_wait(arrived);
        }
        answer
    }
}
