//! The one integration binary: its modules mirror those of the crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod support;
mod telemetry;
mod watch;
