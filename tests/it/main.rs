//! The integration tests, in one binary; its modules mirror `src`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli;
mod imports;
