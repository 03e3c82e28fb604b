//! The endpoint, and how long a request may live.

use std::time::Duration;

use super::{Checks, shown};
use crate::config::Config;

/// The oldest `x-acs-date` that ENS takes.
const ENS_DATE_WINDOW: Duration = Duration::from_secs(15 * 60);

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
}
