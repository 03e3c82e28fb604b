//! It bites: with one protection taken away, some seed finds what it protects from. Otherwise a run that passes proves nothing.

use std::time::Duration;

use eni_gateway::ledger::Bounds;
use eni_gateway::ledger::rules::{Rule, Rules};

use crate::cloud::ATTEMPT_TIMEOUT;
use crate::plan::Plan;
use crate::run::run_changed;
use crate::seeds::report;
use crate::troubles::Kind;

/// A protection taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// One of the ledger's rules.
    Rule(Rule),
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
}

impl Sabotage {
    /// The bounds that the gateways go by; the judge goes by the true ones.
    pub(crate) fn bounds(plan: &Plan) -> Bounds {
        let mut bounds = plan.bounds.clone();
        match plan.sabotage {
            Some(Self::Rule(rule)) => bounds.rules = Rules::without(rule),
            Some(Self::Limit) => bounds.limit += 1,
            Some(Self::Lag) => bounds.lag = Duration::ZERO,
            Some(Self::Validity) => bounds.validity = Duration::ZERO,
            _ => {}
        }
        bounds
    }

    /// What the gateways think that a send takes at most.
    pub(crate) fn attempt_timeout(plan: &Plan) -> Duration {
        match plan.sabotage {
            Some(Self::Lease) => Duration::ZERO,
            _ => ATTEMPT_TIMEOUT,
        }
    }

    /// How long a partition stays closed after it lost writes.
    pub(crate) fn hold(plan: &Plan) -> Duration {
        match plan.sabotage {
            Some(Self::Hold) => Duration::ZERO,
            _ => plan.bounds.hold(),
        }
    }

    /// A world with what the protection is for, which is rare in some.
    fn provoked(self, mut plan: Plan) -> Plan {
        match self {
            Self::Validity | Self::Rule(Rule::GraceOfUnanswered | Rule::OtherCopies) => {
                plan.late = Some(0.8);
                plan.cloud_faults = 0.3;
            }
            Self::Rule(Rule::DetachingOccupies) => plan.troubles = vec![Kind::ForeignDetach],
            Self::Lease | Self::Rule(Rule::Lease) => {
                // A pause must fall between a grant and its send.
                plan.troubles = vec![Kind::Pause];
                plan.calm = Duration::from_secs(2);
                plan.callers = 8;
            }
            Self::Hold | Self::Rule(Rule::Hold) => plan.troubles = vec![Kind::Wipe, Kind::Failover],
            _ => {}
        }
        plan
    }

    pub(crate) fn compares_nothing(plan: &Plan) -> bool {
        plan.sabotage == Some(Self::Compare)
    }

    pub(crate) fn sends_again(plan: &Plan) -> bool {
        plan.sabotage == Some(Self::SendOnce)
    }
}

#[rstest::rstest]
#[case::rule_limit(Sabotage::Rule(Rule::Limit), &["L1"], 20)]
#[case::rule_settled_occupies(Sabotage::Rule(Rule::SettledOccupies), &["L1"], 200)]
#[case::rule_detaching_occupies(Sabotage::Rule(Rule::DetachingOccupies), &["L1"], 100)]
#[case::rule_grace_of_unanswered(Sabotage::Rule(Rule::GraceOfUnanswered), &["L1", "L3"], 100)]
#[case::rule_grace_of_accepted(Sabotage::Rule(Rule::GraceOfAccepted), &["L1", "L3"], 20)]
#[case::rule_other_copies(Sabotage::Rule(Rule::OtherCopies), &["L1", "L3"], 3000)]
#[case::rule_ask_before_resend(Sabotage::Rule(Rule::AskBeforeResend), &["L6"], 60)]
#[case::rule_send_written(Sabotage::Rule(Rule::SendWritten), &["L2"], 60)]
#[case::rule_hold(Sabotage::Rule(Rule::Hold), &["L1", "L3"], 60)]
#[case::rule_lease(Sabotage::Rule(Rule::Lease), &["L4"], 60)]
#[case::limit(Sabotage::Limit, &["L1"], 20)]
#[case::lag(Sabotage::Lag, &["L1", "L3"], 50)]
#[case::validity(Sabotage::Validity, &["L1", "L3"], 100)]
#[case::lease(Sabotage::Lease, &["L4"], 100)]
#[case::hold(Sabotage::Hold, &["L1", "L3"], 100)]
#[case::compare(Sabotage::Compare, &["L1", "L2", "L3", "L5", "A2", "W1"], 20)]
#[case::send_once(Sabotage::SendOnce, &["L2"], 20)]
fn it_bites(#[case] sabotage: Sabotage, #[case] invariants: &[&str], #[case] within: u64) {
    let found = (0..within).find_map(|seed| {
        let without = |taken| {
            run_changed(seed, |plan| Plan {
                sabotage: taken,
                ..sabotage.provoked(plan)
            })
        };
        let verdict = without(Some(sabotage));
        let breach = verdict.breach.clone()?;
        // Nothing else may be to blame.
        let expected = invariants.contains(&breach.invariant.as_str()) && without(None).breach.is_none();
        expected.then(|| report(seed, &verdict))?
    });
    println!(
        "without {sabotage:?}: {}",
        found.unwrap_or_else(|| panic!("no seed below {within} finds it"))
    );
}
