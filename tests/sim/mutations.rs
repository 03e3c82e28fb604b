//! It bites: with one protection taken away, some seed finds what it protects from. Otherwise a run that passes proves nothing.

use std::time::Duration;

use eni_gateway::ledger::Bounds;
use eni_gateway::ledger::safety_checks::{SafetyCheck, SafetyChecks};
use eni_gateway::rate_limit::{RateClass, RateLimitRequest};

use crate::cloud::ATTEMPT_TIMEOUT;
use crate::plan::Plan;
use crate::run::run_drawn;
use crate::seeds::report;
use crate::troubles::Kind;

/// A protection taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// One of the ledger's rules.
    Rule(SafetyCheck),
    /// The gateways believe in one place more than there is.
    Limit,
    /// They take what a describe shows for the present: nothing occupies for a lag after it was settled, nothing waits for a grace.
    Lag,
    /// They take an unanswered request for dead at once.
    Validity,
    /// They send for as long as their lease lasts, however long the send may take.
    Lease,
    /// A partition that lost writes opens at once.
    Hold,
    /// Commits are stored whatever was stored before.
    Compare,
    /// The HTTP client sends once more by itself.
    SendOnce,
    /// Callers get no describe permit: others are always before them.
    Lanes,
    /// A replica that has reserved a slot stands idle under the lock before it sends.
    Idle,
    /// A replica keeps the breaker's probe for a while.
    Probe,
    /// Every commit hints, so that each poll causes the next one.
    Hints,
    /// Callers that the ledger keeps waiting are told that others are before them.
    Reason,
}

impl Mutation {
    /// The bounds that the gateways go by; the judge goes by the true ones.
    pub(crate) fn bounds(plan: &Plan) -> Bounds {
        let mut bounds = plan.bounds.clone();
        match plan.mutation {
            Some(Self::Rule(rule)) => bounds.checks = SafetyChecks::without(rule),
            Some(Self::Limit) => bounds.limit += 1,
            Some(Self::Lag) => bounds.lag = Duration::ZERO,
            Some(Self::Validity) => bounds.validity = Duration::ZERO,
            _ => {}
        }
        bounds
    }

    /// What the gateways think that a send takes at most.
    pub(crate) fn attempt_timeout(plan: &Plan) -> Duration {
        match plan.mutation {
            Some(Self::Lease) => Duration::ZERO,
            _ => ATTEMPT_TIMEOUT,
        }
    }

    /// How long a partition stays closed after it lost writes.
    pub(crate) fn hold(plan: &Plan) -> Duration {
        match plan.mutation {
            Some(Self::Hold) => Duration::ZERO,
            _ => plan.bounds.recovery_hold_down(),
        }
    }

    /// How long a caller's describe permit is due, always anew.
    pub(crate) fn starves(plan: &Plan, order: RateLimitRequest) -> Option<Duration> {
        let starved =
            plan.mutation == Some(Self::Lanes) && matches!(order, RateLimitRequest::Take(RateClass::Describe, _));
        starved.then_some(Duration::from_millis(400))
    }

    /// How long a replica does nothing between a reservation and its send.
    pub(crate) fn idles(plan: &Plan) -> Duration {
        match plan.mutation {
            Some(Self::Idle) => Duration::from_secs(3),
            _ => Duration::ZERO,
        }
    }

    /// How long a replica keeps a probe before it uses it.
    pub(crate) fn keeps_probe(plan: &Plan) -> Duration {
        match plan.mutation {
            Some(Self::Probe) => Duration::from_secs(5),
            _ => Duration::ZERO,
        }
    }

    /// The reason that a caller is told.
    pub(crate) fn names(plan: &Plan, reason: String) -> String {
        match plan.mutation {
            Some(Self::Reason) if reason == "COORDINATION_UNAVAILABLE" => "LOCK_WAIT".to_owned(),
            _ => reason,
        }
    }

    pub(crate) fn hints_always(plan: &Plan) -> bool {
        plan.mutation == Some(Self::Hints)
    }

    /// The plan of a seed in which the protection matters.
    fn draw(self, seed: u64) -> Plan {
        match self {
            Self::Lanes | Self::Idle | Self::Probe | Self::Hints | Self::Reason => {
                let mut plan = Plan::draw_crowd(seed);
                plan.troubles.clear();
                if self == Self::Reason {
                    plan.troubles = vec![Kind::OutageInSend];
                }
                plan.throttled = if self == Self::Probe { 0.05 } else { 0.0 };
                plan.orphan = false;
                if self == Self::Hints {
                    // Somebody must wait for a lock.
                    plan.cloud_network.slow = 1.0;
                    plan.cloud_network.slowest = Duration::from_secs(2);
                }
                if let Some(crowd) = &mut plan.crowd {
                    crowd.readers = 0;
                }
                plan
            }
            Self::Rule(SafetyCheck::ConflictWaits) => Plan::draw_hostile(seed),
            Self::Rule(SafetyCheck::TimesRestart) => Plan::draw_clock(seed),
            _ => self.provoked(Plan::draw(seed)),
        }
    }

