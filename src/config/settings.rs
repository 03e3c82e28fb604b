//! The table of all settings. What stands here is what operators rely on: names, meanings, defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ledger_url::LedgerUrl;
pub use super::table::Setting;
use super::table::settings;
use super::value::Endpoint;

settings! {
    /// The gRPC listener.
    grpc: Grpc {
        /// Address of the gRPC listener, as `IP:PORT`.
        listen: SocketAddr = "127.0.0.1:50051",
        /// Whether plaintext may be served beyond loopback. Without it, another address than loopback needs TLS.
        allow_plaintext: bool = "false",
        /// Certificate chain to serve TLS with (PEM). Needs `tls_key_file`.
        tls_cert_file: Option<PathBuf> = unset,
        /// Private key of the certificate (PEM).
        tls_key_file: Option<PathBuf> = unset,
        /// Certificate authorities (PEM) one of which must have signed the client's certificate. Needs TLS.
        client_ca_file: Option<PathBuf> = unset,
        /// Most attaches, and most reads, that are answered at once; more are turned away with `OVERLOADED`, and so is more than a
        /// quarter of the attaches for one instance.
        max_in_flight: usize = "1024",
        /// Age at which a client is asked to connect anew, so that load spreads over new replicas; varied by up to a tenth.
        max_connection_age: Duration = "30m",
        /// How long a stopping replica, not ready any more, goes on taking calls: until those who send them have heard.
        drain_delay: Duration = "0s",
        /// How long stopping may take in all: what has begun is finished by then, or left to other replicas.
        drain_timeout: Duration = "25s",
    }

    /// The admin listener: `/livez`, `/readyz`, `/metrics` over plain HTTP.
    admin: Admin {
        /// Address of the admin listener, as `IP:PORT`.
        listen: SocketAddr = "127.0.0.1:9090",
    }

    /// Where the replicas coordinate.
    ledger: Ledger {
        /// Where records are kept: `memory://` (one replica, nothing survives a restart), `redis[s]://[user[:password]@]host[:port][/db]`,
        /// `unix:///path[?db=N]`, `redis[s]-sentinel://host[:port],…[/db]?master=NAME` or `redis[s]-cluster://host[:port],…`.
        url: LedgerUrl = unset,
        /// File that holds the password, and nothing else; takes the place of the one in the URL.
        password_file: Option<PathBuf> = unset,
        /// Certificate authorities (PEM) that Redis' certificate is checked against; the system's if not set.
        ca_file: Option<PathBuf> = unset,
        /// Certificate chain to show to Redis (PEM), where it asks for one. Needs `key_file`, and a URL with TLS.
        cert_file: Option<PathBuf> = unset,
        /// Private key of that certificate (PEM).
        key_file: Option<PathBuf> = unset,
        /// What every key begins with.
        prefix: String = "eni-gateway:",
        /// Longest stretch of writes that a failover of Redis can lose.
        failover_window: Duration = "15s",
        /// Redis replicas that must have a reservation before it is sent: all that the primary has. Then a failover needs no hold.
        /// 0: none. On for all replicas of the gateway, or off for all.
        sync_replicas: usize = "0",
        /// Whether an empty ledger is a new one at start, and not one that lost its data.
        fresh: bool = "false",
        /// How long an instance's lock is held at most; longer than everything that is done under it.
        lease: Duration = "15s",
        /// Time for one round trip to Redis, connect included.
        timeout: Duration = "1s",
    }

    /// The cloud.
    ens: Ens {
        /// URL of the OpenAPI.
        endpoint: Endpoint = "https://ens.aliyuncs.com",
        /// Whether the endpoint may be `http://` beyond loopback.
        allow_plaintext: bool = "false",
        /// How long after a change a describe may still show the old state.
        visibility_lag: Duration = "10s",
        /// How long after its signature an unanswered request may still be applied. Below 15m, ENS's own bound.
        request_validity: Duration = "30s",
        /// Whether requests are dated back so that ENS itself keeps `request_validity`. Needs good clocks.
        enforce_validity: bool = "false",
        /// Time for one Attach call, connect included.
        attempt_timeout: Duration = "8s",
        /// Time for one describe, connect included.
        describe_timeout: Duration = "3s",
        /// Attach calls a second that the account allows, all replicas together.
        attach_per_second: u32 = "5",
        /// Describes a second that the account allows, all replicas together; at least half of them are the tracker's.
        describe_per_second: u32 = "20",
    }

    /// How many ENIs an instance may have.
    limit: Limit {
        /// ENIs that one instance may have. The same on every replica.
        enis_per_instance: usize = "10",
        /// Whether the primary ENI is one of them. The same on every replica.
        count_primary: bool = "false",
    }

    /// What drives attempts to their end.
    tracker: Tracker {
        /// Age at which an attempt that is still under way is called stuck.
        stuck_after: Duration = "5m",
        /// Time after the last change of an instance at which the ledger is compared with what ENS shows: once then, and again
        /// after 5 and 30 times as long.
        reconcile_after: Duration = "1m",
    }

    /// What tells callers how it goes.
    watch: Watch {
        /// Time after a stream's last message at which it gets a heartbeat.
        heartbeat: Duration = "15s",
        /// Most streams that are open at once; more are turned away with `OVERLOADED`.
        max_streams: usize = "10000",
        /// Age at which a stream ends with `STREAM_TOO_OLD`, to be resumed.
        max_age: Duration = "1h",
    }
}

impl Config {
    /// Every default, with this ledger: it has none of its own.
    #[must_use]
    pub fn with_ledger(url: LedgerUrl) -> Self {
        let mut config = Self::read(&mut super::load::Reader::default());
        config.ledger.url = url;
        config
    }
}

/// The setting of this path, such as `grpc.listen`.
#[must_use]
pub fn find(path: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.path == path)
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
