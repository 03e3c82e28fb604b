//! Tokens: which are accepted, and which are not.

use std::path::Path;
use std::time::Duration;

use eni_gateway::identity::token::{IssuerSettings, Tokens, algorithm};
use eni_gateway::identity::{IdentityError, KeySource, Kind};
use jsonwebtoken::Algorithm;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::issuer::Signer;

const ISSUER: &str = "https://issuer.example";
const SUBJECT: &str = "system:serviceaccount:web:api";

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "one", "typ": "JWT" })
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["other", "eni-gateway"], "sub": SUBJECT,
        "exp": now() + 600, "nbf": now() - 10, "groups": ["net", "ops", 5],
    })
}

async fn tokens(directory: &Path, keys: &[Value]) -> Tokens {
    tokens_of(directory, keys, true).await
}

async fn tokens_of(directory: &Path, keys: &[Value], require_key_id: bool) -> Tokens {
    let file = directory.join("keys.json");
    std::fs::write(&file, json!({ "keys": keys }).to_string()).expect("written");
    let issuer = IssuerSettings {
        alias: "cluster".to_owned(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["eni-gateway".to_owned()],
        algorithms: vec![Algorithm::ES256, Algorithm::RS256],
        keys: KeySource::File(file),
        leeway: Duration::from_secs(30),
        groups_claim: "groups".to_owned(),
        require_key_id,
    };
    Tokens::new(&[issuer], None).await.expect("good keys")
}

#[tokio::test]
async fn a_good_token_names_its_principal() {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let tokens = tokens(directory.path(), &[signer.jwk("one")]).await;
    let found = tokens.principal(&signer.token(&header(), &claims())).await.expect("identified");
    assert_eq!(&*found.name.0, "cluster:system:serviceaccount:web:api");
    assert_eq!((found.kind, &*found.issuer, &*found.namespace), (Kind::Token, "cluster", "web"));
    assert_eq!(found.groups, ["net", "ops"]);
    assert!(found.expires.is_some_and(|expires| expires > now() as i64 + 500));
}

/// `value` with these members, or without those that are null.
fn with(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().expect("an object") {
        let members = value.as_object_mut().expect("an object");
        members.remove(name);
        if !change.is_null() {
            members.insert(name.clone(), change.clone());
        }
    }
    value
}

#[rstest]
#[case::none(json!({"alg": "none"}), json!({}), "no header of a known form")]
#[case::shared_secret(json!({"alg": "HS256"}), json!({}), "may not use")]
#[case::another_family(json!({"alg": "RS256"}), json!({}), "that its key is not for")]
#[case::not_listed(json!({"alg": "ES384"}), json!({}), "may not use")]
#[case::no_key(json!({"kid": null}), json!({}), "names no key")]
#[case::unknown_key(json!({"kid": "two"}), json!({}), "does not have")]
#[case::critical(json!({"crit": ["exp"]}), json!({}), "critical")]
#[case::critical_b64(json!({"crit": ["b64"], "b64": true}), json!({}), "critical")]
#[case::wrong_issuer(json!({}), json!({"iss": "https://evil.example"}), "unknown issuer")]
#[case::two_issuers(json!({}), json!({"iss": [ISSUER, "https://evil.example"]}), "names no issuer")]
#[case::no_issuer(json!({}), json!({"iss": null}), "names no issuer")]
#[case::wrong_audience(json!({}), json!({"aud": "other"}), "another audience")]
#[case::no_audience(json!({}), json!({"aud": null}), "lacks one of the claims")]
#[case::expired(json!({}), json!({"exp": now() - 31}), "has expired")]
#[case::expired_long_ago(json!({}), json!({"exp": 1}), "has expired")]
#[case::no_expiry(json!({}), json!({"exp": null}), "malformed")]
#[case::expiry_as_text(json!({}), json!({"exp": "4000000000"}), "malformed")]
#[case::negative_expiry(json!({}), json!({"exp": -1}), "lacks one of the claims")]
#[case::not_yet_valid(json!({}), json!({"nbf": now() + 60}), "not valid yet")]
#[case::no_subject(json!({}), json!({"sub": null}), "malformed")]
#[case::empty_subject(json!({}), json!({"sub": ""}), "cannot be a name")]
#[case::a_subject_with_a_line(json!({}), json!({"sub": "a\nb"}), "cannot be a name")]
#[case::long_subject(json!({}), json!({"sub": "a".repeat(257)}), "cannot be a name")]
#[case::long(json!({}), json!({"padding": "a".repeat(8192)}), "longer than 8 KiB")]
#[tokio::test]
async fn a_bad_token_is_refused(
    #[case] in_header: Value,
    #[case] in_claims: Value,
    #[case] problem: &str,
) {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let tokens = tokens(directory.path(), &[signer.jwk("one")]).await;
    let token = signer.token(&with(header(), &in_header), &with(claims(), &in_claims));
    let error = tokens.principal(&token).await.expect_err("refused").to_string();
    assert!(error.contains(problem), "{error}");
    assert!(!error.contains("evil"), "{error}");
}

#[tokio::test]
async fn only_the_issuer_s_keys_count() {
    let (directory, signer, stranger) =
        (TempDir::new().expect("a directory"), Signer::new(), Signer::new());
    let tokens = tokens(directory.path(), &[signer.jwk("one")]).await;
    let own_key = with(header(), &json!({ "jwk": stranger.jwk("one") }));
    for header in [header(), own_key] {
        let error = tokens.principal(&stranger.token(&header, &claims())).await;
        assert_eq!(error, Err(IdentityError::Token("has an invalid signature")));
    }
    let good = signer.token(&header(), &claims());
    let other = signer.token(&header(), &with(claims(), &json!({ "sub": "admin" })));
    let (good, other): (Vec<_>, Vec<_>) = (good.split('.').collect(), other.split('.').collect());
    let mixed = [good[0], other[1], good[2]].join(".");
    let stripped = [good[0], good[1], ""].join(".");
    for token in [mixed, stripped] {
        let error = tokens.principal(&token).await;
        assert_eq!(error, Err(IdentityError::Token("has an invalid signature")));
    }
    for token in ["", ".", "..", "a.b.c", "a.b.c.d", "e30.e30.e30"] {
        assert!(tokens.principal(token).await.is_err(), "{token:?}");
    }
}

#[tokio::test]
async fn a_token_that_was_verified_is_refused_when_its_key_no_longer_verifies_it() {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let (jwk, other) = (signer.jwk("one"), Signer::new().jwk("one"));
    let tokens = tokens(directory.path(), std::slice::from_ref(&jwk)).await;
    let token = signer.token(&header(), &claims());
    let for_another_algorithm = with(jwk.clone(), &json!({ "alg": "ES384" }));
    let renamed = with(jwk.clone(), &json!({ "kid": "two" }));
    for changed in [other, for_another_algorithm, renamed] {
        for (key, verifies) in [(&jwk, true), (&changed, false), (&jwk, true)] {
            let text = json!({ "keys": [key] }).to_string();
            std::fs::write(directory.path().join("keys.json"), text).expect("written");
            tokens.refresh().await.expect("good keys");
            for _ in 0..2 {
                assert_eq!(tokens.principal(&token).await.is_ok(), verifies, "{changed}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_was_verified_is_refused_after_its_expiry() {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let tokens = tokens(directory.path(), &[signer.jwk("one")]).await;
    // Its leeway ends soon.
    let expires = now() - 28;
    let token = signer.token(&header(), &with(claims(), &json!({ "exp": expires })));
    tokens.principal(&token).await.expect("within the leeway");
    while now() <= expires + 30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = tokens.principal(&token).await;
    assert_eq!(error, Err(IdentityError::Token("has expired")));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_by_the_only_key_if_the_policy_says_so() {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let nameless = signer.token(&with(header(), &json!({ "kid": null })), &claims());
    let keys = [signer.jwk("one"), Signer::new().jwk("two")];
    let lenient = tokens_of(directory.path(), &keys[..1], false).await;
    assert!(lenient.principal(&nameless).await.is_ok());
    let unknown = signer.token(&with(header(), &json!({ "kid": "two" })), &claims());
    assert!(lenient.principal(&unknown).await.is_err(), "its name still counts");
    let two = tokens_of(directory.path(), &keys, false).await;
    assert!(two.principal(&nameless).await.is_err(), "two keys");
}

#[tokio::test]
async fn a_key_is_for_the_algorithm_that_its_set_names() {
    let (directory, signer) = (TempDir::new().expect("a directory"), Signer::new());
    let key = with(signer.jwk("one"), &json!({ "alg": "ES384" }));
    let tokens = tokens(directory.path(), &[key]).await;
    let error = tokens.principal(&signer.token(&header(), &claims())).await;
    assert!(error.expect_err("refused").to_string().contains("does not have"));
}

#[rstest]
#[case("none")]
#[case("HS256")]
#[case("HS512")]
#[case("es256")]
fn no_algorithm_with_a_shared_secret_can_be_configured(#[case] name: &str) {
    assert_eq!(algorithm(name), None);
}
