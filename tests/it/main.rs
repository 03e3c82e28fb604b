//! The integration tests: one binary, whose modules mirror `src`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod attach;
mod cli;
mod clients;
mod config;
mod docs;
mod e2e;
mod ens;
mod grpc;
mod identity;
mod imports;
mod ledger;
mod prose;
mod simulator;
mod support;
mod telemetry;
mod watch;
