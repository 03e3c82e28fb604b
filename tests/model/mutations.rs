//! The mutation tests: without a safety check the search finds the violation that the check
//! prevents, and prints the shortest way there.

use eni_gateway::ledger::SafetyCheck::{self, *};
use rstest::rstest;

use crate::plan::{Faults, Plan};
use crate::{describe, search};

/// The columns: the check that is off, the invariant that must break, and the situation.
#[rstest]
#[case::limit(Limit, "L1", two_callers())]
#[case::settled_occupies(SettledOccupies, "L1", two_callers())]
#[case::newest_observation(NewestObservation, "L1", two_callers_beside_another_program())]
#[case::observation_life(ObservationLife, "L1", one_caller_beside_another_program())]
#[case::detaching_occupies(DetachingOccupies, "L1", a_detach_of_another_eni())]
#[case::grace_of_unanswered(GraceOfUnanswered, "A1", a_lost_answer_beside_another_program())]
#[case::grace_of_accepted(GraceOfAccepted, "A1", one_caller())]
#[case::other_copies(OtherCopies, "L3", a_lost_answer_and_a_refusal())]
#[case::ask_before_resend(AskBeforeResend, "L6", lost_answers(2))]
#[case::send_written(SendWritten, "L2", lost_answers(1))]
#[case::settle_order(SettleOrder, "A1", a_detach_and_a_lost_answer())]
#[case::seen_before(SeenBefore, "A1", a_detach_and_a_lost_answer())]
#[case::hold_down(HoldDown, "L1", two_callers_and_a_loss())]
#[case::lease(Lease, "L4", one_caller())]
#[case::conflict_waits(ConflictWaits, "L3", Plan::of_a_hostile_ens("a hostile ens"))]
#[case::absence_in_hold_down(
    AbsenceInHoldDown,
    "L3",
    effects_only(Plan::of_a_lost_resend("a lost resend"))
)]
#[case::open_copies(
    OpenCopies,
    "L3",
    effects_only(Plan::of_a_detach_beside_another_copy("a detach"))
)]
fn without_it_an_invariant_breaks(
    #[case] check: SafetyCheck,
    #[case] invariant: &str,
    #[case] plan: Plan,
) {
    finds_violation(invariant, &format!("{check:?}"), plan.without(check));
}

/// No safety check of the ledger: the owner sends what Redis' replicas have not confirmed.
#[test]
fn without_confirmation_by_replicas_an_invariant_breaks() {
    let plan = Plan {
        describes: 0,
        synced: true,
        unconfirmed: true,
        faults: Faults { failovers: 1, ..Faults::default() },
        ..two_callers()
    };
    finds_violation("L1", "confirmation by replicas", plan);
}

fn finds_violation(invariant: &str, missing: &str, plan: Plan) {
    let situation = plan.name;
    let path =
        search(plan).unwrap_or_else(|| panic!("without {missing} nothing breaks: {situation}"));
    let steps = describe(&path);
    println!("without {missing}:\n{steps}");
    assert!(steps.contains(&format!("==> {invariant}")), "{steps}");
}

fn one_caller() -> Plan {
    Plan::new("one caller")
}

fn two_callers() -> Plan {
    Plan { wanted: vec![vec![0], vec![1]], ..Plan::new("two callers") }
}

fn two_callers_and_a_loss() -> Plan {
    Plan { describes: 0, faults: Faults { losses: 1, ..Faults::default() }, ..two_callers() }
}

fn two_callers_beside_another_program() -> Plan {
    Plan { enis: 3, wanted: two_callers().wanted, ..one_caller_beside_another_program() }
}

fn one_caller_beside_another_program() -> Plan {
    Plan {
        ticks: 10,
        describes: 0,
        faults: Faults { external_attaches: 1, ..Faults::default() },
        ..Plan::new("others attach")
    }
}

fn a_detach_of_another_eni() -> Plan {
    Plan {
        attached: vec![1],
        ticks: 9,
        faults: Faults { external_detaches: 1, ..Faults::default() },
        ..Plan::new("others detach")
    }
}

fn a_detach_and_a_lost_answer() -> Plan {
    Plan {
        attached: vec![0],
        enis: 1,
        ticks: 9,
        faults: Faults { external_detaches: 1, unanswered: 1, ..Faults::default() },
        ..Plan::new("others detach, and an answer is lost")
    }
}

fn lost_answers(unanswered: u8) -> Plan {
    Plan { faults: Faults { unanswered, ..Faults::default() }, ..Plan::new("lost answers") }
}

fn a_lost_answer_and_a_refusal() -> Plan {
    Plan {
        ticks: 6,
        faults: Faults { unanswered: 1, refused: 1, ..Faults::default() },
        ..Plan::new("a lost answer and a refusal")
    }
}

fn a_lost_answer_beside_another_program() -> Plan {
    Plan {
        ticks: 6,
        faults: Faults {
            unanswered: 1,
            external_attaches: 1,
            external_detaches: 1,
            ..Faults::default()
        },
        ..Plan::new("a lost answer, and others attach and detach")
    }
}

/// What the record says breaks nothing yet: only the harm counts that the check prevents.
fn effects_only(plan: Plan) -> Plan {
    Plan { check_effects_only: true, ..plan }
}
