//! With all safety checks on, no search finds a violation.
//!
//! Most searches have three or four ENIs, one of them attached at first, and a limit of two. So all
//! compete for the last slot.

use crate::plan::{Faults, Plan};
use crate::{describe, search};

fn assert_holds(plan: Plan) {
    if let Some(path) = search(plan) {
        panic!("an invariant is broken:\n{}", describe(&path));
    }
}

/// Two replicas want the last place, and an answer is lost.
#[test]
fn two_for_the_last_place() {
    assert_holds(Plan {
        ticks: 3,
        faults: Faults { unanswered: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("two for the last place")
    });
}

/// The same, with everything that ENS can answer, and a caller who leaves.
#[test]
fn two_for_the_last_place_and_every_answer() {
    assert_holds(Plan {
        ticks: 2,
        faults: Faults {
            left: 1,
            unanswered: 1,
            refused: 1,
            throttled: 1,
            failed: 1,
            ..Faults::default()
        },
        ..Plan::of_two_for_the_last_place("two for the last place, every answer")
    });
}

/// Three replicas queue; one dies.
#[test]
fn three_in_the_queue() {
    assert_holds(Plan {
        wanted: vec![vec![0], vec![1], vec![2]],
        ticks: 4,
        describes: 0,
        faults: Faults { unanswered: 1, crashes: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("three in the queue")
    });
}

/// Three replicas, one of which dies, and a commit whose reply is lost is made again.
#[test]
fn three_and_commits_whose_replies_are_lost() {
    assert_holds(Plan {
        wanted: vec![vec![0], vec![1], vec![2]],
        ticks: 2,
        describes: 0,
        faults: Faults { lost_commits: 1, crashes: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("three, lost replies")
    });
}

/// A replica passes the lock on in its line, beside another one: two places for three.
#[test]
fn a_line_and_another_replica() {
    assert_holds(Plan {
        wanted: vec![vec![0, 1], vec![2]],
        attached: Vec::new(),
        enis: 3,
        ticks: 3,
        describes: 0,
        faults: Faults { lost_commits: 1, left: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("a line and another replica")
    });
}

/// One attempt, with everything that can become of its sends.
#[test]
fn one_attempt() {
    assert_holds(Plan {
        enis: 1,
        ticks: 4,
        faults: Faults { unanswered: 2, refused: 1, failed: 1, ..Faults::default() },
        ..Plan::new("one attempt")
    });
}

/// ENS applies, and says that it did not; or it applies what it has answered once more.
#[test]
fn one_attempt_at_a_hostile_ens() {
    assert_holds(Plan::of_a_hostile_ens("one attempt, a hostile ens"));
}

/// A failover loses the commit of a resend, whose copy is on its way.
#[test]
fn a_resend_that_a_failover_loses() {
    assert_holds(Plan::of_a_lost_resend("a resend that a failover loses"));
}

/// Others detach what one copy of an attach brought about while another copy of it is on its way,
/// for longer than it takes to see that.
#[test]
fn a_detach_beside_another_copy() {
    assert_holds(Plan::of_a_detach_beside_another_copy("a detach beside another copy"));
}

/// Somebody else attaches and detaches beside us.
#[test]
fn beside_others() {
    assert_holds(Plan {
        attached: vec![1],
        ticks: 5,
        faults: Faults { external_attaches: 1, external_detaches: 1, ..Faults::default() },
        ..Plan::new("beside others")
    });
}

/// The same, for the last place, and for long enough that what others attach must be seen.
#[test]
fn beside_others_for_the_last_place() {
    assert_holds(Plan {
        wanted: vec![vec![0]],
        attached: vec![2],
        enis: 3,
        ticks: 6,
        describes: 0,
        faults: Faults { external_attaches: 1, external_detaches: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("beside others, for the last place")
    });
}

/// The ledger loses everything.
#[test]
fn a_ledger_that_loses_everything() {
    assert_holds(Plan {
        ticks: 7,
        describes: 0,
        faults: Faults { losses: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("a ledger that loses everything")
    });
}

/// The ledger fails over, and loses what was written last.
#[test]
fn a_ledger_that_fails_over() {
    assert_holds(Plan {
        ticks: 6,
        describes: 0,
        faults: Faults { failovers: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("a ledger that fails over")
    });
}

/// Redis' replicas are waited for: a failover is no loss.
#[test]
fn a_ledger_whose_replicas_are_waited_for() {
    assert_holds(Plan {
        ticks: 5,
        describes: 0,
        synced: true,
        faults: Faults { failovers: 1, ..Faults::default() },
        ..Plan::of_two_for_the_last_place("replicas that are waited for")
    });
}
