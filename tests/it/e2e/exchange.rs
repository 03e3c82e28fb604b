//! Certificates, keys of issuers and the policy are exchanged under load, as Kubernetes exchanges
//! mounted files: no call fails, and what is new is in force within ten seconds.

use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eni_gateway::grpc::proto::GetAttachmentRequest;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::support::authority::Authority;
use crate::support::gateway::{Stage, attach};
use crate::support::issuer::Signer;

/// The time within which something new is in force.
const PROMISE: Duration = Duration::from_secs(10);
/// Time after which the test gives up. Far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
const CALLERS: usize = 6;

/// A mounted volume, whose files change all at once by a symbolic link.
struct Volume {
    directory: TempDir,
    versions: AtomicUsize,
}

impl Volume {
    fn new(files: &[(&str, &str)]) -> Self {
        let volume = Self { directory: TempDir::new().unwrap(), versions: AtomicUsize::new(0) };
        volume.exchange(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), volume.directory.path().join(name)).unwrap();
        }
        volume
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn exchange(&self, files: &[(&str, &str)]) {
        let version = format!("..{}", self.versions.fetch_add(1, Ordering::Relaxed));
        let at = |name: &str| self.directory.path().join(name);
        std::fs::create_dir(at(&version)).unwrap();
        for (name, text) in files {
            std::fs::write(at(&version).join(name), text).unwrap();
        }
        symlink(&version, at("..new")).unwrap();
        std::fs::rename(at("..new"), at("..data")).unwrap();
    }
}

fn policy(keys: &str, callers: &str) -> String {
    format!(
        r#"
version = 1
[[issuers]]
alias = "cluster"
issuer = "https://issuer.example"
audiences = ["eni-gateway"]
jwks_file = "{keys}"

[[allow]]
id = "callers"
callers = [{callers}]
actions = ["*"]
instances = ["*"]
"#
    )
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn token(signer: &Signer, key: &str, subject: &str) -> String {
    let expires = jsonwebtoken::get_current_timestamp() + 3600;
    let claims = json!({
        "iss": "https://issuer.example", "aud": "eni-gateway", "sub": subject, "exp": expires,
    });
    signer.token(&json!({ "alg": "ES256", "kid": key }), &claims)
}

/// The gateway's address, and what a client of it needs.
struct Target {
    address: String,
    authorities: String,
    identity: Identity,
    token: Mutex<String>,
    calls: AtomicUsize,
}

impl Target {
    async fn connect(&self, authorities: &str) -> Result<Channel, transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authorities))
            .identity(self.identity.clone())
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    async fn channel(&self) -> Channel {
        self.connect(&self.authorities).await.expect("connected")
    }

    /// Calls without end, on a new connection after each twenty calls.
    async fn load(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let channel = self.channel().await;
            for _ in 0..20 {
                let token = self.token.lock().unwrap().clone();
                get(&channel, &token).await.expect("no call fails");
                self.calls.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits until all callers have called again.
    async fn progress(&self) {
        let most = self.calls.load(Ordering::Relaxed) + 2 * CALLERS * 20;
        while self.calls.load(Ordering::Relaxed) < most {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn get(channel: &Channel, token: &str) -> Result<(), Status> {
    let mut request = Request::new(GetAttachmentRequest {
        instance_id: "i-1".to_owned(),
        network_interface_id: "eni-0001".to_owned(),
    });
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    AttachmentServiceClient::new(channel.clone()).get_attachment(request).await.map(drop)
}

/// Waits until it holds, which must be soon.
async fn soon(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what}: never");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() < PROMISE, "{what}: after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exchanged_under_load_is_in_force_soon_and_fails_no_call() {
    let (servers, others, clients, later) =
        (Authority::new(), Authority::new(), Authority::new(), Authority::new());
    let (one, two) = (Signer::new(), Signer::new());
    let (first, second) = (servers.issue("localhost"), others.issue("localhost"));
    let tls = Volume::new(&[("tls.crt", &first.0), ("tls.key", &first.1)]);
    let authorities = Volume::new(&[("ca.crt", &clients.pem())]);
    let keys = Volume::new(&[("keys", &key_set(&[one.jwk("one")]))]);
    let policies = Volume::new(&[("policy", &policy(&keys.path("keys"), "'cluster:web'"))]);

    let stage = Stage::new(&["i-1"], 1).await;
    let files = [
        ("GRPC__TLS_CERT_FILE", tls.path("tls.crt")),
        ("GRPC__TLS_KEY_FILE", tls.path("tls.key")),
        ("GRPC__CLIENT_CA_FILE", authorities.path("ca.crt")),
        ("IDENTITY__POLICY_FILE", policies.path("policy")),
    ];
    let settings: Vec<(&str, &str)> = files.iter().map(|(name, path)| (*name, &**path)).collect();
    let replica = stage.replica(&settings).await;
    let (cert, key) = clients.issue("caller");
    let target = Target {
        address: replica.address().to_owned(),
        authorities: servers.pem() + &others.pem(),
        identity: Identity::from_pem(cert, key),
        token: Mutex::new(token(&one, "one", "web")),
        calls: AtomicUsize::new(0),
    };
    let channel = target.channel().await;
    let mut request = Request::new(attach("i-1", "eni-0001"));
    let bearer = format!("Bearer {}", token(&one, "one", "web"));
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    AttachmentServiceClient::new(channel.clone())
        .attach_network_interface(request)
        .await
        .expect("attached");

    let stop = CancellationToken::new();
    let exchanges = async {
        target.progress().await;
        tls.exchange(&[("tls.crt", &second.0), ("tls.key", &second.1)]);
        soon("the certificate", async || target.connect(&others.pem()).await.is_ok()).await;

        authorities.exchange(&[("ca.crt", &(clients.pem() + &later.pem()))]);
        let (cert, key) = later.issue("caller");
        let newcomer = Target {
            address: target.address.clone(),
            authorities: target.authorities.clone(),
            identity: Identity::from_pem(cert, key),
            token: Mutex::default(),
            calls: AtomicUsize::new(0),
        };
        let good = token(&one, "one", "web");
        soon("the authority", async || match newcomer.connect(&newcomer.authorities).await {
            Ok(channel) => get(&channel, &good).await.is_ok(),
            Err(_) => false,
        })
        .await;

        keys.exchange(&[("keys", &key_set(&[one.jwk("one"), two.jwk("two")]))]);
        let next = token(&two, "two", "web");
        soon("the new key", async || get(&channel, &next).await.is_ok()).await;
        target.token.lock().unwrap().clone_from(&next);
        target.progress().await;
        keys.exchange(&[("keys", &key_set(&[two.jwk("two")]))]);
        let is =
            |answer: Result<(), Status>, code| answer.is_err_and(|status| status.code() == code);
        soon("the end of a key", async || is(get(&channel, &good).await, Code::Unauthenticated))
            .await;

        let other = token(&two, "two", "db");
        let rules = |callers| policy(&keys.path("keys"), callers);
        policies.exchange(&[("policy", &rules("'cluster:web', 'cluster:db'"))]);
        soon("a new right", async || get(&channel, &other).await.is_ok()).await;
        policies.exchange(&[("policy", &rules("'cluster:web'"))]);
        soon("the end of a right", async || {
            is(get(&channel, &other).await, Code::PermissionDenied)
        })
        .await;
        target.progress().await;
        stop.cancel();
    };
    let loads = join_all((0..CALLERS).map(|_| target.load(&stop)));
    tokio::join!(exchanges, loads);
    assert_eq!(replica.metric("eni_gateway_reload_failing").await, 0.0);
}
