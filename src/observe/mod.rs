//! The only observation of ENS: a describe, its send time, its rows in the ledger's terms, and
//! their record.
//!
//! ```text
//!  attach, validate, reads, reconciliation ─► observe_instance ─┐
//!  attach, tracker, watch ──────────────────► observe_enis ─────┴─► rows ─► ledger
//!  capacities ──────────────────────────────► describe_states
//! ```
//!
//! Every function takes the permit of its first describe, so each caller uses its own rate class.

mod enis;
mod instance;
mod rows;
mod single_flight;
mod states;

use crate::ens::DescribeError;
use crate::ledger::LedgerError;
use crate::rate_limit::PermitError;

pub(crate) use enis::EniObservations;
pub(crate) use instance::InstanceObservation;
pub(crate) use single_flight::{Joined, SingleFlight};
pub(crate) use states::InstanceStates;

/// A failed observation, or a failed record of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ObserveError {
    /// No permit for the describe.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// The describe failed.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// The ledger did not record it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl ObserveError {
    /// An error for an answer that cannot be used.
    pub(crate) fn unanswered(why: &str) -> Self {
        Self::Describe(DescribeError::Unavailable(why.to_owned()))
    }
}
