//! Setup of logs and traces, once, at the start of `main`.
//!
//! Logs go to standard error ([`log_queue`](super::log_queue)), filtered by `RUST_LOG` (default
//! `info`). Traces go over OTLP/gRPC,
//! configured by the `OTEL_*` variables. Without an endpoint nothing is exported, but trace ids are
//! real and W3C context is passed on.
//!
//! Trap: logs and traces have separate filters. With a shared one, `RUST_LOG=warn` would cut every
//! trace.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::log_queue::LogQueues;
use super::otlp;
use super::variable::set;
use crate::model::random;

/// Target of exported spans: this crate. Spans of libraries would duplicate them, and the
/// exporter's own would never end.
const TRACED: &str = "eni_gateway";

/// Log filter without `RUST_LOG`.
const DEFAULT_LOG: &str =
    "info,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,opentelemetry=warn,opentelemetry_sdk=warn";

/// The directive before every filter. The library warns of each batch that is not exported; the
/// gateway logs the beginning of an outage, with its cause.
const QUIET_EXPORTER: &str = "opentelemetry-otlp=error";

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

/// Traces that are not exported yet; see [`Telemetry::flush`](super::flush).
#[derive(Debug, Clone)]
#[must_use = "spans that were not flushed are lost"]
pub struct Telemetry {
    pub(super) provider: SdkTracerProvider,
    pub(super) logs: Option<LogQueues>,
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
    /// Another subscriber is installed already.
    #[error("logs were already set up")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logs and traces for the whole process, from its environment. Must run inside a tokio
/// runtime, which the exporter uses.
///
/// # Errors
/// The exporter cannot be built, or another subscriber is installed.
pub fn init(settings: Settings) -> Result<Telemetry, InitError> {
    let queues = LogQueues::new(std::io::stderr).map_err(InitError::Thread)?;
    let telemetry = init_to(settings, queues.clone())?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(Telemetry { logs: Some(queues), ..telemetry })
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
    subscriber.try_init()?;
    telemetry.make_global();
    for warning in warnings(&variable) {
        tracing::warn!("{warning}");
    }
    Ok(telemetry)
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
    let mut provider = SdkTracerProvider::builder().with_resource(resource(variable));
    if let Some(endpoint) = otlp::endpoint(variable) {
        provider = provider.with_batch_exporter(otlp::Exporter::new(variable, endpoint)?);
    }
    if !settings.follow_sampling {
        let root = sampler(variable);
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
        .with_filter(Targets::new().with_target(TRACED, LevelFilter::INFO));
    let logs: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
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
    Ok((tracing_subscriber::registry().with(logs).with(traces), Telemetry { provider, logs: None }))
}

/// Warnings about variables that have no effect.
fn warnings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut warnings = otlp::warnings(variable);
    warnings.extend(sampler_warnings(variable));
    if let Some(filter) = set(variable, "RUST_LOG")
        && let Err(error) = EnvFilter::try_new(&filter)
    {
        warnings.push(format!("RUST_LOG={filter:?} is invalid ({error}): using {DEFAULT_LOG}"));
    }
    warnings
}

fn log_filter(variable: &dyn Fn(&str) -> Option<String>) -> EnvFilter {
    let wanted = set(variable, "RUST_LOG").filter(|filter| EnvFilter::try_new(filter).is_ok());
    let filter = wanted.as_deref().unwrap_or(DEFAULT_LOG);
    EnvFilter::new(format!("{QUIET_EXPORTER},{filter}"))
}

/// The samplers that OpenTelemetry names and the gateway has, without `parentbased_`.
const SAMPLERS: [&str; 3] = ["always_on", "always_off", "traceidratio"];

/// Warnings about the sampler's variables.
fn sampler_warnings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let Some(name) = set(variable, "OTEL_TRACES_SAMPLER") else {
        return Vec::new();
    };
    let kind = name.trim_start_matches("parentbased_");
    if !SAMPLERS.contains(&kind) {
        return vec![format!("OTEL_TRACES_SAMPLER={name:?} is not supported: using always_on")];
    }
    let ratio = set(variable, "OTEL_TRACES_SAMPLER_ARG");
    let is_ratio = |text: &str| text.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
    match ratio {
        Some(ratio) if kind == "traceidratio" && !is_ratio(&ratio) => {
            vec![format!("OTEL_TRACES_SAMPLER_ARG={ratio:?} is not between 0 and 1: using 1")]
        }
        _ => Vec::new(),
    }
}

/// The sampler of traces that no caller began.
fn sampler(variable: &dyn Fn(&str) -> Option<String>) -> Sampler {
    let name = set(variable, "OTEL_TRACES_SAMPLER").unwrap_or_default();
    match name.trim_start_matches("parentbased_") {
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => {
            let ratio = set(variable, "OTEL_TRACES_SAMPLER_ARG").and_then(|arg| arg.parse().ok());
            let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
            Sampler::TraceIdRatioBased(ratio.unwrap_or(1.0))
        }
        _ => Sampler::AlwaysOn,
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
