//! The integration tests: one binary, whose modules mirror those of the crate.

mod simulator;
