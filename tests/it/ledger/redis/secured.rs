//! Servers over other transports than plain TCP, and with authentication.

use std::time::Duration;

use eni_gateway::ledger::redis::{
    Identity, InvalidSettings, Login, RedisSettings, RedisTls, ServerAddr, Servers, init,
};
use eni_gateway::ledger::{Due, Effects, LedgerStore, Redis};
use rcgen::CertificateParams;
use secrecy::{SecretSlice, SecretString};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{connected, instance, put, record, settings_of, start, until};
use crate::support::authority::Authority;
use crate::support::redis::{Server, free_port};

/// Installed already is as good.
fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A server that takes TLS on another port than plaintext.
struct Secured {
    _server: Server,
    _directory: TempDir,
    port: u16,
}

impl Secured {
    async fn start(
        authority: &Authority,
        (chain, key): (String, String),
        ask_clients: &str,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (chain, key, ca) =
            (write("cert", &chain), write("key", &key), write("ca", &authority.pem()));
        let port = free_port();
        let text = port.to_string();
        let options = [
            "--tls-port",
            &text,
            "--tls-cert-file",
            &chain,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            ask_clients,
        ];
        Self { _server: Server::start_with(&options).await, _directory: directory, port }
    }

    fn settings(&self, host: &str, tls: RedisTls) -> RedisSettings {
        let mut settings = settings_of(Servers::One(ServerAddr::Tcp(host.to_owned(), self.port)));
        settings.tls = Some(tls);
        settings
    }
}

fn trusting(authority: &Authority) -> RedisTls {
    RedisTls { authorities: Some(authority.pem().into_bytes()), identity: None }
}

/// What is said while no connection can be made.
async fn failure(settings: RedisSettings) -> String {
    let (_guard, ledger) = start(settings);
    let said = |why: &str| !why.contains("not connected yet");
    until("said", async || said(&ledger.read(&instance(1), None).await.unwrap_err().outage().why))
        .await;
    ledger.read(&instance(1), None).await.unwrap_err().outage().why.clone()
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    provider();
    let authority = Authority::new();
    let server = Secured::start(&authority, authority.issue("localhost"), "no").await;
    let (_guard, ledger) = connected(server.settings("localhost", trusting(&authority))).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    until("subscribed", async || ledger.health().warnings.is_empty()).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one() {
    provider();
    let authority = Authority::new();
    let server = Secured::start(&authority, authority.issue("localhost"), "yes").await;
    let without = failure(server.settings("localhost", trusting(&authority))).await;
    assert!(without.to_lowercase().contains("certificate"), "{without}");
    let (chain, key) = authority.issue("gateway");
    let identity =
        Some(Identity { chain: chain.into_bytes(), key: SecretSlice::from(key.into_bytes()) });
    let tls = RedisTls { identity, ..trusting(&authority) };
    let (_guard, ledger) = connected(server.settings("localhost", tls)).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said() {
    provider();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Secured::start(&authority, authority.issue("localhost"), "no").await;
    let unknown = failure(server.settings("localhost", trusting(&stranger))).await;
    assert!(unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"), "{unknown}");
    let system = failure(server.settings("localhost", RedisTls::default())).await;
    assert!(system.contains("not trusted; set ledger.ca_file"), "{system}");
    let misnamed = failure(server.settings("127.0.0.1", trusting(&authority))).await;
    assert!(misnamed.contains("use a name of the certificate in ledger.url"), "{misnamed}");

    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let old = Secured::start(&authority, authority.sign(params), "no").await;
    let expired = failure(old.settings("localhost", trusting(&authority))).await;
    assert!(expired.contains("has expired; renew the server's certificate"), "{expired}");

    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = Secured::start(&authority, authority.sign(params), "no").await;
    let authority_as_leaf = failure(own.settings("localhost", trusting(&authority))).await;
    assert!(authority_as_leaf.contains("CA:TRUE"), "{authority_as_leaf}");
    let plain = Server::start().await;
    let mut settings = settings_of(Servers::One(plain.place()));
    settings.tls = Some(trusting(&authority));
    let unencrypted = failure(settings).await;
    // The server answers only if the handshake looks to it like a command with an end.
    let is_named = unencrypted.contains("does not use TLS") && unencrypted.contains("use redis://");
    assert!(is_named, "{unencrypted}");
}

#[tokio::test]
async fn a_server_that_expects_tls_is_named() {
    provider();
    let authority = Authority::new();
    let server = Secured::start(&authority, authority.issue("localhost"), "yes").await;
    let mut settings = server.settings("localhost", trusting(&authority));
    settings.tls = None;
    let (_guard, ledger) = start(settings);
    // On a busy machine the diagnosis of one try may take too long.
    until("named", async || {
        let why = ledger.read(&instance(1), None).await.unwrap_err().outage().why.clone();
        why.contains("uses TLS; use rediss:// instead of redis://")
    })
    .await;
}

#[tokio::test]
async fn an_http_server_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            // The gateway may have closed it.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    };
    let place = ServerAddr::Tcp("127.0.0.1".to_owned(), port);
    let said = async { failure(settings_of(Servers::One(place))).await };
    tokio::select! {
        said = said => assert!(said.contains("if it is an HTTP server"), "{said}"),
        () = serve => {}
    }
}

#[tokio::test]
async fn certificates_that_are_none_are_refused_at_once() {
    provider();
    let mut settings = settings_of(Servers::One(ServerAddr::Tcp("localhost".to_owned(), 1)));
    settings.tls = Some(RedisTls {
        authorities: None,
        identity: Some(Identity {
            chain: b"no certificate".to_vec(),
            key: SecretSlice::from(b"hunter2".to_vec()),
        }),
    });
    let error = Redis::start(settings, &TaskTracker::new(), CancellationToken::new()).unwrap_err();
    assert!(matches!(error, InvalidSettings::Tls(_)), "{error}");
    let said = format!("{error} {error:?}");
    assert!(said.contains("ledger.cert_file") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_at_once() {
    provider();
    let authority = Authority::new();
    let ((chain, _), (_, key)) = (authority.issue("gateway"), authority.issue("gateway"));
    let mut settings = settings_of(Servers::One(ServerAddr::Tcp("localhost".to_owned(), 1)));
    let identity = Identity { chain: chain.into(), key: SecretSlice::from(key.into_bytes()) };
    settings.tls = Some(RedisTls { authorities: None, identity: Some(identity) });
    let error = Redis::start(settings, &TaskTracker::new(), CancellationToken::new()).unwrap_err();
    assert!(error.to_string().contains("the key is not that of the certificate"), "{error}");
}

#[tokio::test]
async fn a_socket_of_this_machine() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("redis.sock");
    let socket = path.to_str().unwrap();
    let server = Server::start_with(&["--unixsocket", socket]).await;
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]).await;
    let mut settings = settings_of(Servers::One(ServerAddr::Unix(path.clone())));
    settings.db = 3;
    settings.login.password = Some(SecretString::from("wrong"));
    let refused = failure(settings.clone()).await;
    assert!(
        refused.to_lowercase().contains("password") && !refused.contains("wrong pass: wrong"),
        "{refused}"
    );
    settings.login.password = Some(SecretString::from("s3cret"));
    let (_guard, ledger) = connected(settings).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    until("subscribed", async || ledger.health().warnings.is_empty()).await;
}

/// The rights that `docs/redis.md` names.
fn documented_rights() -> Vec<String> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let (_, rights) = text.split_once("ACL SETUSER gateway ").unwrap();
    let (rights, _) = rights.split_once("```").unwrap();
    let rights = rights.split_whitespace();
    rights.map(|right| right.replace("PASSWORD", "s3cret")).collect()
}

