//! The protection that a mutation test removes, and its place.

use std::time::Duration;

use eni_gateway::ledger::{Bounds, SafetyCheck};
use eni_gateway::rate_limit::{RateClass, RateLimitRequest};

use crate::cloud::ATTEMPT_TIMEOUT;
use crate::plan::Plan;

/// A protection taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// One of the ledger's safety checks.
    Check(SafetyCheck),
    /// The gateways believe in one place more than there is.
    Limit,
    /// They take what a describe shows for the present: nothing occupies for a lag after it was
    /// settled, nothing waits for a grace.
    Lag,
    /// They take an unanswered request for dead at once.
    Validity,
    /// They send for as long as their lease lasts, however long the send may take.
    Lease,
    /// A partition that lost writes opens at once.
    HoldDown,
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
    /// Callers that the ledger keeps waiting receive that others are before them.
    Reason,
    /// A caller whose reservation's reply was lost waits out an outage up to its deadline.
    Patience,
    /// A reply of the ledger counts as if it had been requested with the newest one.
    ReplyOrder,
}

impl Mutation {
    /// The bounds that the gateways go by; the checks go by the true ones.
    pub(crate) fn bounds(plan: &Plan) -> Bounds {
        let mut bounds = plan.bounds.clone();
        match plan.mutation {
            Some(Self::Check(check)) => bounds.without = Some(check),
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
    pub(crate) fn hold_down(plan: &Plan) -> Duration {
        match plan.mutation {
            Some(Self::HoldDown) => Duration::ZERO,
            _ => plan.bounds.recovery_hold_down(),
        }
    }

    /// How long each describe permit of a caller is due.
    pub(crate) fn starves(plan: &Plan, order: RateLimitRequest) -> Option<Duration> {
        let starved = plan.mutation == Some(Self::Lanes)
            && matches!(order, RateLimitRequest::Take(RateClass::Describe, _));
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

    /// The reason that a caller receives.
    pub(crate) fn names(plan: &Plan, reason: String) -> String {
        match plan.mutation {
            Some(Self::Reason) if reason == "COORDINATION_UNAVAILABLE" => "LOCK_WAIT".to_owned(),
            _ => reason,
        }
    }

    /// Whether a caller still waits that has this answer.
    pub(crate) fn withholds(plan: &Plan, reason: &str) -> bool {
        plan.mutation == Some(Self::Patience) && reason == "OUTCOME_UNKNOWN"
    }

    pub(crate) fn ignores_order(plan: &Plan) -> bool {
        plan.mutation == Some(Self::ReplyOrder)
    }

    pub(crate) fn hints_always(plan: &Plan) -> bool {
        plan.mutation == Some(Self::Hints)
    }

    pub(crate) fn compares_nothing(plan: &Plan) -> bool {
        plan.mutation == Some(Self::Compare)
    }

    pub(crate) fn sends_again(plan: &Plan) -> bool {
        plan.mutation == Some(Self::SendOnce)
    }
}
