//! With all rules in force no search finds a breach.

use crate::plan::{Plan, Troubles};
use crate::{search, told};

fn holds(plan: Plan) {
    if let Some(path) = search(plan) {
        panic!("an invariant is broken:\n{}", told(&path));
    }
}

/// Two callers for the last slot, and answers that are lost.
#[test]
fn two_for_one_slot() {
    holds(Plan {
        wanted: vec![0, 1],
        ticks: 3,
        troubles: Troubles {
            unanswered: 1,
            ..Troubles::default()
        },
        ..Plan::new("two for one slot")
    });
}

/// One attempt, with everything that can become of its sends.
#[test]
fn one_attempt() {
    holds(Plan {
        enis: 1,
        ticks: 4,
        troubles: Troubles {
            unanswered: 2,
            refused: 1,
            failed: 1,
            ..Troubles::default()
        },
        ..Plan::new("one attempt")
    });
}

/// Somebody else attaches and detaches beside us.
#[test]
fn beside_others() {
    holds(Plan {
        attached: vec![1],
        ticks: 3,
        troubles: Troubles {
            foreign_attaches: 1,
            foreign_detaches: 1,
            ..Troubles::default()
        },
        ..Plan::new("beside others")
    });
}

/// The ledger loses everything.
#[test]
fn a_ledger_that_loses_everything() {
    holds(Plan {
        wanted: vec![0, 1],
        ticks: 7,
        looks: 0,
        troubles: Troubles {
            losses: 1,
            ..Troubles::default()
        },
        ..Plan::new("a ledger that loses everything")
    });
}

/// The ledger fails over, and loses what was written last.
#[test]
fn a_ledger_that_fails_over() {
    holds(Plan {
        wanted: vec![0, 1],
        ticks: 6,
        looks: 0,
        troubles: Troubles {
            failovers: 1,
            ..Troubles::default()
        },
        ..Plan::new("a ledger that fails over")
    });
}

/// Redis' replicas are waited for: a failover is no loss.
#[test]
fn a_ledger_whose_replicas_are_waited_for() {
    holds(Plan {
        wanted: vec![0, 1],
        ticks: 4,
        looks: 0,
        synced: true,
        troubles: Troubles {
            failovers: 1,
            ..Troubles::default()
        },
        ..Plan::new("replicas that are waited for")
    });
}

/// Commits whose answers are lost are made again.
#[test]
fn commits_whose_answers_are_lost() {
    holds(Plan {
        wanted: vec![0, 1],
        ticks: 3,
        looks: 0,
        troubles: Troubles {
            lost_commits: 1,
            crashes: 1,
            ..Troubles::default()
        },
        ..Plan::new("commits whose answers are lost")
    });
}
