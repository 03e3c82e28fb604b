//! The gauges, counters and histograms, with one method each, so that labels are defined only here.
//!
//! Instances and ENIs are never labels, because there are too many. They are in spans and logs.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    Counter, Gauge, Histogram, Meter, MeterProvider, ObservableCounter, UpDownCounter,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use super::log_queue;
use crate::model::Reason;
use crate::names::{attribute, label, metric};

#[cfg(test)]
mod tests;

/// Bounds of the histograms of short waits, in seconds: those of the conventions, from 1 ms to 30
/// s.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of the histogram of batches, up to the 50 ids of one describe.
const BATCH: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0];

/// The source of a refused slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The ledger; nothing was sent.
    Ledger,
    /// ENS.
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

/// The end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Attached.
    Attached,
    /// Failed, or not applied.
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

/// All metrics of one gateway. Clones share them.
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
    ledger_memory_used: Gauge<f64>,
    ledger_misconfigured: Gauge<u64>,
    recovering: Gauge<u64>,
    clock_steps: Counter<u64>,
    certificate_expiry: Gauge<i64>,
    reload_failing: Gauge<u64>,
    violations: Counter<u64>,
    // Counts for as long as it lives.
    _lines_dropped: ObservableCounter<u64>,
}

/// An error of the metrics.
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
    /// New metrics, with every counter and gauge at zero, and `build_info`.
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
            KeyValue::new(label::VERSION, version.to_owned()),
            KeyValue::new(label::COMMIT, commit.to_owned()),
        ];
        meter
            .u64_gauge(metric::BUILD_INFO)
            .with_description("Version and commit of this replica.")
            .build()
            .record(1, &info);
        let metrics = Self(Arc::new(Instruments::new(&meter, registry, provider.clone())));
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// Creates every series. An alert would miss the first increase of a series that appears with
    /// it.
    fn begin_at_zero(&self) {
        let it = &self.0;
        for ended in [Ended::Attached, Ended::Failed] {
            it.attempts.add(0, &[KeyValue::new(label::OUTCOME, ended.name())]);
        }
        for source in [RefusedBy::Ledger, RefusedBy::Ens] {
            it.limit_rejections.add(0, &[KeyValue::new(label::SOURCE, source.name())]);
        }
        it.reconciliations.add(0, &[]);
        self.drifted([0; 3]);
        it.in_flight.add(0, &[]);
        it.watch_streams.add(0, &[]);
        it.stuck.record(0, &[]);
        it.recovering.record(0, &[]);
        it.breaker_open.record(0, &[]);
        it.clock_offset.record(0.0, &[]);
        it.ready.record(0, &[]);
        it.ledger_up.record(0, &[]);
        it.ledger_misconfigured.record(0, &[]);
        self.clock_stepped(0, 0);
    }

    /// Counts an answered RPC. `method` is a service method or `_OTHER`; `code` is the canonical
    /// name. `reason` distinguishes an outage from a drain, both UNAVAILABLE.
    pub fn rpc_answered(
        &self,
        method: &'static str,
        code: &'static str,
        reason: Option<Reason>,
        took: Duration,
    ) {
        let labels = [
            Some(KeyValue::new(attribute::RPC_SYSTEM, "grpc")),
            Some(KeyValue::new(attribute::RPC_METHOD, method)),
            Some(KeyValue::new(attribute::RPC_STATUS, code)),
            reason.map(|reason| KeyValue::new(label::REASON, reason.name())),
        ];
        let labels: Vec<_> = labels.into_iter().flatten().collect();
        self.0.rpc.record(took.as_secs_f64(), &labels);
    }

    /// Records a call of ENS. `outcome` is one of a small set.
    pub fn ens_answered(&self, action: &'static str, outcome: &'static str, took: Duration) {
        let labels = [KeyValue::new(label::ACTION, action), KeyValue::new(label::OUTCOME, outcome)];
        self.0.ens_request.record(took.as_secs_f64(), &labels);
    }

    /// Records a caller's wait for the lock, until the grant or the deadline.
    pub fn lock_waited(&self, wait: Duration) {
        self.0.lock_wait.record(wait.as_secs_f64(), &[]);
    }

    /// Sets the Unix time at which the certificate of a setting expires.
    pub fn set_certificate_expiry(&self, setting: &'static str, expiry: i64) {
        self.0.certificate_expiry.record(expiry, &[KeyValue::new(label::SETTING, setting)]);
    }

    /// Sets whether the changed file of a setting is invalid.
    pub fn reload_failing(&self, setting: &'static str, failing: bool) {
        let labels = [KeyValue::new(label::SETTING, setting)];
        self.0.reload_failing.record(failing.into(), &labels);
    }

    /// Counts an ended attempt.
    pub fn attempt_ended(&self, ended: Ended) {
        self.0.attempts.add(1, &[KeyValue::new(label::OUTCOME, ended.name())]);
    }

    /// Counts an attempt in flight until the guard is dropped.
    pub fn attempt_in_flight(&self) -> GaugeGuard {
        GaugeGuard::of(self.0.in_flight.clone())
    }

    /// Sets the number of stuck attempts.
    pub fn set_stuck(&self, count: usize) {
        self.0.stuck.record(count as u64, &[]);
    }

    /// Counts an attach refused because its instance is full.
    pub fn limit_rejected(&self, by: RefusedBy) {
        self.0.limit_rejections.add(1, &[KeyValue::new(label::SOURCE, by.name())]);
    }

    /// Records the batch size of a tracker's describe.
    pub fn polled(&self, batch: usize) {
        self.0.poll_batch.record(batch as u64, &[]);
    }

    /// Counts a reconciliation, with its adopted, detached and requeued attachments.
    pub fn reconciled(&self, [adopted, detached, requeued]: [usize; 3]) {
        self.0.reconciliations.add(1, &[]);
        self.drifted([adopted, detached, requeued]);
    }

    fn drifted(&self, counts: [usize; 3]) {
        for (kind, count) in ["adopted", "detached", "requeued"].into_iter().zip(counts) {
            let kind = KeyValue::new(label::KIND, kind);
            self.0.differences.add(count as u64, &[kind]);
        }
    }

    /// Counts an open watch stream until the guard is dropped.
    pub fn watch_stream(&self) -> GaugeGuard {
        GaugeGuard::of(self.0.watch_streams.clone())
    }

    /// Records the age of a change sent to a watcher.
    pub fn watch_lagged(&self, lag: Duration) {
        self.0.watch_lag.record(lag.as_secs_f64(), &[]);
    }

    /// Sets whether ENS throttles and the breaker is open.
    pub fn set_breaker_open(&self, open: bool) {
        self.0.breaker_open.record(u64::from(open), &[]);
    }

    /// Sets how far ENS's clock is ahead, if that stops all sends.
    pub fn set_clock_offset(&self, off: Option<SignedDuration>) {
        let seconds = off.map_or(0.0, |off| off.as_secs_f64());
        self.0.clock_offset.record(seconds, &[]);
    }

    /// Sets whether this replica accepts calls.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.record(u64::from(ready), &[]);
    }

    /// Sets the number of reasons why the ledger must not be used.
    pub fn set_ledger_misconfigured(&self, reasons: usize) {
        self.0.ledger_misconfigured.record(reasons as u64, &[]);
    }

    /// Counts the ledger's clock steps since the last report.
    pub fn clock_stepped(&self, back: u64, forward: u64) {
        for (direction, count) in [("back", back), ("forward", forward)] {
            let direction = KeyValue::new(label::DIRECTION, direction);
            self.0.clock_steps.add(count, &[direction]);
        }
    }

    /// Sets whether the ledger is reachable.
    pub fn set_ledger_up(&self, up: bool) {
        self.0.ledger_up.record(u64::from(up), &[]);
    }

    /// Sets the percent of the ledger's maximum memory that is in use, if it has a maximum.
    pub fn set_ledger_memory_used(&self, percent: Option<u64>) {
        if let Some(percent) = percent {
            self.0.ledger_memory_used.record(percent as f64 / 100.0, &[]);
        }
    }

    /// Sets the number of partitions that recover from a loss.
    pub fn set_partitions_recovering(&self, count: usize) {
        self.0.recovering.record(count as u64, &[]);
    }

    /// Counts violations of an invariant: gateway defects. Zero creates the series.
    pub fn invariant_violated(&self, invariant: &'static str, times: u64) {
        let invariant = KeyValue::new(label::INVARIANT, invariant);
        self.0.violations.add(times, &[invariant]);
    }

    /// All metrics in Prometheus' text format.
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
        let counter = |name: &'static str, what: &'static str| {
            meter.u64_counter(name).with_description(what).build()
        };
        let gauge = |name: &'static str, what: &'static str| {
            meter.u64_gauge(name).with_description(what).build()
        };
        let held = |name: &'static str, what: &'static str| {
            meter.i64_up_down_counter(name).with_description(what).build()
        };
        Self {
            rpc: seconds(metric::RPC_DURATION, "Duration of each RPC."),
            ens_request: seconds(metric::ENS_REQUEST_DURATION, "Duration of each request to ENS."),
            lock_wait: seconds(
                metric::LOCK_WAIT,
                "Time from a call's arrival until it had the instance's lock and a slot, or gave up.",
            ),
            attempts: counter(metric::ATTEMPTS, "Attempts that reached a terminal state."),
            in_flight: held(metric::ATTEMPTS_IN_FLIGHT, "Attempts in flight on this replica."),
            stuck: gauge(
                metric::ATTEMPTS_STUCK,
                "Attempts in flight for longer than tracker.stuck_after.",
            ),
            limit_rejections: counter(
                metric::LIMIT_REJECTIONS,
                "Attaches refused because the instance is full.",
            ),
            poll_batch: meter
                .u64_histogram(metric::POLL_BATCH_SIZE)
                .with_description("Number of attempts in one describe of the tracker.")
                .with_boundaries(BATCH.to_vec())
                .build(),
            reconciliations: counter(metric::RECONCILIATIONS, "Comparisons of an instance's record with ENS."),
            differences: counter(
                metric::RECONCILE_DRIFT,
                "Differences between record and ENS that reconciliations corrected in the record.",
            ),
            watch_streams: held(metric::WATCH_STREAMS, "Open watch streams."),
            watch_lag: seconds(metric::WATCH_LAG, "Age of a change when it is sent to a watcher."),
            breaker_open: gauge(metric::ENS_BREAKER_OPEN, "1 while ENS throttles and calls wait."),
            clock_offset: meter
                .f64_gauge(metric::ENS_CLOCK_OFFSET)
                .with_unit("s")
                .with_description(
                    "Seconds by which ENS's clock is ahead, if that is too far to send anything; otherwise 0.",
                )
                .build(),
            ready: gauge(metric::READY, "1 while this replica is ready."),
            ledger_up: gauge(metric::LEDGER_UP, "1 while the ledger is reachable and accepts writes."),
            ledger_memory_used: meter
                .f64_gauge(metric::LEDGER_MEMORY_USED)
                .with_description("Used share of Redis' maxmemory; no series without a maximum.")
                .build(),
            ledger_misconfigured: gauge(
                metric::LEDGER_MISCONFIGURED,
                "Number of reasons against the use of the ledger: eviction, version, rights.",
            ),
            recovering: gauge(metric::PARTITIONS_RECOVERING, "Partitions in a recovery hold-down."),
            clock_steps: counter(
                metric::LEDGER_CLOCK_STEPS,
                "Steps of the ledger's clock that this replica detected.",
            ),
            certificate_expiry: meter
                .i64_gauge(metric::CERTIFICATE_EXPIRY)
                .with_unit("s")
                .with_description("Unix time at which the certificate of this setting expires.")
                .build(),
            reload_failing: gauge(
                metric::RELOAD_FAILING,
                "1 while the changed file of this setting is invalid.",
            ),
            _lines_dropped: meter
                .u64_observable_counter(metric::LOG_LINES_DROPPED)
                .with_description("Log lines lost because standard error was not read.")
                .with_callback(|dropped| {
                    for (queue, lines) in log_queue::dropped() {
                        dropped.observe(lines, &[KeyValue::new(label::QUEUE, queue)]);
                    }
                })
                .build(),
            violations: counter(
                metric::INVARIANT_VIOLATIONS,
                "Observed violations of invariants: defects of the gateway.",
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
