//! Each source of credentials, over real files and real HTTP, and their order.

use std::collections::HashMap;
use std::sync::Arc;

use eni_gateway::ens::credentials::chain::DiscoverError;
use eni_gateway::ens::credentials::{Credentials, Provider, ProviderContext};
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;
use url::Url;

use super::provider;
use super::server::{Act, Request, Server, response};

/// These variables and no others; a metadata service that is not there.
pub(super) fn surroundings(variables: &[(&str, &str)]) -> ProviderContext {
    provider();
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ProviderContext::new(Arc::new(move |name| variables.get(name).cloned()))
        .with_metadata(url("http://127.0.0.1:9"))
}

pub(super) fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

pub(super) fn session(number: usize, minutes: i64) -> serde_json::Value {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    json!({
        "Code": "Success", "AccessKeyId": format!("STS.{number}"), "AccessKeySecret": "session-secret",
        "SecurityToken": format!("token-{number}"), "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
}

async fn discovered(surroundings: &ProviderContext) -> Provider {
    Provider::discover(surroundings).await.expect("a source")
}

async fn get(surroundings: &ProviderContext) -> Arc<Credentials> {
    discovered(surroundings).await.get().await.expect("credentials")
}

pub(super) fn parts(credentials: &Credentials) -> (&str, &str, Option<&str>) {
    let token = credentials.security_token().map(|token| token.expose_secret());
    (credentials.access_key_id(), credentials.access_key_secret().expose_secret(), token)
}

#[tokio::test]
async fn the_environment_holds_a_key_or_a_session() {
    let key =
        [("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret\n")];
    assert_eq!(parts(&*get(&surroundings(&key)).await), ("id", "secret", None));
    let session = [key[0], key[1], ("ALIBABA_CLOUD_SECURITY_TOKEN", "token")];
    assert_eq!(parts(&*get(&surroundings(&session)).await), ("id", "secret", Some("token")));
}

#[tokio::test]
async fn a_service_account_s_token_is_exchanged_in_a_body_and_read_again_each_time() {
    let server = Server::start(|_, number| Act::Json(200, json!({"RequestId": "R", "Credentials": {
        "AccessKeyId": format!("STS.{number}"), "AccessKeySecret": "s", "SecurityToken": "t", "Expiration": "2099-01-01T00:00:00Z",
    }}).to_string()))
    .await;
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, "the.first.jwt\n").expect("written");
    let surroundings = surroundings(&[
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/gateway"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.to_str().expect("a path")),
        ("ALIBABA_CLOUD_STS_ENDPOINT", &server.url),
    ]);
    assert_eq!(
        discovered(&surroundings).await.source(),
        "OIDC (RRSA), role acs:ram::1:role/gateway"
    );
    assert_eq!(get(&surroundings).await.access_key_id(), "STS.0");
    std::fs::write(&file, "the.second.jwt").expect("written");
    assert_eq!(get(&surroundings).await.access_key_id(), "STS.1");

    let requests = server.requests();
    for (request, token) in requests.iter().zip(["the.first.jwt", "the.second.jwt"]) {
        assert!(request.line.starts_with(
            "POST /?Action=AssumeRoleWithOIDC&Format=JSON&Version=2015-04-01&Timestamp="
        ));
        assert!(!request.line.contains("jwt"), "the token is in the URL");
        let form: HashMap<_, _> =
            url::form_urlencoded::parse(request.body.as_bytes()).into_owned().collect();
        assert_eq!(form["OIDCToken"], token);
        assert_eq!(form["RoleArn"], "acs:ram::1:role/gateway");
        assert_eq!(form["OIDCProviderArn"], "acs:ram::1:oidc-provider/ack");
        assert_eq!(form["RoleSessionName"], "eni-gateway");
        assert_eq!(form["DurationSeconds"], "3600");
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn sts_s_own_words_are_in_the_error_and_no_secret_is() {
    let refusal = json!({"Code": "AuthenticationFail.OIDCToken.Expired", "Message": "expired", "RequestId": "R"});
    let server = Server::always(Act::Json(400, refusal.to_string())).await;
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, "the.secret.jwt").expect("written");
    let surroundings = surroundings(&[
        ("ALIBABA_CLOUD_ROLE_ARN", "r"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.to_str().expect("a path")),
        ("ALIBABA_CLOUD_STS_ENDPOINT", &server.url),
    ]);
    let error = discovered(&surroundings).await.get().await.expect_err("an error").to_string();
    assert!(
        error.contains("AuthenticationFail.OIDCToken.Expired") && !error.contains("jwt"),
        "{error}"
    );
}

fn profiles(directory: &TempDir) -> String {
    let file = directory.path().join("config.json");
    let config = json!({"current": "default", "profiles": [
        {"name": "default", "mode": "AK", "access_key_id": "ak", "access_key_secret": "aks"},
        {"name": "session", "mode": "StsToken", "access_key_id": "sts", "access_key_secret": "stss", "sts_token": "tok"},
        {"name": "role", "mode": "RamRoleArn", "access_key_id": "x", "access_key_secret": "profile-secret"},
    ]});
    std::fs::write(&file, config.to_string()).expect("written");
    file.to_str().expect("a path").to_owned()
}

#[rstest]
#[case::current(&[], ("ak", "aks", None))]
#[case::named(&[("ALIBABA_CLOUD_PROFILE", "session")], ("sts", "stss", Some("tok")))]
#[tokio::test]
async fn a_cli_profile_is_the_named_or_the_current_one(
    #[case] variables: &[(&str, &str)],
    #[case] expected: (&str, &str, Option<&str>),
) {
    let directory = TempDir::new().expect("a directory");
    let file = profiles(&directory);
    let all = [&[("ALIBABA_CLOUD_CONFIG_FILE", file.as_str())], variables].concat();
    assert_eq!(parts(&*get(&surroundings(&all)).await), expected);
}

#[tokio::test]
async fn the_profile_file_is_found_at_home() {
    let home = TempDir::new().expect("a directory");
    std::fs::create_dir(home.path().join(".aliyun")).expect("created");
    std::fs::copy(profiles(&home), home.path().join(".aliyun/config.json")).expect("copied");
    let found = get(&surroundings(&[("HOME", home.path().to_str().expect("a path"))])).await;
    assert_eq!(found.access_key_id(), "ak");
}

/// The metadata service, version 2 (which may be missing).
async fn metadata(v2: bool) -> Server {
    Server::start(move |request: &Request, _| {
        let token = request.header("x-aliyun-ecs-metadata-token");
        match request.line.split(' ').collect::<Vec<_>>()[..2] {
            ["PUT", "/latest/api/token"]
                if v2 && request.header("x-aliyun-ecs-metadata-token-ttl-seconds").is_some() =>
            {
                Act::Raw(response(200, "", "imds-token\n"))
            }
            ["PUT", _] => Act::Json(404, String::new()),
            ["GET", _] if v2 && token != Some("imds-token") => Act::Json(403, String::new()),
            ["GET", "/latest/meta-data/ram/security-credentials/"] => {
                Act::Json(200, "the-role\n".into())
            }
            ["GET", "/latest/meta-data/ram/security-credentials/the-role"] => {
                Act::Json(200, session(7, 360).to_string())
            }
            _ => Act::Json(404, String::new()),
        }
    })
    .await
}

#[rstest]
#[case::discovered(&[], true, 3)]
#[case::named(&[("ALIBABA_CLOUD_ECS_METADATA", "the-role")], true, 2)]
#[case::version_1(&[], false, 3)]
#[tokio::test]
async fn the_instance_s_role_comes_from_its_metadata(
    #[case] variables: &[(&str, &str)],
    #[case] v2: bool,
    #[case] requests: usize,
) {
    let server = metadata(v2).await;
    let surroundings = surroundings(variables).with_metadata(url(&server.url));
    let provider = discovered(&surroundings).await;
    let before = server.count();
    let credentials = provider.get().await.expect("credentials");
    assert_eq!(parts(&credentials), ("STS.7", "session-secret", Some("token-7")));
    assert!(credentials.expiration().is_some());
    assert_eq!(server.count() - before, requests);
    assert_eq!(provider.source(), "ECS role");
}

/// A metadata service whose version 2 fails in this way, where version 1 works.
async fn broken_v2(put: Option<Act>) -> Server {
    Server::start(move |request: &Request, _| {
        let has_token = request.header("x-aliyun-ecs-metadata-token").is_some();
        match (&put, request.line.split(' ').collect::<Vec<_>>()[..2].as_ref()) {
            (Some(act), ["PUT", _]) => act.clone(),
            (None, ["PUT", _]) => Act::Raw(response(200, "", "imds-token")),
            (_, ["GET", _]) if has_token => Act::Json(401, String::new()),
            _ => Act::Json(200, session(7, 360).to_string()),
        }
    })
    .await
}

#[rstest]
#[case::the_token_hangs(Some(Act::Stall(String::new())))]
#[case::the_token_is_reset(Some(Act::Reset(String::new())))]
#[case::the_token_is_refused(Some(Act::Json(500, String::new())))]
#[case::the_read_with_the_token_fails(None)]
#[tokio::test]
async fn version_1_replaces_a_version_2_that_fails(#[case] put: Option<Act>) {
    let server = broken_v2(put).await;
    let variables = [("ALIBABA_CLOUD_ECS_METADATA", "the-role")];
    let allowed = surroundings(&variables).with_metadata(url(&server.url));
    assert_eq!(get(&allowed).await.access_key_id(), "STS.7");
    let variables = [variables[0], ("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")];
    let forbidden = surroundings(&variables).with_metadata(url(&server.url));
    discovered(&forbidden).await.get().await.expect_err("version 1 is forbidden");
}

#[tokio::test]
async fn version_1_can_be_forbidden() {
    let server = metadata(false).await;
    let variables =
        [("ALIBABA_CLOUD_IMDSV1_DISABLED", "true"), ("ALIBABA_CLOUD_ECS_METADATA", "the-role")];
    let surroundings = surroundings(&variables).with_metadata(url(&server.url));
    let error = discovered(&surroundings).await.get().await.expect_err("an error").to_string();
    assert!(error.contains("ALIBABA_CLOUD_IMDSV1_DISABLED"), "{error}");
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_uri_is_the_last_resort_and_its_secret_part_is_not_shown() {
    let server = Server::always(Act::Json(200, session(1, 60).to_string())).await;
    let uri = format!("{}/credentials?key=hush", server.url);
    let surroundings = surroundings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &uri)]);
    let provider = discovered(&surroundings).await;
    assert_eq!(provider.source(), format!("credentials URI at {}", server.url));
    assert_eq!(provider.get().await.expect("credentials").access_key_id(), "STS.1");
}

