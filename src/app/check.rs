//! Checks of a configuration, part by part, each with a remedy. They change nothing.

mod cloud;
mod coordination;

use crate::config::Config;

pub use cloud::cloud;
pub use coordination::coordination;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The part: `tls`, `ledger`, `credentials`, `ens` or `clock`.
    pub part: &'static str,
    /// The status.
    pub status: CheckStatus,
    /// The finding.
    pub message: String,
    /// The remedy; empty if none is needed.
    pub remedy: String,
}

/// Status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// Works.
    Good,
    /// Works, with a warning.
    Warning,
    /// Fails.
    Failed(CheckFailure),
}

/// Cause of a failed check, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckFailure {
    /// Any other.
    Other,
    /// ENS refuses the key, or the account lacks a right.
    NotAllowed,
    /// Redis or ENS is unreachable.
    Unreachable,
    /// A setting is missing or wrong.
    Configuration,
}

impl CheckResult {
    /// A passed check.
    pub fn good(part: &'static str, message: impl Into<String>) -> Self {
        Self { part, status: CheckStatus::Good, message: message.into(), remedy: String::new() }
    }

    /// A passed check with a warning.
    pub fn warning(
        part: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { part, status: CheckStatus::Warning, message: message.into(), remedy: remedy.into() }
    }

    /// A failed check.
    pub fn failed(
        part: &'static str,
        failure: CheckFailure,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            part,
            status: CheckStatus::Failed(failure),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// Checks the certificate, if one is configured.
pub async fn tls(config: &Config) -> Option<CheckResult> {
    config.grpc.tls_cert_file.as_ref()?;
    Some(match super::tls(config).await {
        Ok(_) => CheckResult::good("tls", "certificate and key match"),
        Err(error) => {
            let remedy = "correct grpc.tls_cert_file, grpc.tls_key_file or grpc.client_ca_file";
            CheckResult::failed("tls", CheckFailure::Configuration, error.to_string(), remedy)
        }
    })
}
