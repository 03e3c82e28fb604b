//! Roles that other credentials assume, at an STS that checks the signature of each request; and
//! the modes of the CLI's profiles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eni_gateway::ens::credentials::{Credentials, Provider, ProviderContext};
use eni_gateway::simulator::auth::{AccessKey, KeyState, Verifier};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{Act, Request, Server};
use super::sources::{parts, session, surroundings, url};
use crate::support::gateway::{Stage, attach, eni, eventually, try_attach};

const ROLE: &str = "acs:ram::1:role/gateway";
const POLICY: &str = r#"{"Version":"1","Statement":[]}"#;
const KEY: [(&str, &str); 2] = [
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI-key"),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "key-secret"),
];

fn issued(number: usize) -> AccessKey {
    AccessKey::new(format!("STS.{number}"), "session-secret").with_token(format!("token-{number}"))
}

/// The request as the verifier takes it.
fn received(request: &Request) -> http::request::Parts {
    let target = request.line.split(' ').nth(1).unwrap();
    let built = request
        .headers
        .iter()
        .fold(http::Request::builder().method("POST").uri(target), |built, (name, value)| {
            built.header(name, value)
        });
    built.body(()).unwrap().into_parts().0
}

/// An STS that knows `LTAI-key` and the sessions that it issues, which last this long.
async fn sts(lasting: SignedDuration) -> Server {
    let known = (0..100).map(issued).chain([AccessKey::new("LTAI-key", "key-secret")]).collect();
    let verifier = Mutex::new(Verifier::new(known));
    Server::start(move |request: &Request, number| {
        let verified = verifier.lock().unwrap().verify(
            &received(request),
            request.body.as_bytes(),
            Timestamp::now(),
        );
        if verified.is_err() || request.header("x-acs-action") != Some("AssumeRole") {
            let sent = request.header("authorization").unwrap_or_default();
            let refusal = json!({"Code": "SignatureDoesNotMatch", "Message": format!("to sign: {sent}, {}", request.line)});
            return Act::Json(400, refusal.to_string());
        }
        let mut session = session(number, 0);
        session["Expiration"] = json!((Timestamp::now() + lasting).strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        Act::Json(200, json!({"RequestId": "R", "Credentials": session}).to_string())
    })
    .await
}

async fn discovered(surroundings: &ProviderContext) -> Provider {
    Provider::discover(surroundings).await.expect("a source")
}

async fn fetched(variables: &[(&str, &str)]) -> Arc<Credentials> {
    discovered(&surroundings(variables)).await.get().await.expect("credentials")
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&KEY[..], more].concat()
}

#[tokio::test]
async fn a_key_in_the_environment_assumes_a_role() {
    let sts = sts(SignedDuration::from_hours(1)).await;
    let variables = with(&[
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_ROLE_SESSION_NAME", "edge"),
        ("ALIBABA_CLOUD_EXTERNAL_ID", "partner 7"),
        ("ALIBABA_CLOUD_ROLE_POLICY", POLICY),
        ("ALIBABA_CLOUD_STS_ENDPOINT", &sts.url),
    ]);
    let provider = discovered(&surroundings(&variables)).await;
    assert_eq!(provider.source(), format!("environment variables, which assume role {ROLE}"));
    let credentials = provider.get().await.expect("credentials");
    assert_eq!(parts(&credentials), ("STS.0", "session-secret", Some("token-0")));
    assert!(credentials.expiration().is_some());

    let [request] = &sts.requests()[..] else { panic!("one request") };
    for (name, value) in [
        ("RoleArn", ROLE),
        ("RoleSessionName", "edge"),
        ("ExternalId", "partner 7"),
        ("Policy", POLICY),
        ("DurationSeconds", "3600"),
    ] {
        assert_eq!(request.parameter(name).as_deref(), Some(value), "{}", request.line);
    }
    assert_eq!(request.header("x-acs-version"), Some("2015-04-01"));
}

#[tokio::test]
async fn a_role_of_a_service_account_is_not_assumed_by_the_key() {
    let variables = with(&[
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/nowhere"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
    ]);
    assert_eq!(parts(&*fetched(&variables).await), ("LTAI-key", "key-secret", None));
}

