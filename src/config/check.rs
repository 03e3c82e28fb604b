//! What must be true of several settings together, and of the bounds that the safety of the ledger rests on.
//!
//! The trap: a relation must not be judged by a value that could not be read, for another one stands in its place.

use std::net::SocketAddr;
use std::time::Duration;

use super::fault::{Fault, Origin};
use super::ledger_url::LedgerUrl;
use super::load::Origins;
use super::settings::{self, Config};

mod bounds;
mod cloud;
mod edge;
mod files;
mod ledger;
mod ranges;

pub use bounds::{LEASE_MARGIN, longest_under_lock};

/// Everything that is contradictory, unsafe or not served. `unread` says which settings could not be read.
pub(super) fn faults(config: &Config, origins: &Origins, unread: &dyn Fn(&str) -> bool) -> Vec<Fault> {
    let mut checks = Checks {
        origins,
        unread,
        faults: Vec::new(),
    };
    edge::listeners(config, &mut checks);
    edge::tls(config, &mut checks);
    ledger::ledger(config, &mut checks);
    cloud::ens(config, &mut checks);
    bounds::bounds(config, &mut checks);
    ranges::numbers(config, &mut checks);
    files::files(config, &mut checks);
    checks.faults
}

/// What is allowed but worth saying.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if matches!(config.ledger.url, LedgerUrl::Memory) {
        warnings.push(
            "ledger.url is memory://: no other replica is protected from this one, and a restart forgets".to_owned(),
        );
    }
    if !config.ens.endpoint.is_encrypted() {
        warnings.push(format!(
            "ens.endpoint {} is not encrypted",
            config.ens.endpoint.as_str()
        ));
    }
    if config.ledger.url.has_password() {
        warnings.push("ledger.url holds a password: ledger.password_file is the better place".to_owned());
    }
    if beyond_loopback(config.grpc.listen) && config.grpc.tls_cert_file.is_none() {
        warnings.push(format!("grpc.listen {} is served in plaintext", config.grpc.listen));
    }
    warnings
}

struct Checks<'a> {
    origins: &'a Origins,
    unread: &'a dyn Fn(&str) -> bool,
    faults: Vec<Fault>,
}

impl Checks<'_> {
    /// Demands something of these settings.
    fn require(&mut self, paths: &[&'static str], holds: bool, problem: impl FnOnce() -> String, remedy: &str) {
        debug_assert!(
            paths.iter().all(|path| settings::find(path).is_some()),
            "{paths:?} are settings"
        );
        if holds || paths.iter().any(|path| (self.unread)(path)) {
            return;
        }
        let named = paths.iter().map(|path| match self.origins.of(path) {
            Origin::Default if paths.len() == 1 => (*path).to_owned(),
            origin => format!("{path} ({origin})"),
        });
        self.faults
            .push(Fault::new(named.collect::<Vec<_>>().join(", "), problem(), remedy));
    }
}

fn beyond_loopback(address: SocketAddr) -> bool {
    !address.ip().is_loopback()
}

fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_after(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::with_ledger(LedgerUrl::Memory);
        change(&mut config);
        faults(&config, &Origins::default(), &|_| false)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert_eq!(faults_after(|_| {}), [""; 0]);
        assert_eq!(warnings(&Config::with_ledger(LedgerUrl::Memory)).len(), 1);
    }

    #[test]
    fn the_lease_outlives_everything_under_it() {
        assert_eq!(
            faults_after(|config| config.ledger.lease = Duration::from_secs(14)),
            [""; 0]
        );
        let faults = faults_after(|config| config.ledger.lease = Duration::from_millis(13_999));
        assert!(
            faults[0].contains("ledger.lease") && faults[0].contains("14s"),
            "{faults:?}"
        );
        assert_eq!(
            faults_after(|config| config.ens.attempt_timeout = Duration::from_secs(10)).len(),
            1
        );
    }

    #[test]
    fn plaintext_beyond_loopback_has_to_be_wanted() {
        assert_eq!(
            faults_after(|config| config.grpc.listen = address("0.0.0.0:50051")).len(),
            1
        );
        let wanted = faults_after(|config| {
            config.grpc.listen = address("0.0.0.0:50051");
            config.grpc.allow_plaintext = true;
        });
        assert_eq!(wanted, [""; 0]);
    }

    #[test]
    fn the_two_listeners_do_not_collide() {
        assert_eq!(faults_after(|config| config.admin.listen = config.grpc.listen).len(), 1);
        assert_eq!(
            faults_after(|config| config.admin.listen = address("0.0.0.0:50051")).len(),
            1
        );
        let both_free = faults_after(|config| {
            config.grpc.listen = address("127.0.0.1:0");
            config.admin.listen = address("127.0.0.1:0");
        });
        assert_eq!(both_free, [""; 0]);
    }

    #[test]
    fn an_unencrypted_endpoint_is_for_loopback_only() {
        use super::super::value::{Endpoint, Value};
        let with = |text: &str| faults_after(|config| config.ens.endpoint = Endpoint::parse(text).expect(text));
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
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
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
        // The last one is above ENS's bound, and so is its grace above tracker.stuck_after.
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
    fn a_file_that_is_not_there_is_named() {
        let faults = faults_after(|config| {
            config.grpc.tls_cert_file = Some("/nowhere/cert.pem".into());
            config.grpc.client_ca_file = Some("/nowhere/ca.pem".into());
        });
        assert_eq!(faults.len(), 3, "{faults:#?}");
    }
}