/// Passing failures: an outage of a second is waited out, a longer one is reported as passing.
#[rstest]
#[case::throttled(Act::Json(400, json!({"Code": "Throttling.User", "Message": "slow down"}).to_string()), true)]
#[case::too_many(Act::Json(429, String::new()), true)]
#[case::outage(Act::Json(503, String::new()), true)]
#[case::reset(Act::Reset(String::new()), true)]
#[case::refused(Act::Json(403, json!({"Code": "NoPermission", "Message": "no"}).to_string()), false)]
#[tokio::test]
async fn a_short_outage_of_the_source_is_waited_out(#[case] act: Act, #[case] passes: bool) {
    let failing = act.clone();
    let server = Server::start(move |_, number| match number {
        0 | 1 => failing.clone(),
        _ => Act::Json(200, session(1, 60).to_string()),
    })
    .await;
    let variables = [("ALIBABA_CLOUD_CREDENTIALS_URI", server.url.as_str())];
    let fetched = discovered(&surroundings(&variables)).await.get().await;
    assert_eq!(fetched.is_ok(), passes, "{fetched:?}");

    let server = Server::always(act).await;
    let variables = [("ALIBABA_CLOUD_CREDENTIALS_URI", server.url.as_str())];
    let error = discovered(&surroundings(&variables)).await.get().await.expect_err("an outage");
    assert_eq!(error.is_passing(), passes, "{error}");
}

