//! Checks of the ledger's URL and its related settings.

use super::checks::Checks;
use crate::config::ledger_url::MASK;
use crate::config::{Config, LedgerUrl, SettingOrigin};

pub(super) fn ledger(config: &Config, checks: &mut Checks<'_>) {
    let ledger = &config.ledger;
    let memory = matches!(ledger.url, LedgerUrl::Memory);
    checks.require(
        &["ledger.url"],
        !(ledger.url.has_password()
            && matches!(checks.origins.of("ledger.url"), SettingOrigin::Flag(_))),
        || "every user of the machine can read a password on the command line".to_owned(),
        "put it into a file and set ledger.password_file",
    );
    checks.require(
        &["ledger.url", "ledger.password_file"],
        ledger.password_file.is_none() || !(memory || ledger.url.has_password()),
        || {
            if memory {
                "memory:// has no password".to_owned()
            } else {
                "the password is given twice".to_owned()
            }
        },
        "unset ledger.password_file, or remove the password from ledger.url",
    );
    checks.require(
        &["ledger.url", "ledger.sentinel_password_file"],
        ledger.sentinel_password_file.is_none() || matches!(ledger.url, LedgerUrl::Sentinel { .. }),
        || format!("{} has no sentinels", ledger.url),
        "unset ledger.sentinel_password_file, or use a URL with sentinels",
    );
    checks.require(
        &["ledger.url"],
        !ledger.url.has_masked_password(),
        || format!("its password is {MASK}, the mask of `eni-gateway config dump`"),
        "write the password into a file and set ledger.password_file, and remove it from the URL",
    );
    checks.require(
        &["ledger.url", "ledger.ca_file"],
        ledger.ca_file.is_none() || ledger.url.is_tls(),
        || format!("{} does not use TLS", ledger.url),
        "unset ledger.ca_file, or use a URL with TLS",
    );
    checks.require(
        &["ledger.cert_file", "ledger.key_file"],
        ledger.cert_file.is_some() == ledger.key_file.is_some(),
        || "one of them is set without the other".to_owned(),
        "set both or none",
    );
    checks.require(
        &["ledger.url", "ledger.cert_file", "ledger.key_file"],
        ledger.cert_file.is_none() || ledger.url.is_tls(),
        || format!("{} does not use TLS", ledger.url),
        "unset ledger.cert_file and ledger.key_file, or use a URL with TLS",
    );
    checks.require(
        &["ledger.url", "ledger.sync_replicas"],
        !memory || ledger.sync_replicas == 0,
        || "memory:// has no replicas".to_owned(),
        "unset ledger.sync_replicas",
    );
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
    checks.require(
        &["ledger.prefix"],
        (1..=64).contains(&ledger.prefix.len()) && ledger.prefix.chars().all(plain),
        || "it must be 1 to 64 printable ASCII characters without spaces and braces".to_owned(),
        "set a prefix such as eni-gateway:",
    );
}
