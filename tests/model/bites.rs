//! Without a rule the search finds what that rule is for, and tells the shortest way there.

use eni_gateway::ledger::{Rule, Rules};

use crate::plan::{Plan, Troubles};
use crate::{search, told};

fn bites(invariant: &str, plan: Plan) {
    let name = plan.name;
    let path = search(plan).unwrap_or_else(|| panic!("without it nothing breaks: {name}"));
    let told = told(&path);
    println!("without {name}:\n{told}");
    assert!(told.contains(&format!("==> {invariant}")), "{told}");
}

fn without(rule: Rule, name: &'static str) -> Plan {
    Plan::new(name).rules(Rules::without(rule))
}

#[test]
fn limit() {
    bites(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            ..without(Rule::Limit, "the limit")
        },
    );
}

#[test]
fn settled_occupies() {
    bites(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            ..without(Rule::SettledOccupies, "what is settled occupies")
        },
    );
}

#[test]
fn newest_observation() {
    let plan = Plan {
        wanted: vec![vec![0], vec![1]],
        enis: 3,
        ticks: 10,
        looks: 0,
        troubles: Troubles {
            foreign_attaches: 1,
            ..Troubles::default()
        },
        ..without(Rule::NewestObservation, "the newest observation")
    };
    bites("L1", plan);
}

#[test]
fn observation_life() {
    bites(
        "L1",
        Plan {
            wanted: vec![vec![0]],
            ticks: 10,
            looks: 0,
            troubles: Troubles {
                foreign_attaches: 1,
                ..Troubles::default()
            },
            ..without(Rule::ObservationLife, "the life of an observation")
        },
    );
}

#[test]
fn detaching_occupies() {
    bites(
        "L1",
        Plan {
            attached: vec![1],
            ticks: 9,
            troubles: Troubles {
                foreign_detaches: 1,
                ..Troubles::default()
            },
            ..without(Rule::DetachingOccupies, "what is detaching occupies")
        },
    );
}

#[test]
fn grace_of_unanswered() {
    bites(
        "A1",
        Plan {
            ticks: 6,
            looks: 1,
            troubles: Troubles {
                unanswered: 1,
                foreign_attaches: 1,
                foreign_detaches: 1,
                ..Troubles::default()
            },
            ..without(Rule::GraceOfUnanswered, "the grace of what is unanswered")
        },
    );
}

#[test]
fn grace_of_accepted() {
    bites("A1", without(Rule::GraceOfAccepted, "the grace of what is accepted"));
}

#[test]
fn other_copies() {
    bites(
        "L3",
        Plan {
            ticks: 6,
            troubles: Troubles {
                unanswered: 1,
                refused: 1,
                ..Troubles::default()
            },
            ..without(Rule::OtherCopies, "other copies")
        },
    );
}

#[test]
fn ask_before_resend() {
    bites(
        "L6",
        Plan {
            troubles: Troubles {
                unanswered: 2,
                ..Troubles::default()
            },
            ..without(Rule::AskBeforeResend, "asking before a resend")
        },
    );
}

#[test]
fn send_written() {
    bites(
        "L2",
        Plan {
            troubles: Troubles {
                unanswered: 1,
                ..Troubles::default()
            },
            ..without(Rule::SendWritten, "the written send")
        },
    );
}

#[test]
fn settle_order() {
    bites(
        "A1",
        Plan {
            attached: vec![0],
            enis: 1,
            ticks: 9,
            looks: 1,
            troubles: Troubles {
                foreign_detaches: 1,
                unanswered: 1,
                ..Troubles::default()
            },
            ..without(Rule::SettleOrder, "the order of describes")
        },
    );
}

#[test]
fn seen_before() {
    bites(
        "A1",
        Plan {
            attached: vec![0],
            enis: 1,
            ticks: 9,
            looks: 1,
            troubles: Troubles {
                foreign_detaches: 1,
                unanswered: 1,
                ..Troubles::default()
            },
            ..without(Rule::SeenBefore, "what was seen before")
        },
    );
}

#[test]
fn hold() {
    bites(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            looks: 0,
            troubles: Troubles {
                losses: 1,
                ..Troubles::default()
            },
            ..without(Rule::Hold, "the hold")
        },
    );
}

#[test]
fn lease() {
    bites("L4", without(Rule::Lease, "the lease"));
}

#[test]
fn conflict_waits() {
    let plan = Plan::of_a_hostile_ens("what ens contradicts");
    bites("A1", plan.rules(Rules::without(Rule::ConflictWaits)));
}

#[test]
fn absence_in_hold() {
    let plan = Plan {
        judge_effects_only: true,
        ..Plan::of_a_lost_resend("what is absent in a hold")
    };
    bites("L3", plan.rules(Rules::without(Rule::AbsenceInHold)));
}

#[test]
fn open_copies() {
    let plan = Plan {
        judge_effects_only: true,
        ..Plan::of_a_detach_beside_another_copy("open copies")
    };
    bites("L3", plan.rules(Rules::without(Rule::OpenCopies)));
}

#[test]
fn confirmation_by_replicas() {
    bites(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            looks: 0,
            synced: true,
            unconfirmed: true,
            troubles: Troubles {
                failovers: 1,
                ..Troubles::default()
            },
            ..Plan::new("confirmation by replicas")
        },
    );
}
