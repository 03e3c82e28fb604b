//! Callers with tokens.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::grpc::Access;
use eni_gateway::grpc::proto::WatchAttachmentResponse;
use eni_gateway::policy::PolicyStore;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Request, Status, Streaming};

use super::gateway::{Gateway, Options, get, watch};
use super::reason;
use crate::support::issuer::Signer;

/// Longer than any wait of these tests.
const LONG: Duration = Duration::from_secs(60);

struct Guarded {
    gateway: Gateway,
    signer: Signer,
    store: Arc<PolicyStore>,
    directory: TempDir,
}

async fn guarded() -> Guarded {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let keys = directory.path().join("keys.json");
    std::fs::write(&keys, json!({ "keys": [signer.jwk("one")] }).to_string()).expect("written");
    let policy = format!(
        r#"
version = 1

[[issuers]]
alias = "cluster"
issuer = "https://issuer.example"
audiences = ["eni-gateway"]
jwks_file = "{}"
leeway = "0s"

[[allow]]
id = "web"
callers = ["cluster:system:serviceaccount:web:*"]
kinds = ["token"]
actions = ["*"]
instances = ["i-web"]
"#,
        keys.display()
    );
    let file = directory.path().join("policy.toml");
    std::fs::write(&file, policy).expect("written");
    let store = Arc::new(PolicyStore::load(file).await.expect("a policy"));
    let access = Arc::new(Access::by(store.clone(), false));
    let gateway = Gateway::with(Options { access, ..Options::default() }).await;
    Guarded { gateway, signer, store, directory }
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

impl Guarded {
    fn token(&self, subject: &str, expires: u64) -> String {
        let header = json!({ "alg": "ES256", "kid": "one" });
        let claims: Value = json!({
            "iss": "https://issuer.example", "aud": "eni-gateway", "sub": subject, "exp": expires,
        });
        self.signer.token(&header, &claims)
    }
}

fn with<T>(message: T, authorization: &[&str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in authorization {
        request.metadata_mut().append("authorization", value.parse().expect("ascii"));
    }
    request
}

#[tokio::test]
async fn a_token_is_an_identity_and_anything_else_is_none() {
    let guarded = guarded().await;
    let refusal = EnsRefusal { code: "InstanceNotFound".to_owned(), ..EnsRefusal::default() };
    guarded.gateway.ens.fail(Some(DescribeError::Refused(refusal)));
    let mut client = guarded.gateway.client().await;
    let web = guarded.token("system:serviceaccount:web:api", now() + 600);
    let db = guarded.token("system:serviceaccount:db:api", now() + 600);
    let expired = guarded.token("system:serviceaccount:web:api", now() - 1);
    let bearer = |token: &str| format!("Bearer {token}");
    let cases: [(&str, Vec<String>, &str); 8] = [
        ("good", vec![bearer(&web)], "INSTANCE_NOT_FOUND"),
        ("good, in lower case", vec![format!("bearer {web}")], "INSTANCE_NOT_FOUND"),
        ("another namespace", vec![bearer(&db)], "CALLER_FORBIDDEN"),
        ("expired", vec![bearer(&expired)], "CALLER_UNAUTHENTICATED"),
        ("two", vec![bearer(&web), bearer(&db)], "CALLER_UNAUTHENTICATED"),
        ("without a scheme", vec![web.clone()], "CALLER_UNAUTHENTICATED"),
        ("another scheme", vec![format!("Basic {web}")], "CALLER_UNAUTHENTICATED"),
        ("none", vec![], "CALLER_UNAUTHENTICATED"),
    ];
    for (name, values, expected) in cases {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let answer = client.get_attachment(with(get("i-web", "eni-1"), &values)).await;
        let status = answer.expect_err("the instance is not there");
        assert_eq!(reason(&status), expected, "{name}: {status:?}");
        for secret in [&web, &db, &expired] {
            assert!(!status.message().contains(secret.as_str()), "{name}");
        }
    }
}

#[tokio::test]
async fn a_stream_ends_before_its_token_expires() {
    let guarded = guarded().await;
    let mut client = guarded.gateway.client().await;
    let token = guarded.token("system:serviceaccount:web:api", now() + 5);
    let request = with(watch("i-web", "eni-1", true), &[&format!("Bearer {token}")]);
    let mut stream = client.watch_attachment(request).await.expect("allowed").into_inner();
    let status = end(&mut stream).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "STREAM_TOO_OLD"));
}

/// A client resumes it with a token of the new key. The old token is refused then.
#[tokio::test]
async fn a_stream_ends_when_its_issuer_withdraws_the_key() {
    let guarded = guarded().await;
    let mut client = guarded.gateway.client().await;
    let token = guarded.token("system:serviceaccount:web:api", now() + 600);
    let bearer = format!("Bearer {token}");
    let request = with(watch("i-web", "eni-1", true), &[&bearer]);
    let mut stream = client.watch_attachment(request).await.expect("allowed").into_inner();
    let other = json!({ "keys": [Signer::new().jwk("one")] }).to_string();
    std::fs::write(guarded.directory.path().join("keys.json"), other).expect("written");
    assert_eq!(guarded.store.tokens().refresh().await, Ok(true));
    guarded.store.recheck();
    let status = end(&mut stream).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "STREAM_TOO_OLD"));
    let again = with(watch("i-web", "eni-1", true), &[&bearer]);
    let status = client.watch_attachment(again).await.expect_err("the key is not the issuer's");
    assert_eq!(reason(&status), "CALLER_UNAUTHENTICATED");
}

/// The failure with which the stream ends.
async fn end(stream: &mut Streaming<WatchAttachmentResponse>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "it ended with OK"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(LONG, end).await.expect("the stream ends")
}
