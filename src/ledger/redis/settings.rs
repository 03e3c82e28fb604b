//! Settings of a [`Redis`](super::Redis) ledger.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{SecretSlice, SecretString};

use crate::ledger::{Bounds, keys::InvalidPrefix};
use crate::rate_limit::Rates;

use super::epoch::SharedSettings;

/// How to reach a Redis, and the settings on which all its replicas agree.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where the records are.
    pub servers: Servers,
    /// TLS settings, for sentinels too. `None` means without TLS.
    pub tls: Option<RedisTls>,
    /// The credentials. Sentinels that take no password are used without them.
    pub login: Login,
    /// The password of the sentinels, if it is another one.
    pub sentinel_password: Option<SecretString>,
    /// The database. A cluster has only 0.
    pub db: u32,
    /// The prefix of every key, without braces. Default `eni-gateway:`.
    pub prefix: String,
    /// This replica's part of the settings that all replicas share. Default: the defaults of the
    /// bounds.
    pub shared_settings: SharedSettings,
    /// Number of Redis replicas that must have a reservation before it is sent: all that the
    /// primary has. A failover then needs no hold-down. Default 0.
    pub sync_replicas: usize,
    /// The farthest future time at which a reconciliation is ever due. Default 31 min.
    pub reconcile_horizon: Duration,
    /// Whether an empty ledger, found at the first connect, is new and needs no hold-down. Default
    /// false.
    pub fresh: bool,
    /// The account's budget of ENS calls. Default 5 attaches and 20 describes a second.
    pub rates: Rates,
    /// Timeout for one call of the ledger, for all its trips together. Default 500 ms.
    pub response_timeout: Duration,
    /// Timeout for connecting. Default 1 s.
    pub connect_timeout: Duration,
}

/// The servers of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// On one server.
    One(ServerAddr),
    /// On the primary that these sentinels name.
    Sentinels {
        /// The sentinels of a primary.
        sentinels: Vec<ServerAddr>,
        /// The primary's name.
        master: String,
    },
    /// On the primaries of a cluster that contains these nodes.
    Cluster(Vec<ServerAddr>),
}

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerAddr {
    /// A host, by name or address, and its port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Credentials.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// A user of the ACL. `None` means the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
}

/// TLS certificates, all in PEM.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// The CA bundle used to verify the server. The system's if not set.
    pub authorities: Option<Vec<u8>>,
    /// The client certificate chain and its key, where the server requires one.
    pub identity: Option<Identity>,
}

/// A client certificate.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The chain, in PEM.
    pub chain: Vec<u8>,
    /// Its key, in PEM.
    pub key: SecretSlice<u8>,
}

/// Settings with which no connection could ever be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The certificates or the key cannot be used.
    #[error(
        "tls to the ledger cannot be set up (ledger.ca_file, ledger.cert_file, ledger.key_file): {0}"
    )]
    Tls(String),
    /// The prefix cannot be used.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
}

impl RedisSettings {
    /// The defaults, for the records at these servers.
    #[must_use]
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            tls: None,
            login: Login::default(),
            sentinel_password: None,
            db: 0,
            prefix: "eni-gateway:".to_owned(),
            shared_settings: SharedSettings { bounds: Bounds::default().shared(), synced: false },
            sync_replicas: 0,
            reconcile_horizon: Bounds::default().reconcile_horizon(),
            fresh: false,
            rates: Rates::default(),
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let mut settings =
            RedisSettings::new(Servers::One(ServerAddr::Tcp("localhost".to_owned(), 6379)));
        settings.login.password = Some(SecretString::from("hunter2"));
        settings.tls = Some(RedisTls {
            authorities: None,
            identity: Some(Identity {
                chain: Vec::new(),
                key: SecretSlice::from(b"hunter3".to_vec()),
            }),
        });
        let shown = format!("{settings:?}");
        assert!(
            !shown.contains("hunter") && !shown.contains(&format!("{:?}", b"hunter3")),
            "{shown}"
        );
    }
}
