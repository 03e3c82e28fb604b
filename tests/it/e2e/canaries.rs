//! Secrets in every place that takes one. Nothing that the process emits shows any of them: log
//! lines at every level, audit lines, spans, errors, metrics, the ledger, the configuration.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get as route;
use eni_gateway::config::{Sources, read};
use eni_gateway::grpc::Tls;
use eni_gateway::grpc::proto::WatchAttachmentRequest;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::tls::Files;
use eni_gateway::policy::PolicyStore;
use eni_gateway::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

use super::secrets::stored;
use crate::support::authority::Authority;
use crate::support::collector::Collector;
use crate::support::gateway::{Replica, Stage, attach, eventually};
use crate::support::issuer::Signer;

const REDIS: &str = "canary-of-redis";
const FETCH: &str = "canary-of-the-key-fetch";
const TRACES: &str = "canary-of-the-collector";
const BAD: &str = "canary-of-a-bad-token";

/// An issuer's keys, for a request with the token.
async fn issuer(signer: &Signer) -> (String, AbortOnDropHandle<()>) {
    let keys = json!({ "keys": [signer.jwk("one")] }).to_string();
    let handler = move |headers: HeaderMap| {
        let token = headers.get("authorization").and_then(|value| value.to_str().ok());
        let is_known = token == Some(&format!("Bearer {FETCH}"));
        let answer = if is_known { keys.clone() } else { String::new() };
        std::future::ready(answer)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let router = Router::new().route("/keys", route(handler));
    let serve = async { axum::serve(listener, router).await.unwrap() };
    #[expect(clippy::disallowed_methods, reason = "aborted when the handle is dropped")]
    let server = AbortOnDropHandle::new(tokio::spawn(serve));
    (url, server)
}

fn policy(jwks_url: &str, token_file: &Path) -> String {
    format!(
        r#"
version = 1

[[issuers]]
alias = "cluster"
issuer = "https://issuer.example"
audiences = ["eni-gateway"]
jwks_url = "{jwks_url}"
token_file = "{}"

[[allow]]
id = "web"
callers = ["cluster:web"]
actions = ["*"]
instances = ["*"]
"#,
        token_file.display()
    )
}

async fn client(replica: &Replica, authority: &Authority) -> AttachmentServiceClient<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", replica.address())).unwrap();
    AttachmentServiceClient::new(endpoint.tls_config(tls).unwrap().connect().await.unwrap())
}

