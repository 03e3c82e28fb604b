//! eni-gateway attaches elastic network interfaces (ENIs) to Alibaba Cloud ENS instances for many callers at once,
//! never past an instance's limit, and tells every interested caller how it goes.
//!
//! The modules stand in the order in which a call passes them:
//!
//! ```text
//!  gRPC ──► grpc ──► admission ──► attach ──► ledger   may it touch this instance now?
//!                                    │  └───► ens      send it
//!                                    ▼
//!                    tracker  drives every attempt to the truth, with batched describes
//!                                    ▼
//!                    watch    tells everybody
//! ```

pub mod model;

pub mod grpc;

pub mod admission;

pub mod attach;
pub mod ledger;

pub mod ens;

pub mod rate_limit;

pub mod tracker;

pub mod watch;

pub mod config;
pub mod telemetry;

pub mod app;
pub mod cli;
pub mod simulator;
