//! Setup of logs and traces, once, at the start of `main`.
//!
//! Logs go to standard error ([`log_queue`](super::log_queue)), filtered by `RUST_LOG` or a file
//! (default `info`). Audit lines may go elsewhere. Traces go over OTLP/gRPC, configured by the
//! `OTEL_*` variables. Without an endpoint nothing is sampled, but trace ids are real and W3C
//! context is passed on.
//!
//! The span of an RPC decides about sampling. In a trace that is not sampled no further span or
//! event is built, because they would cost more than the rest of a call.
//!
//! Trap: logs and traces have separate filters. With a shared one, `RUST_LOG=warn` would cut every
//! trace.

use std::io::IsTerminal;
use std::path::PathBuf;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets, dynamic_filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::audit_file::AuditFile;
use super::context::in_unsampled_trace;
use super::log_filter::{BoxedFilter, DEFAULT, LogFilter, LogFilterError, parse};
use super::log_queue::LogQueues;
use super::variable::set;
use super::{otlp, sampler};
use crate::model::random;
use crate::names::AUDIT;

/// Target of exported spans: this crate. Spans of libraries would duplicate them, and the
/// exporter's own would never end.
const TRACED: &str = "eni_gateway";

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text {
        /// Whether to use colours.
        colours: bool,
    },
    /// One JSON object a line, with `trace_id` and `span_id`.
    Json,
}

/// What the gateway's settings say about logs and traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Format of log lines.
    pub format: LogFormat,
    /// Whether a caller's sampled flag decides about its trace.
    pub follow_sampling: bool,
}

impl LogFormat {
    /// Whether lines show the spans around them.
    const fn shows_spans(self) -> bool {
        matches!(self, Self::Text { .. })
    }

    /// Text for people, with colours on a terminal unless `NO_COLOR` is set.
    #[must_use]
    pub fn text(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::Text { colours: std::io::stderr().is_terminal() && !no_color }
    }

    /// Text if standard error is a terminal, with colours unless `NO_COLOR` is set; JSON otherwise.
    #[must_use]
    pub fn detect(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        if std::io::stderr().is_terminal() { Self::text(variable) } else { Self::Json }
    }
}

/// Where log lines go, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Where audit lines go.
    pub audit: AuditOutput,
    /// File with the filter of the lines on standard error; `None` for `RUST_LOG`.
    pub filter_file: Option<PathBuf>,
}

/// Where audit lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AuditOutput {
    /// To standard error, in the form of the other lines and by their filter.
    #[default]
    Stderr,
    /// To standard output, as JSON.
    Stdout,
    /// To the end of this file, as JSON.
    File(PathBuf),
}

/// Traces that are not exported yet; see [`Telemetry::flush`](super::flush).
#[derive(Debug, Clone)]
#[must_use = "spans that were not flushed are lost"]
pub struct Telemetry {
    pub(super) provider: SdkTracerProvider,
    pub(super) logs: Option<LogQueues>,
    /// The log filter, if it is in a file.
    pub filter: Option<LogFilter>,
}

impl Telemetry {
    /// Sets the global exporter of [`emit_attachment_span`](super::context::emit_attachment_span),
    /// which belongs to no span.
    pub fn make_global(&self) {
        opentelemetry::global::set_tracer_provider(self.provider.clone());
    }
}

