//! Logs, traces over OTLP, metrics, and health on the admin port. Only this module names
//! OpenTelemetry.

pub mod admin;
pub mod context;
pub mod flush;
pub mod init;
mod json;
pub mod log_queue;
pub mod metrics;
mod otlp;
mod variable;

pub use init::{LogFormat, Settings, Telemetry, init, init_to};
pub use metrics::Metrics;
