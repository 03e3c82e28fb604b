//! Every way to be refused, on every RPC: the code, the reason, and the audit line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::grpc::Access;
use eni_gateway::policy::PolicyStore;
use eni_gateway::telemetry::init::build;
use eni_gateway::telemetry::{LogFormat, Settings};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Identity};
use tonic::{Request, Status};
use tracing::subscriber::DefaultGuard;

use super::access::{Guarded, call, dns, rpcs, uri};
use super::gateway::{Gateway, Options};
use super::reason;
use crate::support::authority::Authority;
use crate::support::issuer::Signer;
use crate::support::log::Log;

const ISSUER: &str = "https://issuer.example";
const WEB: &str = "system:serviceaccount:web:api";

/// The lines of this thread, which runs the gateway too.
pub(super) fn logged() -> (Log, DefaultGuard) {
    let log = Log::default();
    let settings = Settings { format: LogFormat::Json, follow_sampling: false };
    let built = build(&|_| None, settings, log.clone()).expect("it can be set up");
    (log, tracing::subscriber::set_default(built.0))
}

/// The line that decided about a call: the one that denies, if any.
fn deciding(lines: &[Value]) -> &Value {
    lines.iter().find(|line| line["decision"] == "deny").unwrap_or(&lines[0])
}

/// A row of the table: what the caller receives, and what the audit log says.
fn row(name: &str, rpc: &str, answer: Result<(), Status>, line: &Value) -> String {
    let status = answer.err().filter(|status| reason(status).starts_with("CALLER_"));
    let (code, reason) = match &status {
        None => ("passes".to_owned(), String::new()),
        Some(status) => (format!("{:?}", status.code()), reason(status)),
    };
    let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
    assert_eq!(text("reason"), if reason.is_empty() { "-" } else { reason.as_str() });
    let fields = ["decision", "caller", "action", "rule", "cause"].map(text).join(" | ");
    format!("{name:22} {rpc:26} {code:16} {reason:22} | {fields}\n")
}

struct Tokens {
    gateway: Gateway,
    store: Arc<PolicyStore>,
    signer: Signer,
    policy: PathBuf,
    keys: PathBuf,
    _directory: TempDir,
}

fn rules(keys: &str) -> String {
    format!(
        r#"
version = 1

[[issuers]]
alias = "cluster"
issuer = "{ISSUER}"
audiences = ["eni-gateway"]
jwks_file = "{keys}"
leeway = "0s"

[[allow]]
id = "web"
callers = ["cluster:system:serviceaccount:web:*"]
actions = ["*"]
instances = ["i-web", "i-frozen"]

[[allow]]
id = "readers"
callers = ["cluster:*"]
actions = ["get", "list"]
instances = ["i-web"]
groups = ["readers"]
"#
    )
}

fn claims() -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({ "iss": ISSUER, "aud": "eni-gateway", "sub": WEB, "exp": now + 600 })
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().expect("an object");
    members.extend(changes.as_object().expect("an object").clone());
    claims
}

impl Tokens {
    async fn start() -> Self {
        let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
        let (keys, policy) = (directory.path().join("keys"), directory.path().join("policy"));
        std::fs::write(&keys, json!({ "keys": [signer.jwk("one")] }).to_string()).expect("written");
        std::fs::write(&policy, rules(&keys.display().to_string())).expect("written");
        let store = Arc::new(PolicyStore::load(policy.clone()).await.expect("a policy"));
        let access = Arc::new(Access::by(store.clone(), false));
        let gateway = Gateway::with(Options { access, ..Options::default() }).await;
        let refusal = EnsRefusal { code: "InstanceNotFound".to_owned(), ..EnsRefusal::default() };
        gateway.ens.fail(Some(DescribeError::Refused(refusal)));
        Self { gateway, store, signer, policy, keys, _directory: directory }
    }

    /// A token with these claims, and the usual header.
    fn token(&self, claims: &Value) -> String {
        self.signer.token(&json!({ "alg": "ES256", "kid": "one" }), claims)
    }