#[tokio::test]
async fn a_refused_role_is_named_without_a_secret() {
    let sts = sts(SignedDuration::from_hours(1)).await;
    let variables = [
        KEY[0],
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "another-secret"),
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_EXTERNAL_ID", "the-partners-id"),
        ("ALIBABA_CLOUD_STS_ENDPOINT", &sts.url),
    ];
    let error = discovered(&surroundings(&variables)).await.get().await.expect_err("refused");
    assert!(!error.is_passing(), "{error}");
    let error = error.to_string();
    assert!(error.contains(ROLE) && error.contains("SignatureDoesNotMatch"), "{error}");
    for secret in ["another-secret", "the-partners-id", "LTAI-key"] {
        assert!(!error.contains(secret), "{error}");
    }
}

/// A profile file in a folder, which is its first part.
fn profiles(all: &Value) -> (TempDir, String) {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("config.json");
    let config = json!({"current": "used", "profiles": all});
    std::fs::write(&file, config.to_string()).expect("written");
    let path = file.to_str().expect("a path").to_owned();
    (directory, path)
}

#[tokio::test]
async fn a_chain_of_roles_is_assumed_from_profile_to_profile() {
    let sts = sts(SignedDuration::from_hours(1)).await;
    let (_directory, file) = profiles(&json!([
        {"name": "first", "mode": "RamRoleArn", "access_key_id": "LTAI-key",
         "access_key_secret": "key-secret", "ram_role_arn": "acs:ram::1:role/first",
         "ram_session_name": "one", "expired_seconds": 900, "sts_endpoint": sts.url},
        {"name": "used", "mode": "ChainableRamRoleArn", "source_profile": "first",
         "ram_role_arn": ROLE, "ram_session_name": "two", "external_id": "x", "policy": POLICY},
    ]));
    let variables =
        [("ALIBABA_CLOUD_CONFIG_FILE", file.as_str()), ("ALIBABA_CLOUD_STS_ENDPOINT", &sts.url)];
    assert_eq!(fetched(&variables).await.access_key_id(), "STS.1");
    let [first, second] = &sts.requests()[..] else { panic!("two requests") };
    assert_eq!(first.parameter("RoleArn").as_deref(), Some("acs:ram::1:role/first"));
    assert_eq!(first.parameter("DurationSeconds").as_deref(), Some("900"));
    assert_eq!(first.parameter("ExternalId"), None);
    assert_eq!(second.parameter("RoleArn").as_deref(), Some(ROLE));
    assert_eq!(second.parameter("RoleSessionName").as_deref(), Some("two"));
    assert_eq!(second.parameter("Policy").as_deref(), Some(POLICY));
    assert_eq!(second.header("x-acs-security-token"), Some("token-0"));
}

#[tokio::test]
async fn each_mode_without_a_browser_works() {
    let sts = sts(SignedDuration::from_hours(1)).await;
    let other = Server::start(|request: &Request, _| {
        if request.line.starts_with("PUT") {
            return Act::Json(404, String::new());
        }
        let session = session(7, 60);
        if request.line.contains("Action=AssumeRoleWithOIDC") {
            return Act::Json(200, json!({"Credentials": session}).to_string());
        }
        Act::Json(200, session.to_string())
    })
    .await;
    let (_directory, token) = profiles(&json!([]));
    let printed = json!({"mode": "StsToken", "access_key_id": "STS.8", "access_key_secret": "s",
        "sts_token": "t", "expiration": 4_070_908_800_i64});
    let by_instance = [
        json!({"mode": "EcsRamRole", "ram_role_name": "r"}),
        json!({"mode": "CredentialsURI", "credentials_uri": other.url}),
        json!({"mode": "OIDC", "ram_role_arn": ROLE, "oidc_provider_arn": "p",
            "oidc_token_file": token, "sts_endpoint": other.url}),
    ];
    let mut modes: HashMap<&str, Vec<Value>> = HashMap::from([("STS.7", by_instance.to_vec())]);
    modes.insert(
        "STS.8",
        vec![json!({"mode": "External",
        "process_command": format!("printf %s '{printed}'")})],
    );
    for (id, all) in modes {
        for mut profile in all {
            profile["name"] = json!("used");
            let (_directory, file) = profiles(&json!([profile]));
            let context = surroundings(&[("ALIBABA_CLOUD_CONFIG_FILE", file.as_str())])
                .with_metadata(url(&other.url));
            let credentials = discovered(&context).await.get().await;
            let credentials = credentials.unwrap_or_else(|error| panic!("{profile}: {error}"));
            assert_eq!(credentials.access_key_id(), id, "{profile}");
            assert!(credentials.expiration().is_some(), "{profile}");
        }
    }
    // The instance's session is one that this STS has issued.
    let (_directory, file) = profiles(&json!([{"name": "used", "mode": "RamRoleArnWithRoleName",
        "ram_role_name": "r", "ram_role_arn": ROLE, "sts_endpoint": sts.url}]));
    let context = surroundings(&[("ALIBABA_CLOUD_CONFIG_FILE", file.as_str())])
        .with_metadata(url(&other.url));
    let credentials = discovered(&context).await.get().await.expect("credentials");
    assert_eq!(credentials.access_key_id(), "STS.0");
    assert_eq!(sts.requests()[0].header("x-acs-accesskey-id"), Some("STS.7"));
}

