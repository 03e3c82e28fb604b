//! The gauges, counters and histograms, with one method each, so that labels are defined only here.
//!
//! Instances and ENIs are never labels, because there are too many. They are in spans and logs.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{MeterProvider, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use crate::model::Reason;
use crate::names::{attribute, label, metric};

mod instruments;
#[cfg(test)]
mod tests;

use instruments::Instruments;

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
        it.frozen.record(0, &[]);
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
    pub fn set_reload_failing(&self, setting: &'static str, failing: bool) {
        let labels = [KeyValue::new(label::SETTING, setting)];
        self.0.reload_failing.record(failing.into(), &labels);
    }

    /// Counts failed TLS handshakes of callers. Zero creates the series.
    pub fn handshakes_failed(&self, cause: &'static str, times: u64) {
        self.0.handshakes_failed.add(times, &[KeyValue::new(label::CAUSE, cause)]);
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
            self.0.drift.add(count as u64, &[kind]);
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

    /// Sets the number of partitions in which no attach begins.
    pub fn set_partitions_frozen(&self, count: usize) {
        self.0.frozen.record(count as u64, &[]);
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