#[tokio::test]
async fn a_token_file_that_comes_late_is_awaited() {
    let answer = json!({"RequestId": "R", "Credentials": session(1, 60)});
    let server = Server::always(Act::Json(200, answer.to_string())).await;
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("token");
    let surroundings = surroundings(&[
        ("ALIBABA_CLOUD_ROLE_ARN", "r"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.to_str().expect("a path")),
        ("ALIBABA_CLOUD_STS_ENDPOINT", &server.url),
    ]);
    let provider = discovered(&surroundings).await;
    let (fetched, ()) = tokio::join!(provider.get(), async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        std::fs::write(&file, "the.jwt").expect("written");
    });
    assert_eq!(fetched.expect("credentials").access_key_id(), "STS.1");
}

#[rstest]
#[case::not_success(json!({"Code": "Failed"}), "Code")]
#[case::no_token(json!({"AccessKeyId": "a", "AccessKeySecret": "b", "Expiration": "2099-01-01T00:00:00Z"}), "SecurityToken")]
#[case::no_end(json!({"AccessKeyId": "a", "AccessKeySecret": "b", "SecurityToken": "c"}), "Expiration")]
#[case::ended(session(1, 0), "too soon")]
#[case::other(json!(["hush"]), "not the JSON")]
#[tokio::test]
async fn half_a_session_is_none(#[case] answer: serde_json::Value, #[case] why: &str) {
    let server = Server::always(Act::Json(200, answer.to_string())).await;
    let surroundings = surroundings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &server.url)]);
    let error = discovered(&surroundings).await.get().await.expect_err("an error").to_string();
    assert!(
        error.contains(why) && !error.contains("hush") && !error.contains("session-secret"),
        "{error}"
    );
}