    /// Makes each RPC with this token, and adds its rows.
    async fn call_all(
        &self,
        table: &mut String,
        log: &Log,
        name: &str,
        instance: &str,
        token: &str,
    ) {
        for rpc in rpcs() {
            let seen = log.audit().len();
            let header = (!token.is_empty()).then(|| format!("Bearer {token}"));
            let authorize = move |mut request: Request<()>| {
                if let Some(header) = &header {
                    let value = MetadataValue::try_from(header.as_str()).expect("ascii");
                    request.metadata_mut().insert("authorization", value);
                }
                Ok(request)
            };
            let service = InterceptedService::new(self.gateway.channel().await, authorize);
            let answer = call(service, &rpc, instance, "eni-1").await;
            let lines = log.audit();
            assert!(lines.len() > seen, "{name}: {rpc} has no audit line");
            assert!(!log.text().contains(token) || token.is_empty(), "a token is in the log");
            *table += &row(name, &rpc, answer, deciding(&lines[seen..]));
        }
    }
}

#[tokio::test]
async fn each_bad_token_is_refused_with_a_line() {
    let (log, _default) = logged();
    let tokens = Tokens::start().await;
    let now = jsonwebtoken::get_current_timestamp();
    let signer = &tokens.signer;
    let alg = |alg: &str| json!({ "alg": alg, "kid": "one" });
    let unsigned = signer.token(&alg("none"), &claims());
    let unsigned = unsigned.rsplit_once('.').expect("a signature").0.to_owned() + ".";
    let cases = [
        ("web", "i-web", tokens.token(&claims())),
        ("out of policy: instance", "i-db", tokens.token(&claims())),
        (
            "out of policy: rpc",
            "i-web",
            tokens.token(&with(json!({ "sub": "ana", "groups": ["readers"] }))),
        ),
        ("anonymous", "i-web", String::new()),
        ("expired", "i-web", tokens.token(&with(json!({ "exp": now - 1 })))),
        ("not yet valid", "i-web", tokens.token(&with(json!({ "nbf": now + 60 })))),
        ("wrong audience", "i-web", tokens.token(&with(json!({ "aud": "other" })))),
        ("wrong issuer", "i-web", tokens.token(&with(json!({ "iss": "https://evil.example" })))),
        ("alg none", "i-web", unsigned),
        ("key confusion", "i-web", signer.confused_token(&alg("HS256"), &claims())),
        ("key confusion: ES256", "i-web", signer.confused_token(&alg("ES256"), &claims())),
        ("another key", "i-web", Signer::new().token(&alg("ES256"), &claims())),
    ];
    let mut table = String::new();
    for (name, instance, token) in &cases {
        tokens.call_all(&mut table, &log, name, instance, token).await;
    }
    let good = tokens.token(&claims());
    let rules = rules(&tokens.keys.display().to_string());
    std::fs::write(&tokens.policy, rules.replace(":web:*", ":db:*")).expect("written");
    assert!(tokens.store.reload().await.expect("a policy"));
    tokens.call_all(&mut table, &log, "revoked by policy", "i-web", &good).await;
    std::fs::write(&tokens.policy, &rules).expect("written");
    assert!(tokens.store.reload().await.expect("a policy"));
    let others = json!({ "keys": [Signer::new().jwk("two")] });
    std::fs::write(&tokens.keys, others.to_string()).expect("written");
    assert!(tokens.store.tokens().refresh().await.expect("good keys"));
    tokens.call_all(&mut table, &log, "revoked by keys", "i-web", &good).await;
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn each_bad_certificate_is_refused_with_a_line() {
    let (log, _default) = logged();
    let guarded = Guarded::start().await;
    let web = "spiffe://prod.example/ns/web/sa/api";
    let cases = [
        ("web", "i-web", vec![uri(web)]),
        ("out of policy: instance", "i-db", vec![uri(web)]),
        ("out of policy: rpc", "i-web", vec![dns("reader.example")]),
        ("forbidden: rpc", "i-frozen", vec![uri(web)]),
        ("two uri sans", "i-web", vec![uri(web), uri("spiffe://prod.example/ns/db/sa/api")]),
        ("another trust domain", "i-web", vec![uri("spiffe://evil.example/ns/web/sa/api")]),
        ("without a name", "i-web", vec![]),
    ];
    let mut table = String::new();
    for (name, instance, names) in cases {
        let channel = guarded.connect(guarded.identity(&names)).await.expect("admitted");
        for rpc in rpcs() {
            let seen = log.audit().len();
            let answer = call(channel.clone(), &rpc, instance, "eni-1").await;
            let lines = log.audit();
            assert!(lines.len() > seen, "{name}: {rpc} has no audit line");
            table += &row(name, &rpc, answer, deciding(&lines[seen..]));
        }
    }
    insta::assert_snapshot!(table);
}

/// Waits for a line `connection`, and returns its cause in words of the gateway's own.
async fn refused_connection(log: &Log, seen: usize) -> String {
    let found = async {
        loop {
            let lines = log.audit();
            let line = lines[seen..].iter().find(|line| line["message"] == "connection");
            if let Some(line) = line {
                assert_eq!(line["decision"], "deny");
                assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
                return line["cause"].as_str().expect("a cause").to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let cause = tokio::time::timeout(Duration::from_secs(60), found).await.expect("a line");
    cause.split(" (").next().expect("one part").to_owned()
}

/// Whether no call of this identity is answered, because TLS refuses it.
async fn is_shut_out(guarded: &Guarded, identity: Identity) -> bool {
    let answer = match guarded.connect(identity).await {
        Err(_) => return true,
        Ok(channel) => ask(&channel).await,
    };
    answer.is_err_and(|status| status.details().is_empty())
}

async fn ask(channel: &Channel) -> Result<(), Status> {
    call(channel.clone(), "GetAttachment", "i-web", "eni-1").await
}

#[tokio::test]
async fn each_bad_handshake_has_a_line() {
    let (log, _default) = logged();
    let guarded = Guarded::start().await;
    let certificate = |from: u16, to: u16, serial: u64, purpose: ExtendedKeyUsagePurpose| {
        guarded.certificate(|params| {
            params.subject_alt_names = vec![dns("reader.example")];
            params.not_before = date_time_ymd(i32::from(from), 1, 1);
            params.not_after = date_time_ymd(i32::from(to), 1, 1);
            params.serial_number = Some(serial.into());
            params.extended_key_usages = vec![purpose];
        })
    };
    let client = || ExtendedKeyUsagePurpose::ClientAuth;
    let (cert, key) = Authority::new().issue("reader.example");
    let revoked = certificate(2020, 4000, 7, client());
    let open = guarded.connect(revoked.clone()).await.expect("admitted");
    assert!(ask(&open).await.is_err_and(|status| reason(&status) == "INSTANCE_NOT_FOUND"));

    let seen = log.audit().len();
    std::fs::write(&guarded.crl, guarded.callers.revoke(&[7])).expect("written");
    assert!(guarded.tls.reload().await.expect("good files"));
    let mut causes = vec![refused_connection(&log, seen).await];
    let cases = [
        revoked,
        Identity::from_pem(cert, key),
        certificate(2020, 2021, 8, client()),
        certificate(3999, 4000, 9, client()),
        certificate(2020, 4000, 10, ExtendedKeyUsagePurpose::ServerAuth),
    ];
    for identity in cases {
        let seen = log.audit().len();
        assert!(is_shut_out(&guarded, identity).await);
        causes.push(refused_connection(&log, seen).await);
    }
    assert_eq!(
        causes,
        [
            "the client's certificate is not accepted any more",
            "the client's certificate was revoked",
            "the client's certificate is from an authority that the gateway does not know",
            "the client's certificate has expired",
            "the client's certificate is not valid yet",
            "the client's certificate is not for TLS clients",
        ]
    );
}
