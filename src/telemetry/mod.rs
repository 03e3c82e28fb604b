//! What operators see: logs, traces over OTLP, metrics and health on the admin port. The only place that names OpenTelemetry.

pub mod admin;
pub mod context;
pub mod flush;
pub mod init;
mod json;
pub mod metrics;
pub mod names;
pub mod readiness;

pub use init::{LogFormat, Telemetry, init, init_to};
pub use metrics::Metrics;
pub use readiness::Readiness;
