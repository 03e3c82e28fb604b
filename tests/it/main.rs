//! The one integration binary: its modules mirror those of the crate.

mod config;
mod support;
mod telemetry;
mod watch;
