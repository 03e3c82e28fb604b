//! The gauges, counters and histograms, one method each, so that no label is made up elsewhere.
//!
//! Instances and ENIs are never labels: there are too many of them. They stand on spans and in logs.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use super::names::{attribute, metric};
use crate::ledger::ClockSteps;
use crate::ledger::invariants::Violation;
use crate::model::Reason;

#[cfg(test)]
mod tests;

/// Bounds of the histograms of short waits, in seconds; those of the conventions, from 1 ms to 30 s.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds of the histogram of batches, up to the 50 ids of one describe.
const BATCH: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0];

/// Who refused a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The gateway's own ledger: nothing was sent.
    Ledger,
    /// ENS itself.
    Ens,
}

impl RefusedBy {
    const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Ens => "ens",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Attached.
    Attached,
    /// Failed, or found not to have been applied.
    Failed,
}

impl Ended {
    const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Failed => "failed",
        }
    }
}

/// All metrics of one gateway. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    registry: Registry,
    // The instruments end with their provider.
    _provider: SdkMeterProvider,
    rpc: Histogram<f64>,
    ens_request: Histogram<f64>,
    lock_wait: Histogram<f64>,
    attempts: Counter<u64>,
    in_flight: UpDownCounter<i64>,
    stuck: Gauge<u64>,
    limit_rejections: Counter<u64>,
    poll_batch: Histogram<u64>,
    reconciliations: Counter<u64>,
    differences: Counter<u64>,
    watch_streams: UpDownCounter<i64>,
    watch_lag: Histogram<f64>,
    breaker_open: Gauge<u64>,
    clock_offset: Gauge<f64>,
    ready: Gauge<u64>,
    ledger_up: Gauge<u64>,
    ledger_misconfigured: Gauge<u64>,
    recovering: Gauge<u64>,
    clock_steps: Counter<u64>,
    violations: Counter<u64>,
}

