//! Checks of a configuration, part by part, each with a remedy. They change nothing.

mod cloud;
mod coordination;

use std::time::{Duration, SystemTime};

use super::error::with_causes;
use super::settings::redis_settings;
use crate::config::{Config, Fault, Faults};
use crate::ledger::redis::validate;
use crate::telemetry::log_filter;

pub use cloud::cloud;
pub use coordination::coordination;

/// Time before the expiry of a certificate at which it is reported, as by the alert.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The part: `settings`, `tls`, `policy`, `log`, `ledger`, `credentials`, `ens` or `clock`.
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

/// Adds the faults of the configured files whose content is wrong: certificates with their keys,
/// the policy and the log filter. Files whose settings have a fault already are not read.
pub async fn add_file_faults(config: &Config, faults: &mut Faults) {
    let has = |settings: &[&str]| settings.iter().any(|part| faults.mention(part));
    let mut results = Vec::new();
    if !has(&["grpc.tls_", "grpc.client_"]) {
        results.extend(own_certificate(config).await);
    }
    if !has(&["ledger."]) {
        results.extend(ledger_certificates(config));
    }
    if !has(&["identity."]) {
        results.extend(policy(config).await);
    }
    if !has(&["log."]) {
        results.extend(log_filter(config));
    }
    for bad in results.into_iter().filter(CheckResult::is_bad) {
        faults.add(Fault::new(bad.part, bad.message, bad.remedy));
    }
}

/// Checks the certificates of the files that are configured: the gateway's own, and those for
/// Redis.
pub async fn certificates(config: &Config) -> Vec<CheckResult> {
    own_certificate(config).await.into_iter().chain(ledger_certificates(config)).collect()
}

async fn own_certificate(config: &Config) -> Option<CheckResult> {
    config.grpc.tls_cert_file.as_ref()?;
    Some(match super::tls(config).await {
        Ok(_) => CheckResult::good("tls", "certificate and key match"),
        Err(error) => {
            let remedy = "correct grpc.tls_cert_file, grpc.tls_key_file, grpc.client_ca_file \
                          or grpc.client_crl_file";
            let message = with_causes(&error);
            CheckResult::failed("tls", CheckFailure::Configuration, message, remedy)
        }
    })
}

fn ledger_certificates(config: &Config) -> Option<CheckResult> {
    let ledger =
        redis_settings(config).and_then(|settings| Ok(settings.map(validate).transpose()?));
    let error = ledger.err()?;
    let remedy = "correct ledger.ca_file, ledger.cert_file or ledger.key_file";
    let message = with_causes(&error);
    Some(CheckResult::failed("ledger", CheckFailure::Configuration, message, remedy))
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

/// Checks the log filter, if it is in a file. Nothing is to be said of a good one.
#[must_use]
pub fn log_filter(config: &Config) -> Option<CheckResult> {
    let error = log_filter::check(config.log.filter_file.as_ref()?).err()?;
    let remedy = "correct the file that log.filter_file names, such as info,eni_gateway=debug";
    let message = with_causes(&error);
    Some(CheckResult::failed("log", CheckFailure::Configuration, message, remedy))
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
