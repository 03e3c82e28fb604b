//! Checks of a configuration, part by part, each with a remedy. They change nothing.

mod cloud;
mod coordination;

use std::time::{Duration, SystemTime};

use super::error::with_causes;
use super::settings::redis_settings;
use crate::config::Config;
use crate::ledger::redis::validate;

pub use cloud::cloud;
pub use coordination::coordination;

/// Time before the expiry of a certificate at which it is reported, as by the alert.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

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

/// Checks whether the gateway's own certificate expires soon, or has expired. It starts with one
/// that has, because the file may be renewed at any time.
pub async fn expiry(config: &Config) -> Option<CheckResult> {
    let expiry = super::tls(config).await.ok()??.expiry()?;
    let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(expiry).ok()?);
    let date = humantime::format_rfc3339_seconds(expiry);
    let remedy = "renew the files of grpc.tls_cert_file and grpc.tls_key_file";
    match expiry.duration_since(SystemTime::now()) {
        Err(_) => {
            let message = format!("the gateway's certificate expired at {date}: callers refuse it");
            Some(CheckResult::failed("tls", CheckFailure::Other, message, remedy))
        }
        Ok(left) if left < EXPIRES_SOON => {
            let message = format!("the gateway's certificate expires at {date}");
            Some(CheckResult::warning("tls", message, remedy))
        }
        Ok(_) => None,
    }
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
