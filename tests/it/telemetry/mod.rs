//! Logs, traces over real OTLP/gRPC, and the admin listener over real HTTP.

mod admin;

mod logs;
mod names;
mod traces;

use eni_gateway::telemetry::{LogFormat, Settings};

use crate::support::log::Log;

/// JSON lines, and callers that decide about their traces.
const JSON: Settings = Settings { format: LogFormat::Json, follow_sampling: true };

/// An environment of these variables.
fn variables(pairs: &[(&'static str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    move |name| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
}
