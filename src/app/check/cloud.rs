//! Checks of credentials and of ENS, with signed reads.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, timeout};

use super::{CheckFailure, CheckResult};
use crate::app::Error;
use crate::app::credentials::Provider;
use crate::app::settings::{bounds, ens_settings, rates};
use crate::config::Config;
use crate::ens::condition::describe_offset;
use crate::ens::report::Action;
use crate::ens::transport::Handshake;
use crate::ens::{DescribeError, HttpEns};
use crate::ledger::{Ledger, Memory};
use crate::model::Reason;
use crate::rate_limit::{RateClass, RateLimiter};
use crate::tls_fault::expects_tls;

/// Maximum age of an `x-acs-date` at ENS.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);
/// Distance of the probes from that window: more than a good clock and a slow network cause.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// The right that no read proves.
const ATTACH_RIGHT: &str = "ens:AttachNetworkInterface";
const RIGHTS: &str =
    "ens:AttachNetworkInterface, ens:DescribeNetworkInterfaces and ens:DescribeInstances";

/// Fetches credentials, and reads from ENS with them. The few calls do not count against the
/// account's budget.
///
/// # Errors
/// No client can be built from the settings.
pub async fn cloud(config: &Config, credentials: Provider) -> Result<Vec<CheckResult>, Error> {
    let source = credentials.source();
    let mut results = match credentials.get().await {
        Ok(fetched) => {
            let until =
                fetched.expiration().map(|end| format!(", valid until {end}")).unwrap_or_default();
            vec![CheckResult::good("credentials", format!("from {source}{until}"))]
        }
        Err(error) => {
            let message = format!("none from {source}: {error}");
            let remedy = error
                .remedy()
                .unwrap_or("correct that source, or configure another one")
                .to_owned();
            let failed = CheckResult::failed("credentials", CheckFailure::Other, message, remedy);
            return Ok(vec![failed]);
        }
    };
    let prober = Prober::new(config, credentials)?;
    let began = Instant::now();
    let read = prober.read(Action::DescribeNetworkInterfaces, SignedDuration::ZERO).await;
    let took = began.elapsed();
    // A refusal shows the offset as well.
    if let Some(off) = prober.ens.clock_offset() {
        let message = format!("this machine's {}: nothing is sent", describe_offset(off));
        results.push(CheckResult::failed(
            "clock",
            CheckFailure::Other,
            message,
            "synchronise it (ntp)",
        ));
    } else if matches!(
        read,
        Ok(()) | Err(DescribeError::Refused(_) | DescribeError::Throttled { .. })
    ) {
        results
            .push(CheckResult::good("clock", "this machine's clock agrees with ens's within 5 s"));
    }
    // The rights differ, but not the address and the key.
    let reads_further = match &read {
        Ok(()) => true,
        Err(DescribeError::Refused(refusal)) => {
            Reason::of_ens_code(&refusal.code) == Reason::EnsPermissionDenied
        }
        Err(_) => false,
    };
    match read {
        Ok(()) => {
            let message =
                format!("{}: a signed read of ENIs took {} ms", prober.endpoint, took.as_millis());
            results.push(CheckResult::good("ens", message));
            if config.ens.enforce_validity {
                results.push(prober.window().await);
            }
        }
        Err(DescribeError::Unavailable(_)) if lacks_tls(config).await => {
            results.push(CheckResult::failed(
                "ens",
                CheckFailure::Unreachable,
                format!("{}: the server there uses TLS", prober.endpoint),
                "begin ens.endpoint with https://",
            ));
        }
        Err(error) => {
            results.push(refused(&prober.endpoint, Action::DescribeNetworkInterfaces, &error))
        }
    }
    if reads_further {
        results.push(prober.instances().await);
    }
    Ok(results)
}

/// Whether the endpoint is one for plaintext, and its server expects TLS.
async fn lacks_tls(config: &Config) -> bool {
    let url = config.ens.endpoint.url();
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    url.scheme() == "http"
        && timeout(config.ens.describe_timeout, expects_tls(host, port)).await == Ok(true)
}

struct Prober {
    ens: HttpEns,
    limiter: RateLimiter,
    endpoint: String,
    patience: Duration,
}

