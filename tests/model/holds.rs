//! With all rules in force no search finds a violation.
//!
//! Most look at three or four ENIs, of which one is attached from the beginning, and a limit of two: the last place is what all want.

use crate::plan::{Plan, Troubles};
use crate::{search, told};

fn holds(plan: Plan) {
    if let Some(path) = search(plan) {
        panic!("an invariant is broken:\n{}", told(&path));
    }
}

/// Two replicas want the last place, and an answer is lost.
#[test]
fn two_for_the_last_place() {
    holds(Plan {
        ticks: 3,
        troubles: Troubles {
            unanswered: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("two for the last place")
    });
}

/// The same, with everything that ENS can answer, and a caller who leaves.
#[test]
fn two_for_the_last_place_and_every_answer() {
    holds(Plan {
        ticks: 2,
        troubles: Troubles {
            left: 1,
            unanswered: 1,
            refused: 1,
            throttled: 1,
            failed: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("two for the last place, every answer")
    });
}

/// Three replicas queue; one dies.
#[test]
fn three_in_the_queue() {
    holds(Plan {
        wanted: vec![vec![0], vec![1], vec![2]],
        ticks: 4,
        looks: 0,
        troubles: Troubles {
            unanswered: 1,
            crashes: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("three in the queue")
    });
}

/// Three replicas, one of which dies, and a commit whose reply is lost is made again.
#[test]
fn three_and_commits_whose_replies_are_lost() {
    holds(Plan {
        wanted: vec![vec![0], vec![1], vec![2]],
        ticks: 2,
        looks: 0,
        troubles: Troubles {
            lost_commits: 1,
            crashes: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("three, lost replies")
    });
}

/// A replica passes the lock on in its line, beside another one: two places for three.
#[test]
fn a_line_and_another_replica() {
    holds(Plan {
        wanted: vec![vec![0, 1], vec![2]],
        attached: Vec::new(),
        enis: 3,
        ticks: 3,
        looks: 0,
        troubles: Troubles {
            lost_commits: 1,
            left: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("a line and another replica")
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

/// ENS applies, and says that it did not; or it applies what it has answered once more.
#[test]
fn one_attempt_at_a_hostile_ens() {
    holds(Plan::of_a_hostile_ens("one attempt, a hostile ens"));
}

/// A failover loses the commit of a resend, whose copy is on its way.
#[test]
fn a_resend_that_a_failover_loses() {
    holds(Plan::of_a_lost_resend("a resend that a failover loses"));
}

/// Others detach what one copy of an attach brought about while another copy of it is on its way, for longer than it takes to see that.
#[test]
fn a_detach_beside_another_copy() {
    holds(Plan::of_a_detach_beside_another_copy("a detach beside another copy"));
}

/// Somebody else attaches and detaches beside us.
#[test]
fn beside_others() {
    holds(Plan {
        attached: vec![1],
        ticks: 5,
        troubles: Troubles {
            foreign_attaches: 1,
            foreign_detaches: 1,
            ..Troubles::default()
        },
        ..Plan::new("beside others")
    });
}

/// The same, for the last place, and for long enough that what others attach must be seen.
#[test]
fn beside_others_for_the_last_place() {
    holds(Plan {
        wanted: vec![vec![0]],
        attached: vec![2],
        enis: 3,
        ticks: 6,
        looks: 0,
        troubles: Troubles {
            foreign_attaches: 1,
            foreign_detaches: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("beside others, for the last place")
    });
}

/// The ledger loses everything.
#[test]
fn a_ledger_that_loses_everything() {
    holds(Plan {
        ticks: 7,
        looks: 0,
        troubles: Troubles {
            losses: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("a ledger that loses everything")
    });
}

/// The ledger fails over, and loses what was written last.
#[test]
fn a_ledger_that_fails_over() {
    holds(Plan {
        ticks: 6,
        looks: 0,
        troubles: Troubles {
            failovers: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("a ledger that fails over")
    });
}

/// Redis' replicas are waited for: a failover is no loss.
#[test]
fn a_ledger_whose_replicas_are_waited_for() {
    holds(Plan {
        ticks: 5,
        looks: 0,
        synced: true,
        troubles: Troubles {
            failovers: 1,
            ..Troubles::default()
        },
        ..Plan::of_two_for_the_last_place("replicas that are waited for")
    });
}
