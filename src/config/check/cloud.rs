//! Checks of the endpoint and of request validity.

use std::time::Duration;

use super::checks::{Checks, shown};
use crate::config::Config;

/// Maximum age of an `x-acs-date` at ENS.
const ENS_DATE_WINDOW: Duration = Duration::from_secs(15 * 60);

/// Maximum clock offset, either way, at which requests are sent.
const TOLERATED: Duration = Duration::from_secs(5);

pub(super) fn ens(config: &Config, checks: &mut Checks<'_>) {
    let ens = &config.ens;
    checks.require(
        &["ens.endpoint", "ens.allow_plaintext"],
        ens.endpoint.is_encrypted() || ens.endpoint.is_loopback() || ens.allow_plaintext,
        || format!("{} is beyond loopback and not encrypted", ens.endpoint.as_str()),
        "use https://, or set ens.allow_plaintext = true where the network encrypts",
    );
    checks.require(
        &["ens.proxy", "ens.endpoint"],
        ens.proxy.is_none() || ens.endpoint.is_encrypted(),
        || format!("a proxy could repeat requests to {}", ens.endpoint.as_str()),
        "use an https:// endpoint, which the proxy only tunnels, or remove ens.proxy",
    );
    checks.require(
        &["ens.request_validity"],
        ens.request_validity < ENS_DATE_WINDOW,
        || {
            format!(
                "{} is not below 15m, the age at which ens refuses a request",
                shown(ens.request_validity)
            )
        },
        "set it to less than 15m",
    );
    checks.require(
        &["ens.request_validity", "ens.attempt_timeout"],
        ens.request_validity >= ens.attempt_timeout,
        || {
            let (validity, timeout) = (shown(ens.request_validity), shown(ens.attempt_timeout));
            format!(
                "a request could still arrive ({timeout}) when its validity ({validity}) is over"
            )
        },
        "raise ens.request_validity, or lower ens.attempt_timeout",
    );
    // A request that is dated back must arrive in time with the clocks at either end of the
    // tolerance.
    let needed = ens.attempt_timeout + 2 * TOLERATED;
    checks.require(
        &["ens.enforce_validity", "ens.request_validity", "ens.attempt_timeout"],
        !ens.enforce_validity || ens.request_validity >= needed,
        || {
            let (validity, needed) = (shown(ens.request_validity), shown(needed));
            format!(
                "ens could refuse requests that are dated back for {validity}: clocks may \
                differ by 5s, so {needed} is needed"
            )
        },
        "raise ens.request_validity, or set ens.enforce_validity = false",
    );
}
