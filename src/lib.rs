//! eni-gateway attaches elastic network interfaces (ENIs) to Alibaba Cloud ENS instances for many
//! concurrent callers. It never exceeds an instance's limit, and streams every state change.
//! `docs/concepts.md` explains the terms.
//!
//! The path of a call:
//!
//! ```text
//!  caller ─► grpc ─► admission ─┬─► attach ──┬─► ledger   lock the instance, reserve a slot
//!                               │            ├─► ens      send the request
//!                               │            └─► ledger   record the result
//!                               └─► watch ─────► ledger   read the record, stream its changes
//!
//!            tracker ─► observe ─┬─► ens      describe ENIs
//!                                └─► ledger   settle the attempts in flight
//! ```
//!
//! - Shared by all: `model` (ids, states, errors), `names` (metrics), `sync` (channels), `drain`
//!   (shutdown), `tls_fault` (failed handshakes).
//! - On the path: `listen` (connections), `grpc`, `identity` (who calls), `policy` (who may),
//!   `admission`, `attach`, `watch`; then `tracker`.
//! - Below: `observe` (describes and their record), `failures` (causes to callers' errors),
//!   `ledger` (instance records), `ens` (signed calls), `rate_limit` (the account's budget),
//!   `backends`.
//! - Around it: `config`, `telemetry`, `app` (start, health, drain), `cli`, and `simulator` (an ENS
//!   for tests).

pub mod drain;
pub mod model;
pub mod names;
pub mod sync;
pub mod tls_fault;

pub mod admission;
pub mod attach;
pub mod grpc;
pub mod identity;
pub mod listen;
pub mod policy;
pub mod tracker;
pub mod watch;

pub mod backends;
pub mod ens;
mod failures;
pub mod ledger;
mod observe;
pub mod rate_limit;

pub mod app;
pub mod cli;
pub mod config;
pub mod simulator;
pub mod telemetry;
