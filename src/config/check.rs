//! Relations between settings, and the bounds that the ledger's safety depends on.
//!
//! Trap: a relation must not be checked with an unreadable value, because a stand-in replaces
//! it.

use super::fault::{Fault, Origins};
use super::ledger_url::LedgerUrl;
use super::settings::Config;

mod bounds;
mod checks;
mod cloud;
mod edge;
mod files;
mod ledger;
mod ranges;

pub use bounds::{LEASE_MARGIN, longest_under_lock};
use checks::Checks;
use edge::beyond_loopback;

/// Every contradictory, unsafe or unsupported combination. `unread` returns whether a setting was
/// unreadable.
pub(super) fn faults(
    config: &Config,
    origins: &Origins,
    unread: &dyn Fn(&str) -> bool,
) -> Vec<Fault> {
    let mut checks = Checks { origins, unread, faults: Vec::new() };
    edge::listeners(config, &mut checks);
    edge::tls(config, &mut checks);
    edge::help(config, &mut checks);
    ledger::ledger(config, &mut checks);
    cloud::ens(config, &mut checks);
    bounds::bounds(config, &mut checks);
    ranges::numbers(config, &mut checks);
    files::files(config, &mut checks);
    checks.faults
}

/// Warnings about permitted settings. `proxy_variable` names a variable that sets a proxy for
/// other programs.
pub(super) fn warnings(config: &Config, proxy_variable: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (Some(variable), None) = (proxy_variable, &config.ens.proxy) {
        warnings.push(format!(
            "{variable} is set and has no effect: set ens.proxy if ens and sts are reached by a proxy"
        ));
    }
    if matches!(config.ledger.url, LedgerUrl::Memory) {
        warnings.push(
            "ledger.url is memory://: replicas do not share it, and a restart loses it".to_owned(),
        );
    }
    if !config.ens.endpoint.is_encrypted() {
        warnings.push(format!("ens.endpoint {} is not encrypted", config.ens.endpoint.as_str()));
    }
    if config.ledger.url.has_password() {
        warnings.push("ledger.url has a password: use ledger.password_file instead".to_owned());
    }
    if beyond_loopback(config.grpc.listen) && config.grpc.tls_cert_file.is_none() {
        warnings.push(format!("grpc.listen {} serves plaintext", config.grpc.listen));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    fn faults_after(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::with_ledger(LedgerUrl::Memory);
        change(&mut config);
        faults(&config, &Origins::default(), &|_| false).iter().map(ToString::to_string).collect()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert_eq!(faults_after(|_| {}), [""; 0]);
        let config = Config::with_ledger(LedgerUrl::Memory);
        assert_eq!(warnings(&config, None).len(), 1);
        assert!(warnings(&config, Some("HTTPS_PROXY"))[0].contains("set ens.proxy"));
    }

    #[test]
    fn the_lease_outlives_everything_under_it() {
        assert_eq!(faults_after(|config| config.ledger.lease = Duration::from_secs(14)), [""; 0]);
        let faults = faults_after(|config| config.ledger.lease = Duration::from_millis(13_999));
        assert!(faults[0].contains("ledger.lease") && faults[0].contains("14s"), "{faults:?}");
        assert_eq!(
            faults_after(|config| config.ens.attempt_timeout = Duration::from_secs(10)).len(),
            1
        );
    }

    #[test]
    fn plaintext_beyond_loopback_has_to_be_wanted() {
        assert_eq!(faults_after(|config| config.grpc.listen = address("0.0.0.0:50051")).len(), 1);
        let wanted = faults_after(|config| {
            config.grpc.listen = address("0.0.0.0:50051");
            config.grpc.allow_plaintext = true;
        });
        assert_eq!(wanted, [""; 0]);
    }

    #[test]
    fn a_help_url_is_a_link() {
        let with = |url: &str| faults_after(|config| config.grpc.help_url = Some(url.to_owned()));
        assert_eq!(with("https://docs.example/errors"), [""; 0]);
        assert_eq!(with("docs/errors.md").len(), 1);
        assert_eq!(with("https://user:hunter2@docs.example").len(), 1);
    }

    #[test]
    fn the_two_listeners_do_not_collide() {
        assert_eq!(faults_after(|config| config.admin.listen = config.grpc.listen).len(), 1);
        assert_eq!(faults_after(|config| config.admin.listen = address("0.0.0.0:50051")).len(), 1);
        let both_free = faults_after(|config| {
            config.grpc.listen = address("127.0.0.1:0");
            config.admin.listen = address("127.0.0.1:0");
        });
        assert_eq!(both_free, [""; 0]);
    }

    #[test]
    fn an_unencrypted_endpoint_is_for_loopback_only() {
        use super::super::value::{Endpoint, Value};
        let with = |text: &str| {
            faults_after(|config| config.ens.endpoint = Endpoint::parse(text).expect(text))
        };
        assert_eq!(with("http://127.0.0.1:8080"), [""; 0]);
        assert_eq!(with("http://ens.example").len(), 1);
    }

    #[test]
    fn every_form_of_the_ledger_is_served() {
        use super::super::value::Value;
        for text in [
            "redis://h",
            "rediss://h",
            "unix:///s",
            "redis-sentinel://h?master=m",
            "rediss-cluster://h",
        ] {
            let faults = faults_after(|config| {
                config.ledger.url = LedgerUrl::parse(text).expect(text);
                config.ledger.sync_replicas = 2;
            });
            assert_eq!(faults, [""; 0], "{text}");
        }
    }

    #[test]
    fn what_goes_with_the_ledger_s_url_fits_it() {
        use super::super::value::Value;
        let memory = faults_after(|config| {
            config.ledger.url = LedgerUrl::Memory;
            config.ledger.sync_replicas = 1;
        });
        assert!(memory.len() == 1 && memory[0].contains("no replicas"), "{memory:?}");
        let folder = tempfile::tempdir().expect("a directory");
        let signed = rcgen::generate_simple_self_signed(["h".to_owned()]).expect("a certificate");
        let here = folder.path().join("both.pem");
        let both = signed.cert.pem() + &signed.signing_key.serialize_pem();
        std::fs::write(&here, both).expect("written");
        let half = faults_after(|config| {
            config.ledger.url = LedgerUrl::parse("rediss://h").expect("it is a URL");
            config.ledger.cert_file = Some(here.clone());
        });
        assert!(half.len() == 1 && half[0].contains("without the other"), "{half:?}");
        let plain = faults_after(|config| {
            config.ledger.url = LedgerUrl::parse("redis://h").expect("it is a URL");
            config.ledger.cert_file = Some(here.clone());
            config.ledger.key_file = Some(here.clone());
        });
        assert!(plain.len() == 1 && plain[0].contains("does not use TLS"), "{plain:?}");
    }

    #[test]
    fn numbers_have_their_least() {
        let faults = faults_after(|config| {
            config.ens.attach_per_second = 0;
            config.ens.describe_per_second = 1;
            config.limit.enis_per_instance = 0;
            config.watch.heartbeat = Duration::from_millis(999);
            config.ens.request_validity = Duration::from_secs(900);
        });
        // The last one exceeds ENS's bound, and its grace period exceeds tracker.stuck_after.
        assert_eq!(faults.len(), 6, "{faults:#?}");
    }

    #[test]
    fn a_prefix_must_not_change_the_keys_slot() {
        for bad in ["", "a{b}:", "a b", "ü"] {
            assert_eq!(
                faults_after(|config| config.ledger.prefix = bad.to_owned()).len(),
                1,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_file_of_another_kind_is_named_beside_the_other_faults() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let faults = faults_after(|config| {
            config.grpc.tls_cert_file = Some(here.clone());
            config.grpc.tls_key_file = Some(here.clone());
            config.grpc.client_ca_file = Some(here.clone());
            config.grpc.client_crl_file = Some(here.clone());
            config.grpc.max_in_flight = 0;
        });
        assert_eq!(faults.len(), 5, "{faults:#?}");
        for kind in ["certificate", "private key", "revocation list"] {
            let said = format!("Cargo.toml has no usable {kind} in PEM form");
            assert!(faults.iter().any(|fault| fault.contains(&said)), "{faults:#?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let faults = faults_after(|config| {
            config.grpc.tls_cert_file = Some("/nowhere/cert.pem".into());
            config.grpc.client_ca_file = Some("/nowhere/ca.pem".into());
        });
        assert_eq!(faults.len(), 3, "{faults:#?}");
    }
}
