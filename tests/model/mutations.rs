//! Without a rule the search finds what that rule is for, and tells the shortest way there.

use eni_gateway::ledger::{SafetyCheck, SafetyChecks};

use crate::plan::{Plan, Troubles};
use crate::{search, told};

fn finds_violation(invariant: &str, plan: Plan) {
    let name = plan.name;
    let path = search(plan).unwrap_or_else(|| panic!("without it nothing breaks: {name}"));
    let told = told(&path);
    println!("without {name}:\n{told}");
    assert!(told.contains(&format!("==> {invariant}")), "{told}");
}

fn without(rule: SafetyCheck, name: &'static str) -> Plan {
    Plan::new(name).checks(SafetyChecks::without(rule))
}

#[test]
fn limit() {
    finds_violation(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            ..without(SafetyCheck::Limit, "the limit")
        },
    );
}

#[test]
fn settled_occupies() {
    finds_violation(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            ..without(SafetyCheck::SettledOccupies, "what is settled occupies")
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
        ..without(SafetyCheck::NewestObservation, "the newest observation")
    };
    finds_violation("L1", plan);
}

#[test]
fn observation_life() {
    finds_violation(
        "L1",
        Plan {
            wanted: vec![vec![0]],
            ticks: 10,
            looks: 0,
            troubles: Troubles {
                foreign_attaches: 1,
                ..Troubles::default()
            },
            ..without(SafetyCheck::ObservationLife, "the life of an observation")
        },
    );
}

#[test]
fn detaching_occupies() {
    finds_violation(
        "L1",
        Plan {
            attached: vec![1],
            ticks: 9,
            troubles: Troubles {
                foreign_detaches: 1,
                ..Troubles::default()
            },
            ..without(SafetyCheck::DetachingOccupies, "what is detaching occupies")
        },
    );
}

#[test]
fn grace_of_unanswered() {
    finds_violation(
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
            ..without(SafetyCheck::GraceOfUnanswered, "the grace of what is unanswered")
        },
    );
}

#[test]
fn grace_of_accepted() {
    finds_violation(
        "A1",
        without(SafetyCheck::GraceOfAccepted, "the grace of what is accepted"),
    );
}

#[test]
fn other_copies() {
    finds_violation(
        "L3",
        Plan {
            ticks: 6,
            troubles: Troubles {
                unanswered: 1,
                refused: 1,
                ..Troubles::default()
            },
            ..without(SafetyCheck::OtherCopies, "other copies")
        },
    );
}

#[test]
fn ask_before_resend() {
    finds_violation(
        "L6",
        Plan {
            troubles: Troubles {
                unanswered: 2,
                ..Troubles::default()
            },
            ..without(SafetyCheck::AskBeforeResend, "asking before a resend")
        },
    );
}

#[test]
fn send_written() {
    finds_violation(
        "L2",
        Plan {
            troubles: Troubles {
                unanswered: 1,
                ..Troubles::default()
            },
            ..without(SafetyCheck::SendWritten, "the written send")
        },
    );
}

#[test]
fn settle_order() {
    finds_violation(
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
            ..without(SafetyCheck::SettleOrder, "the order of describes")
        },
    );
}

#[test]
fn seen_before() {
    finds_violation(
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
            ..without(SafetyCheck::SeenBefore, "what was seen before")
        },
    );
}

#[test]
fn hold() {
    finds_violation(
        "L1",
        Plan {
            wanted: vec![vec![0], vec![1]],
            looks: 0,
            troubles: Troubles {
                losses: 1,
                ..Troubles::default()
            },
            ..without(SafetyCheck::Hold, "the hold")
        },
    );
}

#[test]
fn lease() {
    finds_violation("L4", without(SafetyCheck::Lease, "the lease"));
}

#[test]
fn conflict_waits() {
    let plan = Plan::of_a_hostile_ens("what ens contradicts");
    finds_violation("L3", plan.checks(SafetyChecks::without(SafetyCheck::ConflictWaits)));
}

#[test]
fn absence_in_hold() {
    let plan = Plan {
        judge_effects_only: true,
        ..Plan::of_a_lost_resend("what is absent in a hold")
    };
    finds_violation("L3", plan.checks(SafetyChecks::without(SafetyCheck::AbsenceInHold)));
}

#[test]
fn open_copies() {
    let plan = Plan {
        judge_effects_only: true,
        ..Plan::of_a_detach_beside_another_copy("open copies")
    };
    finds_violation("L3", plan.checks(SafetyChecks::without(SafetyCheck::OpenCopies)));
}

#[test]
fn confirmation_by_replicas() {
    finds_violation(
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
