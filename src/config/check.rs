//! What must be true of several settings together, and of the bounds that the safety of the ledger rests on.
//!
//! The trap: a relation must not be judged by a value that could not be read, for another one stands in its place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Fault, Origin};
use super::ledger_url::LedgerUrl;
use super::load::Origins;
use super::settings::{self, Config};

/// What is left of the lease, at least, when everything under it took as long as it may.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// The oldest `x-acs-date` that ENS takes.
pub const ENS_DATE_WINDOW: Duration = Duration::from_secs(15 * 60);

/// The longest time that can pass under an instance's lock: a describe, the reservation, one Attach call, and its answer's record.
#[must_use]
pub fn longest_under_lock(config: &Config) -> Duration {
    let trips = if config.ledger.sync_replicas > 0 { 3 } else { 2 };
    config.ens.describe_timeout + config.ens.attempt_timeout + config.ledger.timeout * trips
}

/// Everything that is contradictory, unsafe or not served. `unread` says which settings could not be read.
pub(super) fn faults(config: &Config, origins: &Origins, unread: &dyn Fn(&str) -> bool) -> Vec<Fault> {
    let mut checks = Checks {
        origins,
        unread,
        faults: Vec::new(),
    };
    listeners(config, &mut checks);
    tls(config, &mut checks);
    ledger(config, &mut checks);
    ens(config, &mut checks);
    bounds(config, &mut checks);
    numbers(config, &mut checks);
    files(config, &mut checks);
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

fn listeners(config: &Config, checks: &mut Checks<'_>) {
    let (grpc, admin) = (config.grpc.listen, config.admin.listen);
    let overlap = grpc.port() == admin.port()
        && grpc.port() != 0
        && (grpc.ip() == admin.ip() || grpc.ip().is_unspecified() || admin.ip().is_unspecified());
    let problem = || format!("{grpc} and {admin} cannot both be bound");
    checks.require(
        &["grpc.listen", "admin.listen"],
        !overlap,
        problem,
        "give one of them another port",
    );
}

fn tls(config: &Config, checks: &mut Checks<'_>) {
    let grpc = &config.grpc;
    let has_tls = grpc.tls_cert_file.is_some();
    checks.require(
        &["grpc.listen", "grpc.allow_plaintext"],
        !beyond_loopback(grpc.listen) || has_tls || grpc.tls_key_file.is_some() || grpc.allow_plaintext,
        || format!("{} is beyond loopback, and would be served in plaintext", grpc.listen),
        "set grpc.tls_cert_file and grpc.tls_key_file, or grpc.allow_plaintext = true where the network protects it",
    );
    checks.require(
        &["grpc.tls_cert_file", "grpc.tls_key_file"],
        has_tls == grpc.tls_key_file.is_some(),
        || "one of them is set without the other".to_owned(),
        "set both or none",
    );
    checks.require(
        &["grpc.client_ca_file", "grpc.tls_cert_file"],
        grpc.client_ca_file.is_none() || has_tls,
        || "client certificates need TLS".to_owned(),
        "set grpc.tls_cert_file and grpc.tls_key_file, or unset grpc.client_ca_file",
    );
}

fn ledger(config: &Config, checks: &mut Checks<'_>) {
    let ledger = &config.ledger;
    let memory = matches!(ledger.url, LedgerUrl::Memory);
    checks.require(
        &["ledger.url"],
        memory || matches!(ledger.url, LedgerUrl::Redis { tls: false, .. }),
        || format!("{} is not supported by this version", ledger.url),
        "use redis:// or memory://",
    );
    checks.require(
        &["ledger.url"],
        !(ledger.url.has_password() && matches!(checks.origins.of("ledger.url"), Origin::Flag(_))),
        || "a password on the command line can be read by everybody on the machine".to_owned(),
        "put it into a file and set ledger.password_file",
    );
    checks.require(
        &["ledger.url", "ledger.password_file"],
        ledger.password_file.is_none() || !(memory || ledger.url.has_password()),
        || match memory {
            true => "memory:// takes no password".to_owned(),
            false => "the password is given twice".to_owned(),
        },
        "unset ledger.password_file, or take the password out of ledger.url",
    );
    checks.require(
        &["ledger.url", "ledger.ca_file"],
        ledger.ca_file.is_none() || ledger.url.is_tls(),
        || format!("{} does not use TLS", ledger.url),
        "unset ledger.ca_file, or use a URL with TLS",
    );
    checks.require(
        &["ledger.url", "ledger.sync_replicas"],
        ledger.sync_replicas == 0 || !memory,
        || "memory:// has no replicas".to_owned(),
        "unset ledger.sync_replicas",
    );
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
    checks.require(
        &["ledger.prefix"],
        (1..=64).contains(&ledger.prefix.len()) && ledger.prefix.chars().all(plain),
        || "it is not 1 to 64 printable ASCII characters without spaces and braces".to_owned(),
        "choose a prefix such as eni-gateway:",
    );
}

fn ens(config: &Config, checks: &mut Checks<'_>) {
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

fn bounds(config: &Config, checks: &mut Checks<'_>) {
    let needed = longest_under_lock(config) + LEASE_MARGIN;
    checks.require(
        &[
            "ledger.lease",
            "ens.attempt_timeout",
            "ens.describe_timeout",
            "ledger.timeout",
            "ledger.sync_replicas",
        ],
        config.ledger.lease >= needed,
        || {
            let lease = shown(config.ledger.lease);
            format!(
                "a lease of {lease} is shorter than what may be done under it, {} with a margin of 1s",
                shown(needed)
            )
        },
        "raise ledger.lease, or lower a timeout",
    );
    let grace = config.ens.visibility_lag + config.ens.request_validity;
    checks.require(
        &["tracker.stuck_after", "ens.visibility_lag", "ens.request_validity"],
        config.tracker.stuck_after > grace,
        || {
            let stuck = shown(config.tracker.stuck_after);
            format!(
                "every unanswered attempt would be called stuck: it takes up to {} to settle, not {stuck}",
                shown(grace)
            )
        },
        "raise tracker.stuck_after",
    );
    checks.require(
        &["watch.max_age", "watch.heartbeat"],
        config.watch.max_age > config.watch.heartbeat,
        || "a stream would end before its first heartbeat".to_owned(),
        "raise watch.max_age, or lower watch.heartbeat",
    );
}

fn numbers(config: &Config, checks: &mut Checks<'_>) {
    let mut at_least = |path: &'static str, value: usize, least: usize| {
        checks.require(
            &[path],
            value >= least,
            || format!("{value} is less than {least}"),
            &format!("set it to {least} or more"),
        );
    };
    at_least("grpc.max_in_flight", config.grpc.max_in_flight, 1);
    at_least("ens.attach_per_second", config.ens.attach_per_second as usize, 1);
    // One for callers, one for the tracker.
    at_least("ens.describe_per_second", config.ens.describe_per_second as usize, 2);
    at_least("limit.enis_per_instance", config.limit.enis_per_instance, 1);
    at_least("watch.max_streams", config.watch.max_streams, 1);

    let mut lasts = |path: &'static str, value: Duration, least: Duration| {
        let problem = || format!("{} is less than {}", shown(value), shown(least));
        checks.require(
            &[path],
            value >= least,
            problem,
            &format!("set it to {} or more", shown(least)),
        );
    };
    let millisecond = Duration::from_millis(1);
    let second = Duration::from_secs(1);
    lasts("grpc.default_deadline", config.grpc.default_deadline, second);
    lasts("grpc.max_connection_age", config.grpc.max_connection_age, second);
    lasts("ledger.timeout", config.ledger.timeout, millisecond);
    lasts("ens.attempt_timeout", config.ens.attempt_timeout, millisecond);
    lasts("ens.describe_timeout", config.ens.describe_timeout, millisecond);
    lasts("watch.heartbeat", config.watch.heartbeat, second);
}

fn files(config: &Config, checks: &mut Checks<'_>) {
    let mut readable = |path: &'static str, file: &Option<PathBuf>| {
        let Some(file) = file else { return };
        if let Err(error) = std::fs::read(file) {
            let problem = || format!("{} cannot be read ({error})", file.display());
            checks.require(&[path], false, problem, "name a file that the gateway may read");
        }
    };
    readable("grpc.tls_cert_file", &config.grpc.tls_cert_file);
    readable("grpc.tls_key_file", &config.grpc.tls_key_file);
    readable("grpc.client_ca_file", &config.grpc.client_ca_file);
    readable("ledger.password_file", &config.ledger.password_file);
    readable("ledger.ca_file", &config.ledger.ca_file);
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
    fn forms_of_the_ledger_that_are_not_served_are_refused() {
        use super::super::value::Value;
        for text in [
            "rediss://h",
            "unix:///s",
            "redis-sentinel://h?master=m",
            "redis-cluster://h",
        ] {
            let faults = faults_after(|config| config.ledger.url = LedgerUrl::parse(text).expect(text));
            assert!(
                faults.len() == 1 && faults[0].contains("not supported by this version"),
                "{faults:?}"
            );
        }
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
