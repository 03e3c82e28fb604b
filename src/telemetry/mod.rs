//! Logs, traces over OTLP, metrics, and health on the admin port. Only this module names
//! OpenTelemetry.

pub mod admin;
pub mod audit;
mod audit_file;
pub mod context;
pub mod flush;
pub mod init;
mod json;
pub mod log_filter;
pub mod log_queue;
pub mod metrics;
mod otlp;
mod sampler;
mod variable;

pub use audit::{AuditEvent, AuditLine};
pub use init::{AuditOutput, LogFormat, LogSettings, Settings, Telemetry, init, init_to};
pub use log_filter::{LogFilter, LogFilterError};
pub use metrics::Metrics;
