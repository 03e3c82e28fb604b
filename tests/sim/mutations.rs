//! The mutation tests: with one protection taken away, some seed breaks an invariant that the
//! protection is for. Otherwise a run that passes proves nothing.

use std::time::Duration;

use eni_gateway::ledger::SafetyCheck::*;
use rstest::rstest;

use crate::faults::Kind;
use crate::mutation::Mutation::{self, Check};
use crate::plan::Plan;
use crate::run::run_drawn;
use crate::seeds::report;

/// The columns: what is taken away, the situations that the seeds draw from, the invariants of
/// which one must break, and the number of seeds within which it does.
#[rstest]
#[case::limit(Check(Limit), Plan::draw, &["L1"], 20)]
#[case::settled_occupies(Check(SettledOccupies), lagging_describes, &["L1"], 200)]
#[case::detaching_occupies(Check(DetachingOccupies), external_detaches, &["L1"], 100)]
#[case::grace_of_unanswered(Check(GraceOfUnanswered), late_attaches, &["L1", "L3"], 100)]
#[case::grace_of_accepted(Check(GraceOfAccepted), Plan::draw, &["L1", "L3"], 20)]
#[case::other_copies(Check(OtherCopies), late_attaches, &["L1", "L3"], 3000)]
#[case::ask_before_resend(Check(AskBeforeResend), Plan::draw, &["L6"], 60)]
#[case::send_written(Check(SendWritten), Plan::draw, &["L2"], 60)]
#[case::hold_down(Check(HoldDown), losses, &["L1", "L3"], 60)]
#[case::lease(Check(Lease), pauses, &["L4"], 1000)]
#[case::conflict_waits(Check(ConflictWaits), Plan::draw_hostile, &["L1", "L3", "A1", "D1"], 200)]
#[case::absence_in_hold_down(Check(AbsenceInHoldDown), late_and_failovers, &["L1", "L3", "A1", "D1"], 2000)]
#[case::open_copies(Check(OpenCopies), late_and_detaches, &["L1", "L3", "A1"], 2000)]
#[case::times_restart(Check(TimesRestart), Plan::draw_clock, &["L1", "L3", "A1"], 200)]
#[case::doubt(Check(Doubt), detaches_of_one_instance, &["A1"], 200)]
#[case::one_slot_too_many(Mutation::Limit, Plan::draw, &["L1"], 20)]
#[case::lag(Mutation::Lag, Plan::draw, &["L1", "L3"], 50)]
#[case::validity(Mutation::Validity, late_attaches, &["L1", "L3"], 100)]
#[case::a_send_of_no_time(Mutation::Lease, pauses, &["L4"], 1000)]
#[case::no_hold_down(Mutation::HoldDown, losses, &["L1", "L3"], 100)]
#[case::compare(Mutation::Compare, Plan::draw, &["L1", "L2", "L3", "L5", "A2", "W1"], 20)]
#[case::send_once(Mutation::SendOnce, Plan::draw, &["L2"], 20)]
#[case::lanes(Mutation::Lanes, a_calm_crowd, &["P1"], 20)]
#[case::idle(Mutation::Idle, a_calm_crowd, &["P2"], 20)]
#[case::probe(Mutation::Probe, a_throttled_crowd, &["P1", "P2"], 20)]
#[case::changes(Mutation::Hints, a_crowd_with_a_slow_ens, &["P3"], 60)]
#[case::reason(Mutation::Reason, a_crowd_in_outages, &["P4"], 20)]
#[case::patience(Mutation::Patience, a_crowd_in_outages_of_commits, &["P1"], 20)]
#[case::reply_order(Mutation::ReplyOrder, slow_replies_over_clock_steps, &["P5"], 100)]
fn without_it_an_invariant_breaks(
    #[case] mutation: Mutation,
    #[case] situation: fn(u64) -> Plan,
    #[case] invariants: &[&str],
    #[case] within: u64,
) {
    let found = (0..within).find_map(|seed| {
        let without = |mutation| run_drawn(seed, |seed| Plan { mutation, ..situation(seed) });
        let verdict = without(Some(mutation));
        let violation = verdict.violation.clone()?;
        // Nothing else may be to blame.
        let expected =
            invariants.contains(&violation.invariant.as_str()) && without(None).violation.is_none();
        expected.then(|| report(seed, &verdict))?
    });
    println!(
        "without {mutation:?}: {}",
        found.unwrap_or_else(|| panic!("no seed below {within} finds it"))
    );
}

/// The counterpart of the test that the version of the product names no mutations.
#[test]
fn a_build_with_mutations_names_them() {
    assert!(env!("ENI_GATEWAY_COMMIT").ends_with("-mutations"));
}

fn lagging_describes(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    let lag = plan.bounds.lag.as_millis();
    plan.cloud.lag_by_instance = format!("{}ms..{lag}ms", lag / 2).parse().unwrap();
    plan.cloud.lag_by_id = "0ms..100ms".parse().unwrap();
    (plan.instances, plan.callers) = (1, 8);
    plan
}

fn late_attaches(seed: u64) -> Plan {
    Plan { late: Some(0.8), cloud_faults: 0.3, ..Plan::draw(seed) }
}

fn late_and_failovers(seed: u64) -> Plan {
    Plan { faults: vec![Kind::Failover], ..late_attaches(seed) }
}

fn late_and_detaches(seed: u64) -> Plan {
    Plan { faults: vec![Kind::ExternalDetach], ..late_attaches(seed) }
}

fn external_detaches(seed: u64) -> Plan {
    Plan { faults: vec![Kind::ExternalDetach], ..Plan::draw(seed) }
}

/// What was just attached is taken off, and attached again within the lag.
fn detaches_of_one_instance(seed: u64) -> Plan {
    Plan { calm: Duration::from_secs(1), instances: 1, callers: 8, ..external_detaches(seed) }
}

/// A pause must fall between a grant and its send.
fn pauses(seed: u64) -> Plan {
    Plan { faults: vec![Kind::Pause], calm: Duration::from_secs(2), callers: 8, ..Plan::draw(seed) }
}

fn losses(seed: u64) -> Plan {
    Plan { faults: vec![Kind::Wipe, Kind::Failover], ..Plan::draw(seed) }
}

fn a_calm_crowd(seed: u64) -> Plan {
    let mut plan =
        Plan { faults: Vec::new(), throttled: 0.0, orphan: false, ..Plan::draw_crowd(seed) };
    if let Some(crowd) = &mut plan.crowd {
        crowd.readers = 0;
    }
    plan
}

fn a_throttled_crowd(seed: u64) -> Plan {
    Plan { throttled: 0.05, ..a_calm_crowd(seed) }
}

/// A caller must wait for a lock.
fn a_crowd_with_a_slow_ens(seed: u64) -> Plan {
    let mut plan = a_calm_crowd(seed);
    plan.cloud_network.slow = 1.0;
    plan.cloud_network.slowest = Duration::from_secs(2);
    plan
}

fn a_crowd_in_outages(seed: u64) -> Plan {
    Plan { faults: vec![Kind::OutageInSend], ..a_calm_crowd(seed) }
}

fn a_crowd_in_outages_of_commits(seed: u64) -> Plan {
    Plan { faults: vec![Kind::OutageInCommit], ..a_calm_crowd(seed) }
}

/// A reply of before a step must arrive after one that was requested later.
fn slow_replies_over_clock_steps(seed: u64) -> Plan {
    let mut plan = Plan {
        faults: Kind::CLOCK.to_vec(),
        calm: Duration::from_secs(2),
        ..Plan::draw_clock(seed)
    };
    plan.ledger_network.slow = 0.5;
    plan
}
