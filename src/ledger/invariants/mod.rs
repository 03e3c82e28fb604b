//! What has to hold, as pure functions with the names of the safety argument. The model, the simulation, the fault runs and the
//! running gateway ask the same ones.
//!
//! [`check`] asks of a commit what records show: L1, L3, L5, A2, W1. [`world`] asks what only somebody can know who sees callers and
//! ENS as well: L1 in ENS itself, A1, A2 and W1 as they are shown, D1.

mod commit;
#[cfg(test)]
mod tests;
pub mod world;

pub use commit::{Violation, check};