#[rstest]
#[case::browser(json!({"mode": "CloudSSO"}), "the mode CloudSSO needs a browser; use one of AK")]
#[case::unknown(json!({"mode": "RsaKeyPair"}), r#"the mode "RsaKeyPair" is not supported"#)]
#[case::no_role(
    json!({"mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "hush"}),
    "ram_role_arn is empty"
)]
#[case::no_source(json!({"mode": "ChainableRamRoleArn", "ram_role_arn": ROLE}), "source_profile is empty")]
#[case::lost(
    json!({"mode": "ChainableRamRoleArn", "ram_role_arn": ROLE, "source_profile": "lost"}),
    r#"has no profile "lost""#
)]
#[case::circle(
    json!({"mode": "ChainableRamRoleArn", "ram_role_arn": ROLE, "source_profile": "used"}),
    "it is its own source_profile"
)]
#[case::plaintext(
    json!({"mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "hush",
        "ram_role_arn": ROLE, "sts_endpoint": "http://sts.example"}),
    "must be https://"
)]
#[case::quote(json!({"mode": "External", "process_command": "print 'hush"}), "an open quote")]
#[tokio::test]
async fn a_profile_that_cannot_be_used_says_why(#[case] mut profile: Value, #[case] why: &str) {
    profile["name"] = json!("used");
    let (_directory, file) = profiles(&json!([profile]));
    let variables = [("ALIBABA_CLOUD_CONFIG_FILE", file.as_str())];
    let missing = Provider::discover(&surroundings(&variables)).await;
    let Err(missing) = missing else { panic!("a source") };
    let said = missing.remedy();
    assert!(said.contains(why) && !said.contains("hush"), "{said}");
}

#[rstest]
#[case::fails("false", "ended with exit status: 1", true)]
#[case::missing("/nowhere/program hush", "cannot be run", false)]
#[case::other("printf hush", "did not print the JSON", false)]
#[tokio::test]
async fn a_program_that_fails_says_why(
    #[case] command: &str,
    #[case] why: &str,
    #[case] is_passing: bool,
) {
    let (_directory, file) =
        profiles(&json!([{"name": "used", "mode": "External", "process_command": command}]));
    let variables = [("ALIBABA_CLOUD_CONFIG_FILE", file.as_str())];
    let error =
        discovered(&surroundings(&variables)).await.get().await.expect_err("no credentials");
    assert_eq!(error.is_passing(), is_passing, "{error}");
    assert!(error.to_string().contains(why) && !error.to_string().contains("hush"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaches_go_through_the_end_of_a_session() {
    let sts = sts(SignedDuration::from_secs(4)).await;
    let stage = Stage::new(&["i-1"], 2).await;
    let sessions = |expired: usize| {
        let keys = (0..100).map(issued).enumerate();
        keys.map(move |(number, key)| AccessKey {
            state: if number < expired { KeyState::Expired } else { KeyState::Active },
            ..key
        })
    };
    stage.ens.set_keys(sessions(0).collect());
    let settings =
        with(&[("ALIBABA_CLOUD_ROLE_ARN", ROLE), ("ALIBABA_CLOUD_STS_ENDPOINT", &sts.url)]);
    let replica = stage.replica(&settings).await;
    let client = replica.client().await;
    try_attach(&client, attach("i-1", &eni(1))).await.unwrap();
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    eventually("the clock stands", async || Timestamp::now() > end).await;
    // ENS takes no session of before.
    stage.ens.set_keys(sessions(sts.count()).collect());
    try_attach(&client, attach("i-1", &eni(2))).await.unwrap();
    assert!(sts.count() >= 2);
    assert!(!replica.log().contains("ens refused a call"), "{}", replica.log());
}
