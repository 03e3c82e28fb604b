//! Logs and traces, set up once, first thing in `main`.
//!
//! Logs go to standard error under `RUST_LOG` (default `info`). Traces go out over OTLP/gRPC as the standard `OTEL_*` variables say;
//! where they name no endpoint nothing is exported, but trace ids are real and W3C context is passed on all the same.
//!
//! The trap: each of the two has a filter of its own. With one filter for both, `RUST_LOG=warn` would cut every trace to pieces.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::model::random;

/// The crate's own spans and events: what traces are made of. Those of the libraries below would double them, and those of
/// the exporter's own calls would never end.
const TRACED: &str = "eni_gateway";

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT_LOG: &str =
    "info,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,opentelemetry=warn,opentelemetry_sdk=warn";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours or without.
    Text {
        /// Whether with colours.
        colours: bool,
    },
    /// One JSON object a line, with `trace_id` and `span_id`.
    Json,
}

impl LogFormat {
    /// Text if standard error is a terminal, with colours unless `NO_COLOR` is set; JSON otherwise.
    #[must_use]
    pub fn detect(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text {
                colours: variable("NO_COLOR").is_none_or(|value| value.is_empty()),
            }
        } else {
            Self::Json
        }
    }
}

/// Traces that are still on their way: see [`Telemetry::flush`](super::flush).
#[derive(Debug, Clone)]
#[must_use = "spans that were not flushed are lost"]
pub struct Telemetry {
    pub(super) provider: SdkTracerProvider,
}

impl Telemetry {
    /// Makes this the way out of [`emit_attachment_span`](super::context::emit_attachment_span), which belongs to no span of its own.
    pub fn make_global(&self) {
        opentelemetry::global::set_tracer_provider(self.provider.clone());
    }
}

/// Logs or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The exporter cannot be built from the `OTEL_*` variables.
    #[error("traces cannot be exported as the OTEL_ variables say")]
    Exporter(#[from] ExporterBuildError),
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE` names a file that cannot be read.
    #[error("the certificates of OTEL_EXPORTER_OTLP_CERTIFICATE cannot be read")]
    Certificate(#[source] std::io::Error),
    /// Another subscriber is installed already.
    #[error("logs were already set up")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets logs and traces up for the whole process, from its environment. Inside a tokio runtime, which the exporter runs on.
///
/// # Errors
/// See [`InitError`].
pub fn init() -> Result<Telemetry, InitError> {
    init_to(LogFormat::detect(&|name| std::env::var(name).ok()), std::io::stderr)
}

/// The same, with logs that go elsewhere than to standard error.
///
/// # Errors
/// See [`InitError`].
pub fn init_to<W>(format: LogFormat, writer: W) -> Result<Telemetry, InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let variable = |name: &str| std::env::var(name).ok();
    let (subscriber, telemetry) = build(&variable, format, writer)?;
    subscriber.try_init()?;
    telemetry.make_global();
    for warning in warnings(&variable) {
        tracing::warn!("{warning}");
    }
    Ok(telemetry)
}

/// The same, without installing anything: logs go to `writer`, variables are asked of `variable`. Sampler, batch sizes, headers and
/// resource attributes are read from the process' environment by the SDK itself.
///
/// # Errors
/// See [`InitError`].
pub fn build<W>(
    variable: &dyn Fn(&str) -> Option<String>,
    format: LogFormat,
    writer: W,
) -> Result<
    (
        impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>,
        Telemetry,
    ),
    InitError,
>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let mut provider = SdkTracerProvider::builder().with_resource(resource(variable));
    if let Some(endpoint) = endpoint(variable) {
        provider = provider.with_batch_exporter(exporter(variable, endpoint)?);
    }
    let provider = provider.build();
    // Spans carry what the code says of them: no code location, no thread, no idle time. Whether a span failed is decided by its
    // status and not by an event of level ERROR inside it.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(TRACED))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_error_events_to_status(false)
        .with_filter(Targets::new().with_target(TRACED, LevelFilter::INFO));
    let logs: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text { colours } => tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .with_writer(writer)
            .with_filter(log_filter(variable))
            .boxed(),
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .event_format(super::json::JsonLines)
                .with_writer(writer);
            layer.with_filter(log_filter(variable)).boxed()
        }
    };
    Ok((
        tracing_subscriber::registry().with(logs).with(traces),
        Telemetry { provider },
    ))
}

/// What the variables say that will not be done.
fn warnings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Some(protocol) = set(variable, name).filter(|protocol| protocol != "grpc") {
            warnings.push(format!("{name}={protocol:?} is not supported: traces go out over grpc"));
        }
    }
    if let Some(exporter) =
        set(variable, "OTEL_TRACES_EXPORTER").filter(|name| !matches!(name.as_str(), "otlp" | "none"))
    {
        warnings.push(format!(
            "OTEL_TRACES_EXPORTER={exporter:?} is not supported: traces go out over otlp"
        ));
    }
    if let Some(filter) = set(variable, "RUST_LOG")
        && let Err(error) = EnvFilter::try_new(&filter)
    {
        warnings.push(format!(
            "RUST_LOG={filter:?} is not understood ({error}): logging {DEFAULT_LOG}"
        ));
    }
    warnings
}

fn log_filter(variable: &dyn Fn(&str) -> Option<String>) -> EnvFilter {
    let wanted = set(variable, "RUST_LOG").and_then(|filter| EnvFilter::try_new(filter).ok());
    wanted.unwrap_or_else(|| EnvFilter::new(DEFAULT_LOG))
}

/// A variable that is set to something: OpenTelemetry takes an empty one for one that is not set.
fn set(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name)
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// Where traces go; `None` where nothing says so, or something forbids it.
fn endpoint(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let disabled = set(variable, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = set(variable, "OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    if disabled || none {
        return None;
    }
    set(variable, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set(variable, "OTEL_EXPORTER_OTLP_ENDPOINT"))
}

fn exporter(variable: &dyn Fn(&str) -> Option<String>, endpoint: String) -> Result<SpanExporter, InitError> {
    let mut builder = SpanExporter::builder().with_tonic();
    if endpoint.starts_with("https://") {
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        let file = set(variable, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE");
        if let Some(path) = file.or_else(|| set(variable, "OTEL_EXPORTER_OTLP_CERTIFICATE")) {
            let pem = std::fs::read(path).map_err(InitError::Certificate)?;
            tls = tls.ca_certificate(opentelemetry_otlp::tonic_types::transport::Certificate::from_pem(pem));
        }
        builder = builder.with_tls_config(tls);
    }
    Ok(builder.with_endpoint(endpoint).build()?)
}

fn resource(variable: &dyn Fn(&str) -> Option<String>) -> Resource {
    let mut resource = Resource::builder()
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .with_attribute(opentelemetry::KeyValue::new(
            "service.instance.id",
            random::uuid().to_string(),
        ));
    let attributes = set(variable, "OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let named = attributes
        .split(',')
        .any(|pair| pair.trim().starts_with("service.name="));
    if !named && set(variable, "OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("eni-gateway");
    }
    resource.build()
}