fn with<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(60));
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_the_gateway_or_of_a_caller_is_emitted() {
    let (directory, signer, authority) = (TempDir::new().unwrap(), Signer::new(), Authority::new());
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = authority.issue("localhost");
    let (jwks_url, _issuer) = issuer(&signer).await;
    let token_file = put("fetch", FETCH);
    let (cert_file, key_file) = (put("tls.crt", &cert), put("tls.key", &key));
    let (policy, password) =
        (put("policy", &policy(&jwks_url, &token_file)), put("password", REDIS));
    let audit = directory.path().join("audit");
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    let collector = Collector::start().await;
    let stage = Stage::new(&["i-1"], 2).await;
    let user = format!(">{REDIS}");
    let _: String =
        stage.redis.ask(&["ACL", "SETUSER", "gw", "on", &user, "~*", "&*", "+@all"]).await;
    let url = stage.redis.url().replace("redis://", "redis://gw@");
    let headers = format!("authorization=Bearer {TRACES}");
    let files = [&cert_file, &key_file, &policy, &password, &audit].map(|path| text(path));
    let settings = [
        ("GRPC__TLS_CERT_FILE", files[0].as_str()),
        ("GRPC__TLS_KEY_FILE", &files[1]),
        ("IDENTITY__POLICY_FILE", &files[2]),
        ("LEDGER__PASSWORD_FILE", &files[3]),
        ("LOG__AUDIT", &files[4]),
        ("LEDGER__URL", &url),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("RUST_LOG", "trace"),
    ];
    let mut replica = stage.replica(&settings).await;
    let mut client = client(&replica, &authority).await;

    let now = jsonwebtoken::get_current_timestamp();
    let token = |subject: &str, expires: u64| {
        let claims = json!({
            "iss": "https://issuer.example", "aud": "eni-gateway", "sub": subject, "exp": expires,
        });
        signer.token(&json!({ "alg": "ES256", "kid": "one" }), &claims)
    };
    let tokens = [token("web", now + 600), token("web", now - 600), token("db", now + 600)];
    let mut seen = String::new();
    let bearer = format!("Bearer {}", tokens[0]);
    let answer = client.attach_network_interface(with(attach("i-1", "eni-0001"), &bearer)).await;
    seen += &format!("{:?}", answer.expect("attached"));
    let watched = WatchAttachmentRequest {
        instance_id: "i-1".to_owned(),
        network_interface_id: "eni-0001".to_owned(),
        ..WatchAttachmentRequest::default()
    };
    let opened = client.watch_attachment(with(watched, &bearer)).await;
    let mut stream = opened.expect("allowed").into_inner();
    while let Some(message) = stream.message().await.expect("to its end") {
        seen += &format!("{message:?}");
    }
    for (authorization, code) in [
        (format!("Bearer {}", tokens[1]), Code::Unauthenticated),
        (format!("Bearer {}", tokens[2]), Code::PermissionDenied),
        (format!("Bearer {BAD}.{BAD}.{BAD}"), Code::Unauthenticated),
        (format!("Basic {BAD}"), Code::Unauthenticated),
    ] {
        let request = with(attach("i-1", "eni-0002"), &authorization);
        let refused = client.attach_network_interface(request).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{refused:?}");
        seen += &format!("{refused:?} {}", refused.message());
    }
    let audited = || std::fs::read_to_string(&audit).unwrap_or_default();
    eventually("no end in the audit log", async || audited().contains("attach ended")).await;
    eventually("nothing is traced", async || !collector.spans().is_empty()).await;
    seen += &stored(&stage).await;
    for page in ["/metrics", "/readyz"] {
        seen += &replica.admin(page).await.expect("a page").1;
    }
    for command in [&["config", "dump"][..], &["check"], &["explain", "i-1"]] {
        let mut process = Command::new(&stage.program);
        process
            .args(command)
            .env_clear()
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", DEFAULT_ID)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", DEFAULT_SECRET)
            .env("ENI_GATEWAY_ENS__ENDPOINT", stage.ens.endpoint());
        for (name, value) in settings {
            let is_setting = name.contains("__");
            let name = if is_setting { format!("ENI_GATEWAY_{name}") } else { name.to_owned() };
            process.env(name, value);
        }
        let ran = process.output().await.unwrap();
        seen += &String::from_utf8_lossy(&ran.stdout);
        seen += &String::from_utf8_lossy(&ran.stderr);
    }
    assert!(replica.terminate().await.1);
    seen += &format!("{:?}", collector.resources());
    seen += &audited();
    seen += &replica.log();
    assert!(seen.contains("\"TRACE\""), "every level is logged");
    // Parts of them: a secret may be cut, or stand in an escaped text.
    let mut secrets: Vec<&str> =
        tokens.iter().filter_map(|token| token.rsplit('.').next()).collect();
    secrets.extend(tokens.iter().filter_map(|token| token.split('.').nth(1)));
    secrets.extend([REDIS, FETCH, TRACES, BAD, DEFAULT_SECRET]);
    secrets.extend(key.lines().nth(1));
    for secret in secrets {
        let at = seen.find(secret);
        let excerpt = at.map(|at| &seen[at.saturating_sub(300)..(at + 100).min(seen.len())]);
        assert_eq!(excerpt, None, "{secret}");
    }
}

/// A panic shows values by `Debug`, and its line goes to the log.
#[tokio::test]
async fn what_holds_a_secret_shows_none_in_a_panic() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (directory, authority) = (TempDir::new().unwrap(), Authority::new());
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = authority.issue("localhost");
    let files = Files {
        cert: put("tls.crt", &cert),
        key: put("tls.key", &key),
        client_ca: None,
        client_crl: None,
    };
    let token_file = put("fetch", FETCH);
    let policy = put("policy", &policy("http://127.0.0.1:1/keys", &token_file));
    let variables = [
        ("ENI_GATEWAY_LEDGER__URL", format!("redis://gw:{REDIS}@127.0.0.1:1/0")),
        ("ENI_GATEWAY_LEDGER__PASSWORD_FILE", put("password", REDIS).display().to_string()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let (loaded, _) = read(Sources { environment: variables.to_vec(), ..Sources::default() });
    let store = PolicyStore::load(policy).await.expect("a policy");
    let refused = store.tokens().principal(&format!("{BAD}.{BAD}.{BAD}")).await;
    let shown = format!(
        "{:?} {loaded:?} {store:?} {refused:?}",
        Tls::load(files).await.expect("good files")
    );
    for secret in [REDIS, FETCH, BAD, key.lines().nth(1).expect("a line")] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}
