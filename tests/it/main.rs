//! The integration tests: one binary, whose modules mirror those of the crate.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod simulator;
