//! The instruments: each metric's kind, unit, buckets and description.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, ObservableCounter, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;

use crate::names::{label, metric};
use crate::telemetry::log_queue;

/// Bounds of the histograms of short waits, in seconds: those of the conventions, from 1 ms to 30
/// s.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of the histogram of batches, up to the 50 ids of one describe.
const BATCH: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0];

/// The instruments of one gateway, and the registry that exposes them.
pub(super) struct Instruments {
    pub(super) registry: Registry,
    // The instruments end with their provider.
    _provider: SdkMeterProvider,
    pub(super) rpc: Histogram<f64>,
    pub(super) ens_request: Histogram<f64>,
    pub(super) lock_wait: Histogram<f64>,
    pub(super) attempts: Counter<u64>,
    pub(super) in_flight: UpDownCounter<i64>,
    pub(super) stuck: Gauge<u64>,
    pub(super) limit_rejections: Counter<u64>,
    pub(super) poll_batch: Histogram<u64>,
    pub(super) reconciliations: Counter<u64>,
    pub(super) drift: Counter<u64>,
    pub(super) watch_streams: UpDownCounter<i64>,
    pub(super) watch_lag: Histogram<f64>,
    pub(super) breaker_open: Gauge<u64>,
    pub(super) clock_offset: Gauge<f64>,
    pub(super) ready: Gauge<u64>,
    pub(super) ledger_up: Gauge<u64>,
    pub(super) ledger_memory_used: Gauge<f64>,
    pub(super) ledger_misconfigured: Gauge<u64>,
    pub(super) recovering: Gauge<u64>,
    pub(super) frozen: Gauge<u64>,
    pub(super) clock_steps: Counter<u64>,
    pub(super) certificate_expiry: Gauge<i64>,
    pub(super) reload_failing: Gauge<u64>,
    pub(super) handshakes_failed: Counter<u64>,
    pub(super) violations: Counter<u64>,
    // Counts for as long as it lives.
    _lines_dropped: ObservableCounter<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter, registry: Registry, provider: SdkMeterProvider) -> Self {
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
            drift: counter(
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
            frozen: gauge(metric::PARTITIONS_FROZEN, "Partitions that an operator froze."),
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
            handshakes_failed: counter(
                metric::HANDSHAKES_FAILED,
                "TLS handshakes of callers that failed.",
            ),
            _lines_dropped: meter
                .u64_observable_counter(metric::LOG_LINES_DROPPED)
                .with_description("Log lines that could not be written in time, and are lost.")
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
