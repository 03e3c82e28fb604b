//! Invariants as pure functions, with the names of the safety argument. The model, the simulation,
//! the fault runs and the running gateway use the same ones.
//!
//! [`check`] checks a commit by its records: L1, L3, L5, A2, W1. [`world`] also needs the view of
//! callers and ENS: L1 in ENS itself, A1, A2 and W1 as they are shown, D1.

mod commit;
#[cfg(test)]
mod tests;
pub mod world;

pub use commit::{Violation, check};
