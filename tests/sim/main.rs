//! The simulation: whole gateways with the real gRPC stack over in-memory pipes, a ledger and a cloud that misbehave, in virtual time.
//! A seed decides everything, and the same seed gives the same history.
//!
//! ```text
//!  callers, watchers ──► pipes ──► gateways ──► ledger (memory, behind a faulty network and servers that fail over)
//!        ▲                 ▲           │
//!        │              troubles       └──────► cloud  (the simulator's world, behind a faulty network)
//!        └───────────── judge ◄── every commit, send and answer
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod adversity;
mod bound;
mod callers;
mod cloud;
mod crowd;
mod ending;
mod history;
mod judge;
mod ledger;
mod life;
mod mutations;
mod network;
mod node;
mod pipe;
mod plan;
mod progress;
mod replay;
mod run;
mod seeds;
mod troubles;
mod watchers;

use run::run;

/// No seed breaks an invariant.
#[test]
fn every_seed_holds() {
    seeds::try_all();
}