/// A failed setup of logs or traces.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The exporter of traces cannot be built.
    #[error(transparent)]
    Exporter(#[from] otlp::Error),
    /// The thread that writes log lines cannot be started.
    #[error("log lines cannot be written")]
    Thread(#[source] std::io::Error),
    /// The file of audit lines cannot be opened.
    #[error("log.audit: {path} cannot be opened; set a file that the gateway may write")]
    Audit {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file with the log filter cannot be used.
    #[error("log.filter_file")]
    Filter(#[from] LogFilterError),
    /// Another subscriber is installed already.
    #[error("logs were already set up")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logs and traces for the whole process, from its environment. Must run inside a tokio
/// runtime, which the exporter uses.
///
/// # Errors
/// The exporter cannot be built, a file cannot be used, or another subscriber is installed.
pub fn init(settings: Settings, logs: &LogSettings) -> Result<Telemetry, InitError> {
    let (to, variable) = (std::io::stderr, |name: &str| std::env::var(name).ok());
    let queues = match &logs.audit {
        AuditOutput::Stderr => LogQueues::new(to(), to()),
        AuditOutput::Stdout => LogQueues::new(to(), std::io::stdout()),
        AuditOutput::File(path) => {
            let file = AuditFile::open(path.clone());
            let bad = |source| InitError::Audit { path: path.clone(), source };
            LogQueues::new(to(), file.map_err(bad)?)
        }
    };
    let queues = queues.map_err(InitError::Thread)?;
    let (filter, in_file) = match &logs.filter_file {
        None => (log_filter(&variable, settings.format.shows_spans()), None),
        Some(path) => {
            let (filter, in_file) = LogFilter::open(path.clone(), settings.format.shows_spans())?;
            (filter, Some(in_file))
        }
    };
    let mut layers = Vec::new();
    if logs.audit == AuditOutput::Stderr {
        layers.push(lines(settings.format, queues.clone(), filter));
    } else {
        let audit = queues.audit();
        let no_audit = Targets::new().with_default(LevelFilter::TRACE);
        let filter = Box::new(filter.and(no_audit.with_target(AUDIT, LevelFilter::OFF)));
        layers.push(lines(settings.format, queues.clone(), filter));
        let only_audit = Box::new(Targets::new().with_target(AUDIT, LevelFilter::INFO));
        layers.push(lines(LogFormat::Json, audit, only_audit));
    }
    let (subscriber, telemetry) = assemble(&variable, settings, layers)?;
    install(subscriber, &telemetry, &variable)?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(Telemetry { logs: Some(queues), filter: in_file, ..telemetry })
}

/// As [`init`], with logs written to `writer`.
///
/// # Errors
/// As [`init`].
pub fn init_to<W>(settings: Settings, writer: W) -> Result<Telemetry, InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let variable = |name: &str| std::env::var(name).ok();
    let (subscriber, telemetry) = build(&variable, settings, writer)?;
    install(subscriber, &telemetry, &variable)?;
    Ok(telemetry)
}

/// Makes them those of the whole process.
fn install(
    subscriber: impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    telemetry: &Telemetry,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), InitError> {
    subscriber.try_init()?;
    telemetry.make_global();
    for warning in warnings(variable) {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// Builds logs and traces without installing them. Logs go to `writer`; variables come from
/// `variable`. The SDK itself reads batch sizes, headers and resource attributes from the
/// environment, and the sampler if callers decide.
///
/// # Errors
/// The exporter cannot be built.
pub fn build<W>(
    variable: &dyn Fn(&str) -> Option<String>,
    settings: Settings,
    writer: W,
) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>, Telemetry), InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let logs = lines(settings.format, writer, log_filter(variable, settings.format.shows_spans()));
    assemble(variable, settings, vec![logs])
}

/// A layer that writes log lines.
type LogLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn lines<W>(format: LogFormat, writer: W, filter: BoxedFilter) -> LogLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer();
    match format {
        LogFormat::Text { colours } => {
            layer.with_ansi(colours).with_writer(writer).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            // A line holds the event's fields, not those of its spans.
            let layer = layer.fmt_fields(debug_fn(|_, _, _| Ok(())));
            let layer = layer.event_format(super::json::JsonLines).with_writer(writer);
            layer.with_filter(filter).boxed()
        }
    }
}

/// Logs by these layers, and traces.
fn assemble(
    variable: &dyn Fn(&str) -> Option<String>,
    settings: Settings,
    logs: Vec<LogLayer>,
) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<>, Telemetry), InitError>
{
    let mut provider = SdkTracerProvider::builder().with_resource(resource(variable));
    let endpoint = otlp::endpoint(variable);
    let is_exported = endpoint.is_some();
    if let Some(endpoint) = endpoint {
        provider = provider.with_batch_exporter(otlp::Exporter::new(variable, endpoint)?);
    }
    if !is_exported {
        provider = provider.with_sampler(Sampler::AlwaysOff);
    } else if !settings.follow_sampling {
        let root = sampler::of(variable);
        let sampler = Sampler::parent_based(root.clone())
            .with_remote_parent_sampled(root.clone())
            .with_remote_parent_not_sampled(root);
        provider = provider.with_sampler(sampler);
    }
    let provider = provider.build();
    // Spans carry no code location, thread or idle time. Their status decides about failure, not an
    // ERROR event inside.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(TRACED))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_error_events_to_status(false)
        .with_filter(
            Targets::new()
                .with_target(TRACED, LevelFilter::INFO)
                .and(dynamic_filter_fn(|_, _| !in_unsampled_trace())),
        );
    let telemetry = Telemetry { provider, logs: None, filter: None };
    Ok((tracing_subscriber::registry().with(logs).with(traces), telemetry))
}

/// Warnings about variables that have no effect.
fn warnings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut warnings = otlp::warnings(variable);
    warnings.extend(sampler::warnings(variable));
    if let Some(filter) = set(variable, "RUST_LOG")
        && let Err(error) = EnvFilter::try_new(&filter)
    {
        warnings.push(format!("RUST_LOG={filter:?} is invalid ({error}): using {DEFAULT}"));
    }
    warnings
}

