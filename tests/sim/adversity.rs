//! Special worlds: the ledger's clock steps, ENS gives wrong answers about attaches, or callers
//! attach several ENIs at once. The checks are those of every run.

use crate::plan::Plan;
use crate::run::run_drawn;
use crate::seeds;

/// Default number of seeds of each.
const SEEDS: u64 = if cfg!(debug_assertions) { 30 } else { 400 };

/// No step of the ledger's clock, back or forward, breaks an invariant or keeps an attempt from its
/// end.
#[test]
fn clock_steps_hold() {
    seeds::try_each(seeds::asked_for(SEEDS), "clock_steps_hold", |seed| {
        run_drawn(seed, Plan::draw_clock)
    });
}

/// No wrong answer about an attach that took effect, and no copy of one, breaks an invariant.
#[test]
fn a_hostile_ens_holds() {
    seeds::try_each(seeds::asked_for(SEEDS), "a_hostile_ens_holds", |seed| {
        run_drawn(seed, Plan::draw_hostile)
    });
}

/// Batches keep every invariant, and each answer in them is as true as that of a single attach.
#[test]
fn batches_hold() {
    seeds::try_each(seeds::asked_for(SEEDS), "batches_hold", |seed| {
        run_drawn(seed, Plan::draw_batches)
    });
}
