//! The account's budget of calls, shared by all replicas through the ledger's counter. A [`Permit`] is the only way to a call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// What a permit is for. Attach and describe have budgets of their own; at least half of the describes are the tracker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// One `AttachNetworkInterface`.
    Attach,
    /// A describe on behalf of a caller.
    Describe,
    /// A describe of the tracker.
    Track,
}

/// The right to one call of ENS.
#[derive(Debug)]
#[must_use = "an unused permit is given back with `Budget::give_back`"]
pub struct Permit {
    purpose: Purpose,
}

/// What is asked of the shared counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRequest {
    /// One token, if there is one now.
    Take(Purpose),
    /// A token that was not used.
    GiveBack(Purpose),
    /// ENS throttled a call: stop everybody for this long, then let one probe through at a time.
    Trip(Purpose, Duration),
    /// A call went through: the breaker closes.
    Close(Purpose),
}

/// The counter's answer to a [`TokenRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAnswer {
    /// Yes.
    Granted,
    /// Not before this long.
    Wait(Duration),
}

/// The counter, however it is kept. The error is text for people: the counter cannot be reached.
pub type TokenSource =
    Arc<dyn Fn(TokenRequest) -> Pin<Box<dyn Future<Output = Result<TokenAnswer, String>> + Send>> + Send + Sync>;

/// Hands out permits.
#[derive(Clone)]
pub struct Budget {
    source: TokenSource,
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// The budget was not reached by the deadline.
    #[error("the account's budget of ens calls was not reached in time")]
    Late {
        /// When the next token is due.
        wait: Duration,
    },
    /// The counter cannot be reached.
    #[error("{0}")]
    CounterUnreachable(String),
}

impl Budget {
    /// A budget over this counter.
    #[must_use]
    pub fn new(source: TokenSource) -> Self {
        Self { source }
    }

    /// A permit, if there is one now.
    ///
    /// # Errors
    /// [`NoPermit::Late`] with the wait, or the counter cannot be reached.
    pub async fn try_permit(&self, purpose: Purpose) -> Result<Permit, NoPermit> {
        match (self.source)(TokenRequest::Take(purpose)).await {
            Ok(TokenAnswer::Granted) => Ok(Permit { purpose }),
            Ok(TokenAnswer::Wait(wait)) => Err(NoPermit::Late { wait }),
            Err(why) => Err(NoPermit::CounterUnreachable(why)),
        }
    }

    /// A permit, waited for until `deadline` at most. Gives up at once when the wait is longer than that.
    ///
    /// # Errors
    /// As [`Budget::try_permit`].
    pub async fn permit(&self, purpose: Purpose, deadline: Instant) -> Result<Permit, NoPermit> {
        loop {
            match self.try_permit(purpose).await {
                Err(NoPermit::Late { wait }) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                other => return other,
            }
        }
    }

    /// Gives an unused permit back.
    pub async fn give_back(&self, permit: Permit) {
        // A token that cannot be given back is only a call less this second.
        let _ = (self.source)(TokenRequest::GiveBack(permit.purpose)).await;
    }
}