/// A server with a user who has these rights, and how to come as that user.
async fn with_user(rights: &[String]) -> (Server, RedisSettings) {
    let server = Server::start().await;
    let words: Vec<&str> = ["ACL", "SETUSER", "gateway"]
        .into_iter()
        .chain(rights.iter().map(String::as_str))
        .collect();
    server.ask::<()>(&words).await;
    let mut settings = settings_of(Servers::One(server.place()));
    settings.login =
        Login { user: Some("gateway".to_owned()), password: Some(SecretString::from("s3cret")) };
    (server, settings)
}

#[tokio::test]
async fn a_user_with_the_documented_rights_and_no_more() {
    let (_server, settings) = with_user(&documented_rights()).await;
    init(settings.clone()).await.unwrap();
    let (_guard, ledger) = connected(settings).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    ledger.due(10).await.unwrap();
    let due = Due { instance: instance(1), eni: "eni-1".parse().unwrap() };
    ledger.claim(vec![due], Duration::from_secs(1)).await.unwrap();
    until("subscribed", async || ledger.health().warnings.is_empty()).await;
    assert_eq!(ledger.health().misconfigured, [""; 0]);
}

/// What the same page says of each of them.
#[rstest::rstest]
#[tokio::test]
async fn a_user_who_lacks_one_of_the_documented_rights_is_not_used(
    #[values(
        "info",
        "time",
        "evalsha",
        "script|load",
        "get",
        "set",
        "getrange",
        "hget",
        "hset",
        "hdel",
        "zadd",
        "zrem",
        "zscore",
        "zrangebyscore"
    )]
    command: &str,
) {
    let mut rights = documented_rights();
    let all = rights.len();
    rights.retain(|right| *right != format!("+{command}"));
    assert_eq!(rights.len(), all - 1, "{command} is documented");
    let (_server, settings) = with_user(&rights).await;
    let (_guard, ledger) = start(settings);
    until("it is reported", async || {
        let named = command.split('|').next().unwrap().to_uppercase();
        let health = ledger.health();
        health.misconfigured.iter().any(|why| why.to_uppercase().contains(&named))
    })
    .await;
}
