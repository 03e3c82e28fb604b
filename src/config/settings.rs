//! The table of all settings. Names, meanings and defaults are a contract with operators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ledger_url::LedgerUrl;
use super::reader::Reader;
pub use super::setting::Setting;
use super::table::settings;
use super::value::{AuditOutput, Endpoint, LogFormat};

settings! {
    /// The gRPC listener.
    grpc: Grpc {
        /// Address of the gRPC listener, as `IP:PORT`.
        listen: SocketAddr = "127.0.0.1:50051",
        /// Whether to serve plaintext beyond loopback. Without it, such an address needs TLS.
        allow_plaintext: bool = "false",
        /// File with the server's certificate chain (PEM). Enables TLS, and needs `tls_key_file`.
        /// The gateway reads a renewed file without a restart.
        tls_cert_file: Option<PathBuf> = unset,
        /// File with the private key of the certificate (PEM).
        tls_key_file: Option<PathBuf> = unset,
        /// File with the CA certificates (PEM) that verify clients' certificates. Needs TLS, and
        /// makes a client certificate mandatory.
        client_ca_file: Option<PathBuf> = unset,
        /// File with certificate revocation lists (PEM), one of each authority that signs clients'
        /// certificates. Needs `client_ca_file`.
        client_crl_file: Option<PathBuf> = unset,
        /// Whether a caller's `traceparent` decides whether the call's trace is exported.
        /// Otherwise the gateway's sampler decides, and callers cannot raise its share.
        follow_sampling: bool = "false",
        /// URL at which you publish `docs/errors.md`. Errors then carry a `Help` link to their
        /// reason's section. Without it they carry none.
        help_url: Option<String> = unset,
        /// Maximum number of concurrent attaches, and of concurrent reads, on a replica. One
        /// instance gets a quarter of the attaches and half of the reads. More calls receive
        /// `OVERLOADED`.
        max_in_flight: usize = "1024",
        /// Maximum number of connections. Beyond it a new connection takes the place of the one
        /// that has been opening longest, or of an idle one.
        max_connections: usize = "2000",
        /// Maximum share of the connections, of the watch streams and of the reads' describes for
        /// one client address, in percent. Streams and reads of identified callers count for the
        /// caller instead. Raise it behind a proxy, which is one address for many callers.
        peer_share: usize = "80",
        /// Maximum age of a client's connection, varied by up to a tenth. Clients reconnect, so
        /// load spreads over new replicas.
        max_connection_age: Duration = "30m",
        /// Time to keep accepting calls after readiness turns off at shutdown.
        drain_delay: Duration = "0s",
        /// Time limit for the whole shutdown, `drain_delay` included. Other replicas settle the
        /// attempts that are unfinished then.
        drain_timeout: Duration = "25s",
    }

    /// Callers' identities and rights.
    identity: Identity {
        /// File with the policy (TOML): who may make which calls, on which instances and ENIs, and
        /// the issuers of tokens.
        /// Without it, each caller that can connect may make each call. With it, a call needs an
        /// identity and a rule that allows it.
        policy_file: Option<PathBuf> = unset,
        /// Whether callers without an identity may use reflection. Applies with `policy_file`;
        /// without it they may.
        open_reflection: bool = "false",
    }

    /// The admin listener: `/livez`, `/readyz`, `/metrics` over plain HTTP.
    admin: Admin {
        /// Address of the admin listener, as `IP:PORT`.
        listen: SocketAddr = "127.0.0.1:9090",
    }

    /// Log lines, on standard error.
    log: Log {
        /// Format of log lines: `text`, `json`, or `auto`, which is text on a terminal.
        format: LogFormat = "auto",
        /// File with the log filter, in the form of `RUST_LOG`, which it replaces. The gateway
        /// reads a changed file without a restart.
        filter_file: Option<PathBuf> = unset,
        /// Where audit lines go: `stderr`, with the other lines; `stdout`; or the absolute path of
        /// a file, to which the gateway appends. On `stdout` and in a file they are JSON, and no
        /// log filter applies.
        audit: AuditOutput = "stderr",
    }

    /// The ledger, which replicas share.
    ledger: Ledger {
        /// URL of the ledger: `redis[s]://[user[:password]@]host[:port][/db]`,
        /// `unix:///path[?db=N]`, `redis[s]-sentinel://host[:port],…[/db]?master=NAME`,
        /// `redis[s]-cluster://host[:port],…`, or `memory://` for one replica that loses its
        /// records at a restart.
        url: LedgerUrl = unset,
        /// File with the password of Redis, and nothing else. Replaces the one in the URL.
        password_file: Option<PathBuf> = unset,
        /// File with the password of the sentinels, and nothing else. Without it, they get the one
        /// of Redis.
        sentinel_password_file: Option<PathBuf> = unset,
        /// File with the CA certificates (PEM) that verify Redis. Without it, the system's.
        ca_file: Option<PathBuf> = unset,
        /// File with the client certificate chain for Redis (PEM). Needs `key_file`, and a URL with
        /// TLS.
        cert_file: Option<PathBuf> = unset,
        /// File with the private key of that certificate (PEM).
        key_file: Option<PathBuf> = unset,
        /// Prefix of every key in Redis.
        prefix: String = "eni-gateway:",
        /// Maximum time span of writes that a failover of Redis can lose.
        failover_window: Duration = "15s",
        /// Number of Redis replicas that must have a reservation before its attach is sent: all
        /// replicas of the primary. A failover then needs no recovery hold-down. `0` is off.
        sync_replicas: usize = "0",
        /// Whether to take an empty ledger at start for a new one, and not for one that lost its
        /// data.
        fresh: bool = "false",
        /// Maximum time for which an instance's lock is held. Must be longer than the critical
        /// section.
        lease: Duration = "15s",
        /// Timeout for one round trip to Redis, connect included.
        timeout: Duration = "1s",
    }

    /// The OpenAPI of ENS.
    ens: Ens {
        /// URL of the OpenAPI.
        endpoint: Endpoint = "https://ens.aliyuncs.com",
        /// URL of an HTTP proxy for ENS and STS, such as `http://proxy:3128`. It only tunnels
        /// (CONNECT), so that it cannot repeat a request. Metadata services are reached directly.
        proxy: Option<Endpoint> = unset,
        /// Whether to permit an `http://` endpoint beyond loopback.
        allow_plaintext: bool = "false",
        /// Maximum time after a change for which a describe may show the old state.
        visibility_lag: Duration = "10s",
        /// Maximum time after its date at which an unanswered request may still be applied. Must be
        /// below 15m, ENS's own bound.
        request_validity: Duration = "30s",
        /// Whether to date requests back, so that ENS itself enforces `request_validity`. Needs
        /// synchronised clocks.
        enforce_validity: bool = "false",
        /// Timeout for one Attach request, connect included.
        attempt_timeout: Duration = "8s",
        /// Timeout for one Describe request, connect included.
        describe_timeout: Duration = "3s",
        /// Maximum number of Attach requests a second, of all replicas together.
        attach_per_second: u32 = "5",
        /// Maximum number of Describe requests a second, of all replicas together. At least half of
        /// them are for the tracker.
        describe_per_second: u32 = "20",
    }

    /// The limit of ENIs.
    limit: Limit {
        /// Maximum number of ENIs on one instance.
        enis_per_instance: usize = "10",
        /// Whether to count the primary ENI.
        count_primary: bool = "false",
    }

    /// The tracker, which drives attempts to their end.
    tracker: Tracker {
        /// Time in flight after which an attempt is reported as stuck.
        stuck_after: Duration = "5m",
        /// Time after an instance's last change until its record is compared with ENS. Compared
        /// again after 5 and 30 times as long.
        reconcile_after: Duration = "1m",
    }

    /// Watch streams.
    watch: Watch {
        /// Time after a stream's last message until a heartbeat is sent.
        heartbeat: Duration = "15s",
        /// Maximum number of open streams on a replica. More streams receive `OVERLOADED`.
        max_streams: usize = "10000",
        /// Maximum age of a stream. It then ends with `STREAM_TOO_OLD`, and the client resumes it.
        max_age: Duration = "1h",
    }
}

