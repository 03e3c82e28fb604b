//! Whether this replica accepts calls, and the failing parts.
//!
//! Trap: replicas share Redis and ENS. If an outage made all of them unready, the Service would be
//! empty. Callers would then get "connection refused" instead of a reason. So an outage after the
//! start is only reported.

use crate::ledger;
use crate::telemetry::admin::{Failing, Report};

/// The current conditions of readiness.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// Whether the configuration was read and every part built.
    pub configured: bool,
    /// Whether the gRPC listener accepts connections.
    pub bound: bool,
    /// Whether the shutdown has begun.
    pub draining: bool,
    /// The ledger: reached once, preflight passed, settings shared with other replicas.
    pub ledger: ledger::LedgerHealth,
    /// The problems of ENS or its credentials. They do not affect readiness.
    pub ens: Vec<Condition>,
}

/// A lasting problem that does not affect readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `ledger` or `ens`.
    pub part: &'static str,
    /// Its name, which stays the same while its cause changes.
    pub name: &'static str,
    /// The cause.
    pub why: String,
}

impl Readiness {
    /// Whether this replica accepts calls.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.failing().is_empty()
    }

    /// The body of `/readyz`.
    #[must_use]
    pub fn report(&self) -> Report {
        let failing = self.failing();
        Report {
            ready: failing.is_empty(),
            failing,
            degraded: (self.conditions().into_iter())
                .map(|Condition { part, why, .. }| Failing { part, why })
                .collect(),
            warnings: self.ledger.warnings.clone(),
        }
    }

    fn failing(&self) -> Vec<Failing> {
        let mut failing = Vec::new();
        let mut demand = |part, holds: bool, why: &str| {
            if !holds {
                failing.push(Failing { part, why: why.to_owned() });
            }
        };
        demand("configuration", self.configured, "the gateway is still starting");
        demand("listener", self.bound, "the gRPC listener is not bound yet");
        demand("drain", !self.draining, "this replica is stopping");
        let unreached = self.with_cause("the ledger has not been available yet");
        demand("ledger", self.ledger.reached, &unreached);
        for why in &self.ledger.misconfigured {
            demand("ledger", false, why);
        }
        failing
    }

    /// The lasting problems.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let mut add = |name, why| conditions.push(Condition { part: "ledger", name, why });
        if self.ledger.reached && !self.ledger.up {
            add("ledger unavailable", self.with_cause("the ledger is unavailable"));
        }
        if !self.ledger.refusing.is_empty() {
            let why = self.ledger.refusing.join("; ");
            let why = format!("the ledger accepts no writes, and nothing is sent: {why}");
            add("ledger refuses writes", why);
        }
        if self.ledger.recovering > 0 {
            let why = format!("{} partitions are in a recovery hold-down", self.ledger.recovering);
            add("ledger recovering", why);
        }
        if let Some(why) = self.ledger.frozen.describe() {
            add("ledger frozen", why);
        }
        conditions.extend(self.ens.clone());
        conditions
    }

    fn with_cause(&self, what: &str) -> String {
        match &self.ledger.down[..] {
            [] => what.to_owned(),
            down => format!("{what}: {}", down.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Freeze, FrozenPartitions};
    use crate::model::Timestamp;

    fn ready() -> Readiness {
        let ledger =
            ledger::LedgerHealth { up: true, reached: true, ..ledger::LedgerHealth::default() };
        Readiness { configured: true, bound: true, draining: false, ledger, ens: Vec::new() }
    }

    #[test]
    fn it_names_everything_that_fails() {
        assert!(ready().is_ready());
        let parts: Vec<_> =
            Readiness::default().report().failing.iter().map(|failing| failing.part).collect();
        assert_eq!(parts, ["configuration", "listener", "ledger"]);
        assert!(!Readiness { draining: true, ..ready() }.is_ready());
    }

    #[test]
    fn a_ledger_that_cannot_be_reached_is_named_with_the_cause() {
        let mut readiness = ready();
        readiness.ledger.up = false;
        readiness.ledger.down = vec!["Connection refused".to_owned()];
        assert!(readiness.report().degraded[0].why.ends_with("unavailable: Connection refused"));
        readiness.ledger.reached = false;
        assert_eq!(
            readiness.report().failing[0].why,
            "the ledger has not been available yet: Connection refused"
        );
    }

    #[test]
    fn a_ledger_that_takes_no_writes_degrades_and_says_why() {
        let mut readiness = ready();
        readiness.ledger.refusing = vec!["OOM: command not allowed".to_owned()];
        let report = readiness.report();
        assert!(report.ready);
        assert!(report.degraded[0].why.ends_with("nothing is sent: OOM: command not allowed"));
    }

    #[test]
    fn a_freeze_degrades_and_has_its_reason() {
        let freeze = Freeze::new(Timestamp::from_micros(1_795_424_400_000_000), "moving");
        let mut readiness = ready();
        let since = "the ledger is frozen since 2026-11-23T09:00:00.000Z (moving)";
        for (other, why) in [
            (Some(&freeze), format!("{since}: no attach begins")),
            (None, format!("{since}, in 1 of 2 partitions: no attach begins there")),
        ] {
            readiness.ledger.frozen = FrozenPartitions::among([Some(&freeze), other].into_iter());
            let report = readiness.report();
            assert!(report.ready);
            assert_eq!(report.degraded[0].why, why);
        }
    }

    #[test]
    fn a_failure_after_the_first_success_only_degrades() {
        let mut readiness = ready();
        readiness.ledger.up = false;
        readiness.ledger.recovering = 2;
        let (part, name, why) = ("ens", "account refused", "credentials are refused".to_owned());
        readiness.ens = vec![Condition { part, name, why }];
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.degraded.len(), 3);
    }

    #[test]
    fn an_unfit_ledger_is_not_ready_and_says_why() {
        let mut readiness = ready();
        readiness.ledger.misconfigured =
            vec!["maxmemory-policy is volatile-lru, not noeviction".to_owned()];
        let report = readiness.report();
        assert!(!report.ready);
        assert!(report.failing[0].why.contains("noeviction"));
    }
}
