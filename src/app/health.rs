//! The health of this replica on the admin port, over gRPC health, and in gauges.

use std::sync::Arc;
use std::time::Duration;

use super::conditions::ConditionLog;
use super::readiness::{Condition, Readiness};
use crate::backends::Backends;
use crate::drain::{self, Phase};
use crate::ens::HttpEns;
use crate::grpc::{Health, Tls};
use crate::ledger::{ClockSteps, LedgerStore};
use crate::telemetry::Metrics;
use crate::telemetry::admin::Report;

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks every condition of readiness.
pub(super) struct HealthMonitor<L> {
    parts: Arc<Parts<L>>,
    metrics: Metrics,
    tls: Option<Arc<Tls>>,
}

struct Parts<L> {
    backends: Backends<L, HttpEns>,
    drain: drain::Watch,
}

impl<L: LedgerStore> Parts<L> {
    fn readiness(&self) -> Readiness {
        Readiness {
            configured: true,
            bound: true,
            draining: self.drain.has_reached(Phase::NotReady),
            ledger: self.backends.ledger.store().health(),
            ens: self.ens_conditions(),
        }
    }

    fn ens_conditions(&self) -> Vec<Condition> {
        let breaker =
            self.backends.limiter.breaker_open().then(|| {
                ("throttled", "ens throttles the account: one probe at a time".to_owned())
            });
        let conditions = self.backends.ens.conditions().into_iter();
        conditions
            .map(|condition| (condition.name, condition.why))
            .chain(breaker)
            .map(|(name, why)| Condition { part: "ens", name, why })
            .collect()
    }
}

impl<L: LedgerStore> HealthMonitor<L> {
    pub(super) fn new(
        backends: Backends<L, HttpEns>,
        drain: drain::Watch,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self { metrics: backends.metrics.clone(), parts: Arc::new(Parts { backends, drain }), tls }
    }

    /// The report that `/readyz` serves.
    pub(super) fn readiness(&self) -> impl Fn() -> Report + Send + Sync + 'static {
        let parts = self.parts.clone();
        move || parts.readiness().report()
    }

    /// Updates gRPC health and the gauges until [`Phase::Stopped`]. Health is stricter than
    /// readiness: NOT_SERVING while the ledger is unreachable or accepts no writes.
    pub(super) async fn run(self, health: Health) {
        let drain = &self.parts.drain;
        let (mut serving, mut conditions) = (None, ConditionLog::default());
        let mut clock_steps = ClockSteps::default();
        while !drain.has_reached(Phase::Stopped) {
            let readiness = self.parts.readiness();
            let now = readiness.is_ready() && readiness.ledger.accepts_writes();
            if serving != Some(now) && !readiness.draining {
                health.set(now).await;
                let report = readiness.report();
                let why: Vec<_> = report
                    .failing
                    .iter()
                    .chain(&report.degraded)
                    .map(|part| format!("{}: {}", part.part, part.why))
                    .collect();
                let why = (!why.is_empty()).then(|| why.join("; "));
                if now {
                    tracing::info!(degraded = why, "serving calls")
                } else {
                    tracing::warn!(why, "not serving calls")
                }
                serving = Some(now);
            }
            conditions.update(&readiness.conditions());
            self.metrics.set_ready(readiness.is_ready());
            if let Some(expiry) = self.tls.as_ref().and_then(|tls| tls.expiry()) {
                self.metrics.set_certificate_expiry("grpc.tls_cert_file", expiry);
            }
            self.metrics.set_clock_offset(self.parts.backends.ens.clock_offset());
            let ledger = &readiness.ledger;
            let steps = ledger.clock_steps.since(clock_steps);
            self.metrics.clock_stepped(steps.back, steps.forward);
            clock_steps = ledger.clock_steps;
            self.metrics.set_ledger_up(ledger.accepts_writes());
            self.metrics.set_ledger_memory_used(ledger.memory_used);
            self.metrics.set_ledger_misconfigured(readiness.ledger.misconfigured.len());
            self.metrics.set_partitions_recovering(readiness.ledger.recovering);
            self.metrics.set_partitions_frozen(readiness.ledger.frozen.count);
            self.metrics.set_breaker_open(self.parts.backends.limiter.breaker_open());
            drain.pause(CHECK_INTERVAL).await;
        }
    }
}
