//! Exploration of the ledger's rules: every order of steps, faults and answers, within stated
//! bounds.
//!
//! It explores `ledger::apply` itself. The world around it is small: callers' attempts step by
//! step, a cloud that applies and shows late, and other parties. A tick is a second. Each search is
//! exhaustive within its bounds (ticks, and the number of each fault), and prints the number of
//! states.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod action;
mod checks;
mod cloud;
mod equivalence;
mod ledger;
mod mutations;
mod owner;
mod plan;
mod searches;
mod task;
mod world;

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use action::Action;
use plan::Plan;
use world::World;

/// The worlds that a plan leads to.
#[derive(Clone)]
struct Search(Plan);

impl Model for Search {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_none() {
            world.actions(&self.0, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.after(&self.0, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("no invariant is broken", |_, world: &World| {
            world.violation.is_none()
        })]
    }
}

/// Searches everything within the plan's bounds; the shortest way to a violation, if there is one.
fn search(plan: Plan) -> Option<Path<World, Action>> {
    let name = plan.name;
    let checker = Search(plan)
        .checker()
        // In one order, so that the shortest way is always the same one.
        .threads(1)
        .timeout(Duration::from_secs(600))
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    assert!(
        checker.is_done(),
        "{name}: not everything was seen in time: {} situations",
        checker.unique_state_count()
    );
    println!(
        "{name}: {} situations, {} steps deep",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.discovery("no invariant is broken")
}

/// A way to a violation, one line a step.
fn describe(path: &Path<World, Action>) -> String {
    let mut text = String::new();
    for (world, action) in path.clone().into_vec() {
        if let Some(action) = action {
            text += &format!("  {:>2} s  {action}\n", world.now);
        } else if let Some(violation) = &world.violation {
            text += &format!("        ==> {violation}\n");
        }
    }
    text
}
