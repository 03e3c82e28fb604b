//! Checks of a configuration, part by part, each with a remedy. They change nothing.

mod cloud;
mod coordination;

use super::error::with_causes;
use super::settings::redis_settings;
use crate::config::Config;
use crate::ledger::redis::validate;

pub use cloud::cloud;
pub use coordination::coordination;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The part: `settings`, `tls`, `policy`, `ledger`, `credentials`, `ens` or `clock`.
    pub part: &'static str,
    /// The status.
    pub status: CheckStatus,
    /// The result.
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

    /// Whether the check failed.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self.status, CheckStatus::Failed(_))
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

/// Checks the certificates of the files that are configured: the gateway's own, and those for
/// Redis.
pub async fn certificates(config: &Config) -> Vec<CheckResult> {
    let mut findings = Vec::new();
    if config.grpc.tls_cert_file.is_some() {
        findings.push(match super::tls(config).await {
            Ok(_) => CheckResult::good("tls", "certificate and key match"),
            Err(error) => {
                let remedy = "correct grpc.tls_cert_file, grpc.tls_key_file, grpc.client_ca_file \
                              or grpc.client_crl_file";
                let message = with_causes(&error);
                CheckResult::failed("tls", CheckFailure::Configuration, message, remedy)
            }
        });
    }
    let ledger =
        redis_settings(config).and_then(|settings| Ok(settings.map(validate).transpose()?));
    if let Err(error) = ledger {
        let remedy = "correct ledger.ca_file, ledger.cert_file or ledger.key_file";
        let message = with_causes(&error);
        findings.push(CheckResult::failed("ledger", CheckFailure::Configuration, message, remedy));
    }
    findings
}

/// Checks the policy of callers, if one is configured.
pub async fn policy(config: &Config) -> Option<CheckResult> {
    let result = super::policy(config).await.transpose()?;
    Some(match result {
        Ok(store) => {
            let rules = store.current().rules().len();
            CheckResult::good("policy", format!("{rules} rules"))
        }
        Err(error) => {
            let remedy = "correct the file that identity.policy_file names";
            CheckResult::failed("policy", CheckFailure::Configuration, error.to_string(), remedy)
        }
    })
}
