//! The endpoint, and how long a request may live.

use std::time::Duration;

use super::{Checks, shown};
use crate::config::Config;

/// The oldest `x-acs-date` that ENS takes.
const ENS_DATE_WINDOW: Duration = Duration::from_secs(15 * 60);

/// How far this machine's clock may be from ENS's, either way, for requests to be sent.
const TOLERATED: Duration = Duration::from_secs(5);

pub(super) fn ens(config: &Config, checks: &mut Checks<'_>) {
    let ens = &config.ens;
    checks.require(
        &["ens.endpoint", "ens.allow_plaintext"],
        ens.endpoint.is_encrypted() || ens.endpoint.is_loopback() || ens.allow_plaintext,
        || format!("{} is beyond loopback and not encrypted", ens.endpoint.as_str()),
        "use https://, or set ens.allow_plaintext = true where the network protects it",
    );
    checks.require(
        &["ens.request_validity"],
        ens.request_validity < ENS_DATE_WINDOW,
        || {
            format!(
                "{} is not below 15m, the age at which ens refuses a request by itself",
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
            format!("a request could still be on its way ({timeout}) when it is taken to be over ({validity})")
        },
        "raise ens.request_validity, or lower ens.attempt_timeout",
    );
    // Dated back for clocks that differ by as much as is tolerated, to either side, a request must still arrive in time.
    let needed = ens.attempt_timeout + 2 * TOLERATED;
    checks.require(
        &["ens.enforce_validity", "ens.request_validity", "ens.attempt_timeout"],
        !ens.enforce_validity || ens.request_validity >= needed,
        || {
            let (validity, needed) = (shown(ens.request_validity), shown(needed));
            format!("dated back to be good for {validity}, requests could be refused as too old: clocks may differ by 5s, and {needed} is needed")
        },
        "raise ens.request_validity, or set ens.enforce_validity = false",
    );
}