fn log_filter(variable: &dyn Fn(&str) -> Option<String>, lines_show_spans: bool) -> BoxedFilter {
    let wanted = set(variable, "RUST_LOG").and_then(|filter| parse(&filter, lines_show_spans).ok());
    match wanted.or_else(|| parse(DEFAULT, lines_show_spans).ok()) {
        Some(filter) => Box::new(filter.in_force()),
        None => Box::new(LevelFilter::INFO),
    }
}

fn resource(variable: &dyn Fn(&str) -> Option<String>) -> Resource {
    let mut resource = Resource::builder()
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(opentelemetry::KeyValue::new(
            "service.instance.id",
            random::uuid().to_string(),
        ));
    let attributes = set(variable, "OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let named = attributes.split(',').any(|pair| pair.trim().starts_with("service.name="));
    if !named && set(variable, "OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("eni-gateway");
    }
    resource.build()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", true)]
    #[case("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector:4317", true)]
    #[case("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317", false)]
    #[case("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", true)]
    #[case("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "5000", false)]
    #[case("OTEL_EXPORTER_OTLP_HEADERS", "a=b,token", true)]
    #[case("OTEL_EXPORTER_OTLP_HEADERS", "a=b, c=d", false)]
    #[case("OTEL_TRACES_SAMPLER", "sometimes", true)]
    #[case("OTEL_TRACES_SAMPLER", "jaeger_remote", true)]
    #[case("OTEL_TRACES_SAMPLER", "parentbased_always_off", false)]
    #[case("OTEL_TRACES_SAMPLER_ARG", "1.5", true)]
    #[case("OTEL_TRACES_SAMPLER_ARG", "half", true)]
    #[case("OTEL_TRACES_SAMPLER_ARG", "0.5", false)]
    fn a_variable_without_effect_is_named(
        #[case] name: &'static str,
        #[case] value: &'static str,
        #[case] is_warned: bool,
    ) {
        let warnings = warnings(&|asked| {
            if asked == name {
                return Some(value.to_owned());
            }
            (asked == "OTEL_TRACES_SAMPLER").then(|| "traceidratio".to_owned())
        });
        assert_eq!(warnings.iter().any(|text| text.starts_with(name)), is_warned, "{warnings:?}");
    }
}
