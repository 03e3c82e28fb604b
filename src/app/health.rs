//! What this replica says of itself: on the admin port, over gRPC health, and as gauges.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::gateway::Backends;
use crate::ens::HttpEns;
use crate::grpc::Health;
use crate::ledger::{ClockSteps, LedgerStore};
use crate::telemetry::{Metrics, Readiness};

/// How often it is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at everything that readiness depends on.
pub(super) struct HealthMonitor<L> {
    parts: Arc<Parts<L>>,
    metrics: Metrics,
}

struct Parts<L> {
    seams: Backends<L, HttpEns>,
    leaving: CancellationToken,
}

impl<L: LedgerStore> Parts<L> {
    fn readiness(&self) -> Readiness {
        Readiness {
            configured: true,
            bound: true,
            draining: self.leaving.is_cancelled(),
            ledger: self.seams.ledger.store().health(),
            ens: self.ens_error(),
        }
    }

    fn ens_error(&self) -> Option<String> {
        if let Some(off) = self.seams.ens.clock_offset() {
            return Some(format!(
                "this machine's clock and ens's differ by {off:#}: nothing is sent"
            ));
        }
        self.seams
            .limiter
            .breaker_open()
            .then(|| "ens throttles the account: one probe at a time".to_owned())
    }
}

impl<L: LedgerStore> HealthMonitor<L> {
    pub(super) fn new(seams: Backends<L, HttpEns>, metrics: Metrics, leaving: CancellationToken) -> Self {
        Self {
            parts: Arc::new(Parts { seams, leaving }),
            metrics,
        }
    }

    /// What `/readyz` asks.
    pub(super) fn readiness(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let parts = self.parts.clone();
        move || parts.readiness()
    }

    /// Keeps gRPC health and the gauges up to date until `stop`. Health is stricter than readiness: it says NOT_SERVING while the
    /// ledger cannot be reached.
    pub(super) async fn run(self, health: Health, stop: CancellationToken) {
        let (mut serving, mut recovering) = (None, false);
        let mut clock_steps = ClockSteps::default();
        while !stop.is_cancelled() {
            let readiness = self.parts.readiness();
            let now = readiness.is_ready() && readiness.ledger.up;
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
                match now {
                    true => tracing::info!(degraded = why, "serving calls"),
                    false => tracing::warn!(why, "not serving calls"),
                }
                serving = Some(now);
            }
            if readiness.ledger.recovering > 0 && !recovering {
                tracing::warn!(
                    partitions = readiness.ledger.recovering,
                    hold = ?self.parts.seams.ledger.bounds().recovery_hold_down(),
                    "the ledger restarted, failed over or lost data: partitions grant nothing until their hold is over"
                );
                recovering = true;
            } else if readiness.ledger.recovering == 0 && recovering && now {
                tracing::info!("the ledger has recovered: every partition grants again");
                recovering = false;
            }
            self.metrics.ready(readiness.is_ready());
            self.metrics.clock_offset(self.parts.seams.ens.clock_offset());
            let ledger = &readiness.ledger;
            self.metrics.clock_stepped(ledger.clock_steps.since(clock_steps));
            clock_steps = ledger.clock_steps;
            self.metrics.ledger_up(ledger.up && ledger.refusing.is_empty());
            self.metrics.ledger_misconfigured(readiness.ledger.misconfigured.len());
            self.metrics.partitions_recovering(readiness.ledger.recovering);
            self.metrics.breaker_open(self.parts.seams.limiter.breaker_open());
            // Stopped or not, the condition of the loop says.
            let _ = tokio::time::timeout(CHECK_INTERVAL, stop.cancelled()).await;
        }
    }
}
