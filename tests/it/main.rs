//! The one integration binary: its modules mirror those of the crate.

mod config;
mod telemetry;