/// The metrics cannot be set up or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter cannot be built.
    #[error("the metrics cannot be set up")]
    SetUp(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// A metric cannot be registered, or the text cannot be made.
    #[error("the metrics cannot be written")]
    Write(#[from] prometheus::Error),
}

impl Metrics {
    /// A new set, with every counter and gauge at zero and `build_info` told what runs.
    ///
    /// # Errors
    /// The exporter cannot be built.
    pub fn new(version: &str, commit: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("eni_gateway");
        let info = [
            KeyValue::new(attribute::VERSION, version.to_owned()),
            KeyValue::new(attribute::COMMIT, commit.to_owned()),
        ];
        meter
            .u64_gauge(metric::BUILD_INFO)
            .with_description("What runs.")
            .build()
            .record(1, &info);
        let metrics = Self(Arc::new(Instruments::new(&meter, registry, provider.clone())));
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// A series that appears only when something happens cannot be alerted on: its first increase would go unseen.
    fn begin_at_zero(&self) {
        let it = &self.0;
        for ended in [Ended::Attached, Ended::Failed] {
            it.attempts.add(0, &[KeyValue::new(attribute::OUTCOME, ended.name())]);
        }
        for source in [RefusedBy::Ledger, RefusedBy::Ens] {
            it.limit_rejections
                .add(0, &[KeyValue::new(attribute::SOURCE, source.name())]);
        }
        it.reconciliations.add(0, &[]);
        self.drifted([0; 3]);
        for violation in Violation::ALL {
            self.violated(violation, 0);
        }
        it.in_flight.add(0, &[]);
        it.watch_streams.add(0, &[]);
        it.stuck.record(0, &[]);
        it.recovering.record(0, &[]);
        it.breaker_open.record(0, &[]);
        it.clock_offset.record(0.0, &[]);
        it.ready.record(0, &[]);
        it.ledger_up.record(0, &[]);
        it.ledger_misconfigured.record(0, &[]);
        self.clock_stepped(ClockSteps::default());
    }

    /// One RPC was answered. `method` is a method of the service, or `_OTHER`; `code` the canonical code's name; `reason` why it
    /// failed, which tells what the code does not: UNAVAILABLE is an outage, or a drain that nobody need get up for.
    pub fn rpc_answered(&self, method: &'static str, code: &'static str, reason: Option<Reason>, took: Duration) {
        let labels = [
            Some(KeyValue::new(attribute::RPC_SYSTEM, "grpc")),
            Some(KeyValue::new(attribute::RPC_METHOD, method)),
            Some(KeyValue::new(attribute::RPC_STATUS, code)),
            reason.map(|reason| KeyValue::new(attribute::REASON, reason.name())),
        ];
        let labels: Vec<_> = labels.into_iter().flatten().collect();
        self.0.rpc.record(took.as_secs_f64(), &labels);
    }

    /// One call of ENS ended. `outcome` is one word of a small set.
    pub fn ens_answered(&self, action: &'static str, outcome: &'static str, took: Duration) {
        let labels = [
            KeyValue::new(attribute::ACTION, action),
            KeyValue::new(attribute::OUTCOME, outcome),
        ];
        self.0.ens_request.record(took.as_secs_f64(), &labels);
    }

    /// So long a caller waited from its arrival until it had its instance's lock, or until its deadline struck without.
    pub fn lock_waited(&self, wait: Duration) {
        self.0.lock_wait.record(wait.as_secs_f64(), &[]);
    }

    /// An attempt of this gateway ended.
    pub fn attempt_ended(&self, ended: Ended) {
        self.0
            .attempts
            .add(1, &[KeyValue::new(attribute::OUTCOME, ended.name())]);
    }

    /// An attempt is under way here, until the guard is dropped.
    pub fn attempt_in_flight(&self) -> GaugeGuard {
        GaugeGuard::of(self.0.in_flight.clone())
    }

    /// So many attempts are stuck, as this replica last saw.
    pub fn stuck(&self, count: usize) {
        self.0.stuck.record(count as u64, &[]);
    }

    /// An attach was refused because its instance is full.
    pub fn limit_rejected(&self, by: RefusedBy) {
        self.0
            .limit_rejections
            .add(1, &[KeyValue::new(attribute::SOURCE, by.name())]);
    }

    /// The tracker asked for so many attempts in one describe.
    pub fn polled(&self, batch: usize) {
        self.0.poll_batch.record(batch as u64, &[]);
    }

    /// An instance's record was compared with ENS, and differed in so many adopted, detached and requeued attachments.
    pub fn reconciled(&self, [adopted, detached, requeued]: [usize; 3]) {
        self.0.reconciliations.add(1, &[]);
        self.drifted([adopted, detached, requeued]);
    }

    fn drifted(&self, counts: [usize; 3]) {
        for (kind, count) in ["adopted", "detached", "requeued"].into_iter().zip(counts) {
            let kind = KeyValue::new(attribute::KIND, kind);
            self.0.differences.add(count as u64, &[kind]);
        }
    }

    /// A watch stream is open, until the guard is dropped.
    pub fn watch_stream(&self) -> GaugeGuard {
        GaugeGuard::of(self.0.watch_streams.clone())
    }

    /// A watcher was told of a change that was this old.
    pub fn watch_lagged(&self, lag: Duration) {
        self.0.watch_lag.record(lag.as_secs_f64(), &[]);
    }

    /// Whether ENS throttles and calls are held back.
    pub fn breaker_open(&self, open: bool) {
        self.0.breaker_open.record(u64::from(open), &[]);
    }

    /// How far ENS's clock is ahead of this machine's, where that is so far that nothing is sent; none otherwise.
    pub fn clock_offset(&self, off: Option<SignedDuration>) {
        let seconds = off.map_or(0.0, |off| off.as_secs_f64());
        self.0.clock_offset.record(seconds, &[]);
    }

    /// Whether calls may be sent to this replica.
    pub fn ready(&self, ready: bool) {
        self.0.ready.record(u64::from(ready), &[]);
    }

    /// For so many reasons the ledger must not be used as it is.
    pub fn ledger_misconfigured(&self, reasons: usize) {
        self.0.ledger_misconfigured.record(reasons as u64, &[]);
    }

    /// The ledger's clock was set so often since the last report.
    pub fn clock_stepped(&self, steps: ClockSteps) {
        for (direction, count) in [("back", steps.back), ("forward", steps.forward)] {
            let direction = KeyValue::new(attribute::DIRECTION, direction);
            self.0.clock_steps.add(count, &[direction]);
        }
    }

    /// Whether the ledger can be reached.
    pub fn ledger_up(&self, up: bool) {
        self.0.ledger_up.record(u64::from(up), &[]);
    }

    /// So many partitions recover from a loss.
    pub fn partitions_recovering(&self, count: usize) {
        self.0.recovering.record(count as u64, &[]);
    }

    /// An invariant was found broken. This is a fault of the gateway.
    pub fn invariant_violated(&self, violation: Violation) {
        self.violated(violation, 1);
    }

    fn violated(&self, violation: Violation, times: u64) {
        let invariant = KeyValue::new(attribute::INVARIANT, violation.id());
        self.0.violations.add(times, &[invariant]);
    }

    /// All of it in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn exposition(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.0.registry.gather())?)
    }
}

impl Instruments {
    fn new(meter: &Meter, registry: Registry, provider: SdkMeterProvider) -> Self {
        let seconds = |name: &'static str, what: &'static str| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(what)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        let gauge = |name: &'static str, what: &'static str| meter.u64_gauge(name).with_description(what).build();
        let held =
            |name: &'static str, what: &'static str| meter.i64_up_down_counter(name).with_description(what).build();
        Self {
            rpc: seconds(metric::RPC_DURATION, "Duration of each RPC."),
            ens_request: seconds(metric::ENS_REQUEST_DURATION, "Duration of each call of ENS."),
            lock_wait: seconds(
                metric::LOCK_WAIT,
                "Time from a call's arrival until it had the instance's lock and a slot, or gave up.",
            ),
            attempts: counter(metric::ATTEMPTS, "Attempts that ended."),
            in_flight: held(metric::ATTEMPTS_IN_FLIGHT, "Attempts under way on this replica."),
            stuck: gauge(
                metric::ATTEMPTS_STUCK,
                "Attempts under way for longer than tracker.stuck_after.",
            ),
            limit_rejections: counter(
                metric::LIMIT_REJECTIONS,
                "Attaches refused because the instance is full.",
            ),
            poll_batch: meter
                .u64_histogram(metric::POLL_BATCH_SIZE)
                .with_description("Attempts in one describe of the tracker.")
                .with_boundaries(BATCH.to_vec())
                .build(),
            reconciliations: counter(
                metric::RECONCILIATIONS,
                "Instances whose record was compared with what ENS shows.",
            ),
            differences: counter(
                metric::RECONCILE_DRIFT,
                "Differences between ledger and ENS that reconciliations found and put right in the record.",
            ),
            watch_streams: held(metric::WATCH_STREAMS, "Open watch streams."),
            watch_lag: seconds(metric::WATCH_LAG, "Age of a change when a watcher is told of it."),
            breaker_open: gauge(
                metric::ENS_BREAKER_OPEN,
                "1 while ENS throttles and calls are held back.",
            ),
            clock_offset: meter
                .f64_gauge(metric::ENS_CLOCK_OFFSET)
                .with_unit("s")
                .with_description("How far the clock of ENS is ahead, where it is too far to send anything; else 0.")
                .build(),
            ready: gauge(metric::READY, "1 while calls may be sent to this replica."),
            ledger_up: gauge(metric::LEDGER_UP, "1 while the ledger can be reached and takes writes."),
            ledger_misconfigured: gauge(
                metric::LEDGER_MISCONFIGURED,
                "Reasons why the ledger must not be used: eviction, version, rights.",
            ),
            recovering: gauge(
                metric::PARTITIONS_RECOVERING,
                "Partitions that recover from a loss of writes.",
            ),
            clock_steps: counter(
                metric::LEDGER_CLOCK_STEPS,
                "Steps of the ledger's clock that this replica saw.",
            ),
            violations: counter(
                metric::INVARIANT_VIOLATIONS,
                "Invariants found broken: faults of the gateway.",
            ),
            registry,
            _provider: provider,
        }
    }
}

/// Counts as one until it is dropped.
#[must_use = "it counts only while it lives"]
pub struct GaugeGuard(UpDownCounter<i64>);

impl GaugeGuard {
    fn of(counter: UpDownCounter<i64>) -> Self {
        counter.add(1, &[]);
        Self(counter)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.add(-1, &[]);
    }
}
