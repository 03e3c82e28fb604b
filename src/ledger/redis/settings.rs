//! What a [`Redis`](super::Redis) ledger needs to know.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};
use secrecy::{ExposeSecret as _, SecretString};
use socket2::TcpKeepalive;

use crate::ledger::{Rates, keys::InvalidPrefix};

use super::Agreement;

/// How to reach a Redis, and what all replicas that share it agree on.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://[user[:password]@]host[:port][/db]` or `unix:///path`.
    pub url: SecretString,
    /// Takes the place of a password in the URL.
    pub password: Option<SecretString>,
    /// What every key begins with; no braces. Default `eni-gateway:`.
    pub prefix: String,
    /// What all replicas must have set alike. Default 10 ENIs, the primary one not counted.
    pub agreement: Agreement,
    /// How long a partition stays closed after data may have been lost: failover window + lease + request validity +
    /// visibility lag. Default 70 s, the sum of their defaults.
    pub hold: Duration,
    /// Whether an empty ledger, found at the first connect, is a new one, which needs no hold. Default false.
    pub fresh: bool,
    /// The account's budget of ENS calls. Default 5 attaches and 20 describes a second.
    pub rates: Rates,
    /// How long one call of the ledger may take, all its trips together. Default 500 ms.
    pub response_timeout: Duration,
    /// How long connecting may take. Default 1 s.
    pub connect_timeout: Duration,
}

/// Settings with which no connection could ever be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// Not a URL of a Redis. The URL is not repeated: it may hold a password.
    #[error("the ledger's url is not redis://[user[:password]@]host[:port][/db] or unix:///path")]
    Url,
    /// The prefix cannot be used.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
}

impl RedisSettings {
    /// The defaults, for the Redis at this URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            password: None,
            prefix: "eni-gateway:".to_owned(),
            agreement: Agreement {
                limit: 10,
                count_primary: false,
            },
            hold: Duration::from_secs(70),
            fresh: false,
            rates: Rates::default(),
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
        }
    }

    /// How the driver is told. The kernel gives a silent peer up too, for connections on which nothing is asked.
    pub(super) fn connection_info(&self) -> Result<ConnectionInfo, InvalidSettings> {
        let info = self
            .url
            .expose_secret()
            .into_connection_info()
            .map_err(|_| InvalidSettings::Url)?;
        let mut redis: RedisConnectionInfo = info.redis_settings().clone();
        if let Some(password) = &self.password {
            redis = redis.set_password(password.expose_secret());
        }
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2))
            .with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(Duration::from_secs(10));
        Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let mut settings = RedisSettings::new("redis://user:hunter2@localhost/");
        settings.password = Some(SecretString::from("hunter3"));
        assert!(!format!("{settings:?}").contains("hunter"));
        settings.url = SecretString::from("http://hunter2@localhost/");
        let error = settings.connection_info().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"));
    }
}