impl Prober {
    fn new(config: &Config, credentials: Provider) -> Result<Self, Error> {
        let ledger = Ledger::new(Memory::new(rates(config)?), bounds(config), Arc::new(|_| ()));
        let limiter = RateLimiter::over(Arc::new(ledger));
        let ens =
            HttpEns::new(ens_settings(config), credentials, limiter.clone(), Arc::new(|_| ()))?;
        let endpoint = config.ens.endpoint.as_str().to_owned();
        Ok(Self { ens, limiter, endpoint, patience: config.ens.describe_timeout })
    }

    /// Requests one row, with a date at this offset from now.
    async fn read(&self, action: Action, offset: SignedDuration) -> Result<(), DescribeError> {
        let permit = self.limiter.permit(RateClass::Describe, Instant::now() + self.patience).await;
        match permit {
            Ok(permit) => self.ens.probe(permit, action, offset).await,
            Err(error) => Err(DescribeError::Unavailable(error.to_string())),
        }
    }

    /// Checks the other read that an attach needs. Only an attach could prove its own right.
    async fn instances(&self) -> CheckResult {
        match self.read(Action::DescribeInstances, SignedDuration::ZERO).await {
            Ok(()) => CheckResult::good(
                "ens",
                format!(
                    "{}: a signed read of instances works; the right {ATTACH_RIGHT} was not tried",
                    self.endpoint
                ),
            ),
            Err(error) => refused(&self.endpoint, Action::DescribeInstances, &error),
        }
    }

    /// Checks that ENS accepts a date just inside its window and refuses one just outside.
    /// `ens.enforce_validity` depends on it.
    async fn window(&self) -> CheckResult {
        let action = Action::DescribeNetworkInterfaces;
        let outside = match self.read(action, MARGIN - WINDOW).await {
            Ok(()) => self.read(action, -(WINDOW + MARGIN)).await,
            Err(DescribeError::Refused(refusal)) => {
                let message = format!(
                    "ens refuses a date that is 15 min less {MARGIN:#} old ({}): attaches would fail",
                    refusal.code
                );
                return not_enforced(message);
            }
            Err(error) => return refused(&self.endpoint, action, &error),
        };
        match outside {
            Err(DescribeError::Refused(refusal))
                if refusal.code.starts_with("InvalidTimeStamp") =>
            {
                CheckResult::good(
                    "ens",
                    "enforces ens.request_validity: it refuses a date that is more than 15 min old",
                )
            }
            Ok(()) => not_enforced(format!(
                "ens accepts a date that is 15 min and {MARGIN:#} old: it does not enforce ens.request_validity"
            )),
            Err(error) => refused(&self.endpoint, action, &error),
        }
    }
}

fn not_enforced(message: String) -> CheckResult {
    CheckResult::failed("ens", CheckFailure::Other, message, "set ens.enforce_validity = false")
}

fn refused(endpoint: &str, action: Action, error: &DescribeError) -> CheckResult {
    let message = format!("{endpoint}: {}: {error}", action.name());
    let failed =
        |failure, remedy: &str| CheckResult::failed("ens", failure, message.clone(), remedy);
    match error {
        DescribeError::Throttled { .. } => CheckResult::warning(
            "ens",
            message,
            "try again later; if it persists, lower ens.describe_per_second",
        ),
        DescribeError::Refused(refusal) => match Reason::of_ens_code(&refusal.code) {
            Reason::EnsCredentialsRejected if refusal.code.starts_with("InvalidTimeStamp") => {
                failed(CheckFailure::NotAllowed, "synchronise this machine's clock (ntp)")
            }
            Reason::EnsCredentialsRejected => {
                failed(CheckFailure::NotAllowed, "check the access key's id, secret and token")
            }
            Reason::EnsPermissionDenied => failed(
                CheckFailure::NotAllowed,
                &format!("grant the account's RAM user or role {RIGHTS}"),
            ),
            _ => failed(
                CheckFailure::Other,
                "look up the code, or quote the request id to ens's support",
            ),
        },
        DescribeError::Unavailable(_) => failed(
            CheckFailure::Unreachable,
            "check ens.endpoint, and whether this machine can reach it, or ens.proxy where one is \
             needed",
        ),
        DescribeError::Untrusted(Handshake { why, remedy }) => CheckResult::failed(
            "ens",
            CheckFailure::Unreachable,
            format!("{endpoint}: {why}"),
            remedy,
        ),
        DescribeError::UnknownId(_)
        | DescribeError::Incomplete
        | DescribeError::NoPermit { .. }
        | DescribeError::NotReady(_) => failed(CheckFailure::Other, "try again"),
    }
}
