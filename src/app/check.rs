//! Tries a configuration, part by part: what works, what does not, and what to do. Changes nothing anywhere.

mod cloud;
mod coordination;

use crate::config::Config;

pub use cloud::cloud;
pub use coordination::coordination;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// What it is part of: `tls`, `ledger`, `credentials`, `ens`, `clock`.
    pub part: &'static str,
    /// Whether it works.
    pub status: CheckStatus,
    /// What was found.
    pub message: String,
    /// What to do about it; empty where nothing needs doing.
    pub remedy: String,
}

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// Yes.
    Good,
    /// Yes, but.
    Warning,
    /// No, for this kind of reason.
    Failed(CheckFailure),
}

/// What kind of reason, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckFailure {
    /// Any other.
    Other,
    /// ENS refuses the key, or the account lacks a right.
    NotAllowed,
    /// Redis or ENS cannot be reached.
    Unreachable,
    /// Something has to be set.
    Configuration,
}

impl CheckResult {
    /// It works.
    pub fn good(part: &'static str, message: impl Into<String>) -> Self {
        Self {
            part,
            status: CheckStatus::Good,
            message: message.into(),
            remedy: String::new(),
        }
    }

    /// It works, but.
    pub fn warning(part: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            part,
            status: CheckStatus::Warning,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// It does not work.
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

/// The certificate to serve with, where there is one.
pub async fn tls(config: &Config) -> Option<CheckResult> {
    config.grpc.tls_cert_file.as_ref()?;
    Some(match super::tls(config).await {
        Ok(_) => CheckResult::good("tls", "certificate and key belong together"),
        Err(error) => {
            let remedy = "correct grpc.tls_cert_file, grpc.tls_key_file or grpc.client_ca_file";
            CheckResult::failed("tls", CheckFailure::Configuration, error.to_string(), remedy)
        }
    })
}
