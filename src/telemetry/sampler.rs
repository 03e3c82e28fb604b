//! The sampler of traces, by the `OTEL_TRACES_SAMPLER` variables.

use opentelemetry_sdk::trace::Sampler;

use super::variable::set;

/// The samplers that OpenTelemetry names and the gateway has, without `parentbased_`.
const SAMPLERS: [&str; 3] = ["always_on", "always_off", "traceidratio"];

/// Warnings about the sampler's variables.
pub(super) fn warnings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
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
pub(super) fn of(variable: &dyn Fn(&str) -> Option<String>) -> Sampler {
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