    /// A world with what the protection is for, which is rare in some.
    fn provoked(self, mut plan: Plan) -> Plan {
        match self {
            Self::Rule(SafetyCheck::AbsenceInHold) => {
                plan.late = Some(0.8);
                plan.cloud_faults = 0.3;
                plan.troubles = vec![Kind::Failover];
            }
            Self::Rule(SafetyCheck::OpenCopies) => {
                plan.late = Some(0.8);
                plan.cloud_faults = 0.3;
                plan.troubles = vec![Kind::ForeignDetach];
            }
            Self::Validity | Self::Rule(SafetyCheck::GraceOfUnanswered | SafetyCheck::OtherCopies) => {
                plan.late = Some(0.8);
                plan.cloud_faults = 0.3;
            }
            Self::Rule(SafetyCheck::SettledOccupies) => {
                // A describe by instance lags far behind one by id.
                let lag = plan.bounds.lag.as_millis();
                plan.cloud.lag_by_instance = format!("{}ms..{lag}ms", lag / 2).parse().unwrap();
                plan.cloud.lag_by_id = "0ms..100ms".parse().unwrap();
                (plan.instances, plan.callers) = (1, 8);
            }
            Self::Rule(SafetyCheck::Doubt) => {
                // What was just attached is taken off, and attached again within the lag.
                plan.troubles = vec![Kind::ForeignDetach];
                plan.calm = Duration::from_secs(1);
                (plan.instances, plan.callers) = (1, 8);
            }
            Self::Rule(SafetyCheck::DetachingOccupies) => plan.troubles = vec![Kind::ForeignDetach],
            Self::Lease | Self::Rule(SafetyCheck::Lease) => {
                // A pause must fall between a grant and its send.
                plan.troubles = vec![Kind::Pause];
                plan.calm = Duration::from_secs(2);
                plan.callers = 8;
            }
            Self::Hold | Self::Rule(SafetyCheck::Hold) => plan.troubles = vec![Kind::Wipe, Kind::Failover],
            _ => {}
        }
        plan
    }

    pub(crate) fn compares_nothing(plan: &Plan) -> bool {
        plan.mutation == Some(Self::Compare)
    }

    pub(crate) fn sends_again(plan: &Plan) -> bool {
        plan.mutation == Some(Self::SendOnce)
    }
}

#[rstest::rstest]
#[case::rule_limit(Mutation::Rule(SafetyCheck::Limit), &["L1"], 20)]
#[case::rule_settled_occupies(Mutation::Rule(SafetyCheck::SettledOccupies), &["L1"], 200)]
#[case::rule_detaching_occupies(Mutation::Rule(SafetyCheck::DetachingOccupies), &["L1"], 100)]
#[case::rule_grace_of_unanswered(Mutation::Rule(SafetyCheck::GraceOfUnanswered), &["L1", "L3"], 100)]
#[case::rule_grace_of_accepted(Mutation::Rule(SafetyCheck::GraceOfAccepted), &["L1", "L3"], 20)]
#[case::rule_other_copies(Mutation::Rule(SafetyCheck::OtherCopies), &["L1", "L3"], 3000)]
#[case::rule_ask_before_resend(Mutation::Rule(SafetyCheck::AskBeforeResend), &["L6"], 60)]
#[case::rule_send_written(Mutation::Rule(SafetyCheck::SendWritten), &["L2"], 60)]
#[case::rule_hold(Mutation::Rule(SafetyCheck::Hold), &["L1", "L3"], 60)]
#[case::rule_lease(Mutation::Rule(SafetyCheck::Lease), &["L4"], 1000)]
#[case::rule_conflict_waits(Mutation::Rule(SafetyCheck::ConflictWaits), &["L1", "L3", "A1", "D1"], 200)]
#[case::rule_absence_in_hold(Mutation::Rule(SafetyCheck::AbsenceInHold), &["L1", "L3", "A1", "D1"], 2000)]
#[case::rule_open_copies(Mutation::Rule(SafetyCheck::OpenCopies), &["L1", "L3", "A1"], 2000)]
#[case::rule_times_restart(Mutation::Rule(SafetyCheck::TimesRestart), &["L1", "L3", "A1"], 200)]
#[case::rule_doubt(Mutation::Rule(SafetyCheck::Doubt), &["A1"], 200)]
#[case::limit(Mutation::Limit, &["L1"], 20)]
#[case::lag(Mutation::Lag, &["L1", "L3"], 50)]
#[case::validity(Mutation::Validity, &["L1", "L3"], 100)]
#[case::lease(Mutation::Lease, &["L4"], 100)]
#[case::hold(Mutation::Hold, &["L1", "L3"], 100)]
#[case::compare(Mutation::Compare, &["L1", "L2", "L3", "L5", "A2", "W1"], 20)]
#[case::send_once(Mutation::SendOnce, &["L2"], 20)]
#[case::lanes(Mutation::Lanes, &["P1"], 20)]
#[case::idle(Mutation::Idle, &["P2"], 20)]
#[case::probe(Mutation::Probe, &["P1", "P2"], 20)]
#[case::changes(Mutation::Hints, &["P3"], 60)]
#[case::reason(Mutation::Reason, &["P4"], 20)]
fn each_mutation_is_found(#[case] mutation: Mutation, #[case] invariants: &[&str], #[case] within: u64) {
    let found = (0..within).find_map(|seed| {
        let without = |taken| {
            run_drawn(seed, |seed| Plan {
                mutation: taken,
                ..mutation.draw(seed)
            })
        };
        let verdict = without(Some(mutation));
        let violation = verdict.violation.clone()?;
        // Nothing else may be to blame.
        let expected = invariants.contains(&violation.invariant.as_str()) && without(None).violation.is_none();
        expected.then(|| report(seed, &verdict))?
    });
    println!(
        "without {mutation:?}: {}",
        found.unwrap_or_else(|| panic!("no seed below {within} finds it"))
    );
}