#[tokio::test]
async fn the_order_is_environment_oidc_profile_role_uri() {
    let (directory, metadata_server) = (TempDir::new().expect("a directory"), metadata(true).await);
    let file = profiles(&directory);
    let mut variables = vec![
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret"),
        ("ALIBABA_CLOUD_ROLE_ARN", "arn"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/token"),
        ("ALIBABA_CLOUD_CONFIG_FILE", &file),
        ("ALIBABA_CLOUD_CREDENTIALS_URI", "http://127.0.0.1:9/"),
    ];
    let mut names = Vec::new();
    for remove in
        ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_CONFIG_FILE", "-"]
    {
        let surroundings = surroundings(&variables).with_metadata(url(&metadata_server.url));
        names.push(discovered(&surroundings).await.source());
        variables.retain(|(name, _)| *name != remove);
    }
    variables.push(("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"));
    names.push(discovered(&surroundings(&variables)).await.source());
    let starts = ["environment", "OIDC (RRSA)", "CLI profile", "ECS role", "credentials URI"];
    assert!(names.iter().zip(starts).all(|(name, start)| name.starts_with(start)), "{names:?}");
}

#[tokio::test]
async fn missing_credentials_say_what_was_tried_and_what_to_set() {
    let directory = TempDir::new().expect("a directory");
    let file = profiles(&directory);
    let surroundings = surroundings(&[
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
        ("ALIBABA_CLOUD_ROLE_ARN", "arn"),
        ("ALIBABA_CLOUD_CONFIG_FILE", &file),
        ("ALIBABA_CLOUD_PROFILE", "role"),
        ("ALIBABA_CLOUD_CREDENTIALS_URI", "hush"),
    ]);
    let Err(error @ DiscoverError::Missing(_)) = Provider::discover(&surroundings).await else {
        panic!("credentials were found");
    };
    let text = format!("{error}: {}", error.remedy());
    for part in [
        "ALIBABA_CLOUD_ACCESS_KEY_ID is set, but ALIBABA_CLOUD_ACCESS_KEY_SECRET is not",
        "OIDC (RRSA): not set: ALIBABA_CLOUD_OIDC_PROVIDER_ARN, ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        "profile \"role\": ram_role_arn is empty",
        "ECS role: the metadata service at http://127.0.0.1:9/",
        "credentials URI: ALIBABA_CLOUD_CREDENTIALS_URI is not an http:// or https:// URL",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("hush") && !text.contains("profile-secret"), "{text}");
}
