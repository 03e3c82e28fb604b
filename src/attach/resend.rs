//! The resend of an unanswered attempt for the tracker: the same steps, under the same reservation.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::Peer;
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::ledger::record::Attempt;
use crate::model::Caller;

use super::caller_session::CallerSession;
use super::retry::RetryPolicy;
use super::{Attacher, AttemptTask, Request};

/// Maximum wait for the permit and the lock; then the attempt falls due again.
const WITHIN: Duration = Duration::from_secs(30);

impl<L: LedgerStore, E: Ens> Attacher<L, E> {
    /// Resends an unanswered attempt whose ENI a later describe showed free, with permit, lock and
    /// lease check. If these take too long the attempt falls due again.
    pub async fn resend(self: &Arc<Self>, attempt: &Attempt) {
        let Attempt { instance, eni, .. } = attempt;
        let request = Request {
            instance: instance.clone(),
            eni: eni.clone(),
            request_id: None,
            caller: Caller::anonymous(),
            peer: Peer::LOCAL,
            deadline: Instant::now() + WITHIN,
        };
        let session = CallerSession::new(request.deadline);
        let mut resend = AttemptTask {
            resends: Some(attempt.uid),
            // A failed attempt falls due again.
            retry: RetryPolicy::none(),
            ..AttemptTask::new(self, session, request)
        };
        // The result is in the record.
        let _ = resend.run().await;
    }
}