impl Config {
    /// The defaults, with this ledger, which has none.
    #[must_use]
    pub fn with_ledger(url: LedgerUrl) -> Self {
        let mut config = Self::read(&mut Reader::default());
        config.ledger.url = url;
        config
    }
}

/// The setting of this path, such as `grpc.listen`.
#[must_use]
pub fn find(path: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.path == path)
}

/// The setting with the most similar name, if any.
pub(super) fn nearest(
    name: &str,
    name_of: impl Fn(&Setting) -> String,
) -> Option<&'static Setting> {
    const FAR: usize = 4;
    // Setting names are short; comparing a long one would take time.
    if name.len() > 100 {
        return None;
    }
    ALL.iter()
        .map(|setting| (strsim::damerau_levenshtein(name, &name_of(setting)), setting))
        .filter(|(distance, _)| *distance < FAR)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, setting)| setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = Config::with_ledger(LedgerUrl::Memory);
        assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
        assert_eq!(config.ledger.prefix, "eni-gateway:");
        assert_eq!(config.ens.endpoint.as_str(), "https://ens.aliyuncs.com/");
        assert_eq!(config.limit.enis_per_instance, 10);
        assert_eq!(config.tracker.stuck_after, Duration::from_secs(300));
    }

    #[test]
    fn every_setting_is_found_by_its_path_and_has_a_name_in_the_environment() {
        for setting in ALL {
            assert_eq!(find(setting.path), Some(setting));
        }
        let setting = find("ens.visibility_lag").expect("it is in the table");
        assert_eq!(setting.env_name(), "ENI_GATEWAY_ENS__VISIBILITY_LAG");
    }
}
