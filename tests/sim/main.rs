//! The simulation: whole gateways with the real gRPC stack over in-memory pipes, in virtual time.
//! The ledger and the cloud misbehave. A seed decides everything, and repeats its history.
//!
//! ```text
//!  callers, watchers ──► pipes ──► gateways ──► ledger (memory, faulty network, failovers)
//!        ▲                 ▲           │
//!        │               faults      └──────► cloud  (the simulator's world, faulty network)
//!        └──────────── checks ◄── every commit, send and answer
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod adversity;
mod callers;
mod checks;
mod cloud;
mod crowd;
mod faults;
mod final_checks;
mod fleet;
mod history;
#[path = "../it/support/hostile_ens.rs"]
mod hostile_ens;
mod ledger;
mod limits;
mod mutation;
mod mutations;
mod network;
mod node;
mod pipe;
mod plan;
mod process_state;
mod progress;
mod replay;
mod run;
mod seeds;
mod streams;
mod watchers;

use run::run;

/// No seed breaks an invariant.
#[test]
fn every_seed_holds() {
    seeds::try_all();
}
