//! Connects to one server over TCP, TLS or a Unix socket, and authenticates.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind,
    IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo, RedisResult, ServerErrorKind,
    TlsCertificates,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret as _, SecretString};
use socket2::TcpKeepalive;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::errors::{describe, is_cut};
use super::settings::{Identity, InvalidSettings, Login, RedisSettings, RedisTls, ServerAddr};
use crate::tls_fault::expects_tls;

const TLS_TIMEOUT: &str =
    "timed out; if the server does not use TLS, use redis:// instead of rediss:// in ledger.url";
const USES_TLS: &str = "the server there uses TLS; use rediss:// instead of redis:// in ledger.url";

/// Time for the diagnosis of a connection that was cut. The next try waits for it.
const DIAGNOSIS: Duration = Duration::from_millis(200);

/// Connects to the servers of one ledger.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    tls: Option<RedisTls>,
    login: Login,
    sentinel_password: Option<SecretString>,
    db: u32,
    connect_timeout: Duration,
    pub(super) response_timeout: Duration,
}

impl Dialer {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, InvalidSettings> {
        let dialer = Self {
            tls: settings.tls.clone(),
            login: settings.login.clone(),
            sentinel_password: settings.sentinel_password.clone(),
            db: settings.db,
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
        };
        // Certificates that cannot be read fail here, and not at each try to connect.
        let anywhere = ServerAddr::Tcp("localhost".to_owned(), 1);
        let built = dialer.client(&anywhere, RedisConnectionInfo::default());
        built.map_err(|error| InvalidSettings::Tls(describe(&error)))?;
        if let Some(identity) = dialer.tls.as_ref().and_then(|tls| tls.identity.as_ref()) {
            check_pair(identity)?;
        }
        Ok(dialer)
    }

    /// A connection for calls.
    pub(super) async fn connect(&self, place: &ServerAddr) -> RedisResult<MultiplexedConnection> {
        self.connect_with(place, self.signed_in(), self.config()).await
    }

    /// A connection that also receives pushed messages. `config` names the receiver.
    pub(super) async fn listen(
        &self,
        place: &ServerAddr,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let resp3 = self.signed_in().set_protocol(ProtocolVersion::RESP3);
        self.connect_with(place, resp3, config).await
    }

    /// A connection to a sentinel. It has no databases. It may have another password than the
    /// servers, or none where they have one.
    pub(super) async fn connect_sentinel(
        &self,
        place: &ServerAddr,
    ) -> RedisResult<MultiplexedConnection> {
        let signed_in = match &self.sentinel_password {
            Some(password) => RedisConnectionInfo::default().set_password(password.expose_secret()),
            None => self.signed_in().set_db(0),
        };
        match self.connect_with(place, signed_in, self.config()).await {
            Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
                self.connect_with(place, RedisConnectionInfo::default(), self.config()).await
            }
            connected => connected,
        }
    }

    /// The settings of a connection.
    pub(super) fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout))
    }

    async fn connect_with(
        &self,
        place: &ServerAddr,
        redis: RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let client = self.client(place, redis)?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let error = match connected {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match (place, &self.tls) {
            // A Redis without TLS waits for the end of what looks to it like a command.
            (ServerAddr::Tcp(..), Some(_)) if error.is_timeout() => {
                Err((ErrorKind::Io, TLS_TIMEOUT).into())
            }
            // One with TLS closes the connection without a word. One with too many clients sends an
            // error first, which a failed write may hide.
            (ServerAddr::Tcp(host, port), None) if is_cut(&error) => {
                let (said, probed) = tokio::join!(
                    timeout(DIAGNOSIS, first_words(host, *port)),
                    timeout(DIAGNOSIS, expects_tls(host, *port)),
                );
                Err(match (said, probed) {
                    (Ok(Some(why)), _) => {
                        let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
                        (kind, "the server closes each connection", why).into()
                    }
                    (_, Ok(true)) => (ErrorKind::Io, USES_TLS).into(),
                    _ => error,
                })
            }
            _ => Err(error),
        }
    }

    fn signed_in(&self) -> RedisConnectionInfo {
        let mut redis = RedisConnectionInfo::default().set_db(self.db.into());
        if let Some(user) = &self.login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.login.password {
            redis = redis.set_password(password.expose_secret());
        }
        redis
    }

    /// The kernel also detects a silent peer, for connections without requests.
    fn client(&self, place: &ServerAddr, redis: RedisConnectionInfo) -> RedisResult<Client> {
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2))
            .with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(Duration::from_secs(10));
        let address = match (place, &self.tls) {
            (ServerAddr::Unix(path), _) => ConnectionAddr::Unix(path.clone()),
            (ServerAddr::Tcp(host, port), None) => ConnectionAddr::Tcp(host.clone(), *port),
            (ServerAddr::Tcp(host, port), Some(_)) => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
        };
        let info = address.into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp);
        match &self.tls {
            None => Client::open(info),
            Some(tls) => Client::build_with_tls(info, certificates(tls)),
        }
    }
}

/// The error that a server sends to each new connection, before any command.
async fn first_words(host: &str, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((host, port)).await.ok()?;
    let mut words = [0; 256];
    let length = stream.read(&mut words).await.ok()?;
    let words = String::from_utf8_lossy(&words[..length]);
    words.lines().next()?.strip_prefix('-').map(str::to_owned)
}

/// Checks that the key is that of the certificate, which the driver does at each connect.
fn check_pair(Identity { chain, key }: &Identity) -> Result<(), InvalidSettings> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret());
    let (Ok(chain), Ok(key), Some(provider)) = (chain, key, CryptoProvider::get_default()) else {
        // The driver has read both.
        return Ok(());
    };
    match CertifiedKey::from_der(chain, key, provider) {
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(InvalidSettings::Tls("the key is not that of the certificate".to_owned()))
        }
        _ => Ok(()),
    }
}

fn certificates(tls: &RedisTls) -> TlsCertificates {
    TlsCertificates {
        root_cert: tls.authorities.clone(),
        client_tls: tls.identity.as_ref().map(|identity| ClientTlsConfig {
            client_cert: identity.chain.clone(),
            client_key: identity.key.expose_secret().to_vec(),
        }),
    }
}
