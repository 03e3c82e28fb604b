//! The states of a connection, and their transitions.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use crate::ledger::LedgerError;

#[derive(Debug)]
pub(super) enum State {
    /// No try to connect has ended yet.
    Untried { since: Instant },
    /// Calls go over this connection. If the last one timed out, why, and when the first one did.
    Connected { connection: Arc<MultiplexedConnection>, failing: Option<(String, Instant)> },
    /// There is no connection.
    Lost { why: String, since: Instant },
    /// A server is there, and refuses this replica until its configuration changes.
    Refused { why: String, since: Instant },
}

impl State {
    pub(super) fn untried() -> Self {
        Self::Untried { since: Instant::now() }
    }

    pub(super) fn connected(connection: MultiplexedConnection) -> Self {
        let connection = Arc::new(connection);
        Self::Connected { connection, failing: None }
    }

    /// There is no connection any more.
    pub(super) fn lose(&mut self, why: String) {
        let since = self.down_since().unwrap_or_else(Instant::now);
        *self = Self::Lost { why, since };
    }

    /// The server refuses this replica.
    pub(super) fn refuse(&mut self, why: String) {
        let since = self.down_since().unwrap_or_else(Instant::now);
        *self = Self::Refused { why, since };
    }

    /// Records a successful call over `used`. Returns whether that changes the state.
    pub(super) fn succeed(&mut self, used: &Arc<MultiplexedConnection>) -> bool {
        match self {
            Self::Connected { connection, failing } if Arc::ptr_eq(connection, used) => {
                failing.take().is_some()
            }
            _ => false,
        }
    }

    /// Records a failed call over `used`. Closes the connection once calls have failed for
    /// `patience`. Returns whether that changes the state: another connection may be in use.
    pub(super) fn fail(
        &mut self,
        used: &Arc<MultiplexedConnection>,
        why: &str,
        patience: Duration,
    ) -> bool {
        let since = self.down_since().unwrap_or_else(Instant::now);
        match self {
            Self::Connected { connection, failing } if Arc::ptr_eq(connection, used) => {
                *failing = Some((why.to_owned(), since));
            }
            _ => return false,
        }
        if since.elapsed() >= patience {
            self.lose(why.to_owned());
        }
        true
    }

    /// The connection for the next call.
    pub(super) fn connection(&self) -> Result<Arc<MultiplexedConnection>, LedgerError> {
        let error = match self {
            Self::Connected { connection, .. } => return Ok(connection.clone()),
            Self::Untried { .. } => LedgerError::not_applied("not connected yet"),
            Self::Lost { why, .. } => LedgerError::not_applied(why),
            Self::Refused { why, .. } => LedgerError::misconfigured(why),
        };
        Err(error.with_outage(self.down_for()))
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Whether the last call succeeded.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self, Self::Connected { failing: None, .. })
    }

    /// Why the server is unreachable, if it was tried.
    pub(super) fn failure(&self) -> Option<&str> {
        match self {
            Self::Lost { why, .. } => Some(why),
            Self::Connected { failing, .. } => failing.as_ref().map(|(why, _)| why.as_str()),
            Self::Untried { .. } | Self::Refused { .. } => None,
        }
    }

    /// Time since the last successful call.
    pub(super) fn down_for(&self) -> Duration {
        self.down_since().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn down_since(&self) -> Option<Instant> {
        match self {
            Self::Connected { failing, .. } => failing.as_ref().map(|(_, since)| *since),
            Self::Untried { since } | Self::Lost { since, .. } | Self::Refused { since, .. } => {
                Some(*since)
            }
        }
    }
}
