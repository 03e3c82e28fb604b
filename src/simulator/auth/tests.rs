//! The verifier with requests of the official SDK, and with every kind of error.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// A request signed by the official SDK with fixed clock and nonce.
#[derive(Deserialize)]
struct Vector {
    name: String,
    method: String,
    path: String,
    headers_in: BTreeMap<String, String>,
    body: String,
    access_key_id: String,
    access_key_secret: String,
    security_token: Option<String>,
    canonical_query_string: String,
    authorization: String,
    url_sent_by_sdk: Option<String>,
}

#[derive(Deserialize)]
struct Vectors {
    acs3: Vec<Vector>,
}

impl Vector {
    fn parts(&self) -> Parts {
        let sent = self
            .url_sent_by_sdk
            .as_ref()
            .and_then(|url| url.split_once('?'))
            .map(|(_, query)| query.to_owned());
        let query = sent.unwrap_or_else(|| self.canonical_query_string.clone());
        let mut request = http::Request::builder()
            .method(self.method.as_str())
            .uri(format!("{}?{query}", self.path))
            .header("authorization", &self.authorization);
        for (name, value) in &self.headers_in {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn verifier(&self) -> Verifier {
        let key = AccessKey::new(&*self.access_key_id, &*self.access_key_secret);
        Verifier::new(vec![match &self.security_token {
            Some(token) => key.with_token(token),
            None => key,
        }])
    }

    fn now(&self) -> Timestamp {
        self.headers_in["x-acs-date"].parse().unwrap()
    }

    fn verify(&self, parts: &Parts) -> Result<(), String> {
        self.verifier()
            .verify(parts, self.body.as_bytes(), self.now())
            .map_err(|refusal| refusal.code.into_owned())
    }
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../tests/data/acs3-vectors.json");
    serde_json::from_str::<Vectors>(text).unwrap().acs3
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

#[test]
fn every_request_of_the_official_sdk_passes_as_it_was_sent() {
    let vectors = vectors();
    assert!(vectors.len() > 30);
    for vector in vectors {
        assert_eq!(vector.verify(&vector.parts()), Ok(()), "{}", vector.name);
    }
}

#[test]
fn a_request_changed_after_signing_is_refused() {
    for vector in vectors() {
        let mut parts = vector.parts();
        parts.headers.insert("x-acs-action", "DetachNetworkInterfaces".parse().unwrap());
        assert_eq!(
            vector.verify(&parts),
            Err("SignatureDoesNotMatch".to_owned()),
            "{}",
            vector.name
        );

        let mut parts = vector.parts();
        parts.uri = format!("{}&More=1", parts.uri).parse().unwrap();
        assert_eq!(
            vector.verify(&parts),
            Err("SignatureDoesNotMatch".to_owned()),
            "{}",
            vector.name
        );
    }
}

#[test]
fn a_body_other_than_the_hashed_one_is_refused() {
    let vector = vector("attach-form-body-ak");
    let refusal =
        vector.verifier().verify(&vector.parts(), b"InstanceId=i-other", vector.now()).unwrap_err();
    assert_eq!(refusal.code, "SignatureDoesNotMatch");
}

#[test]
fn what_must_be_there_is_asked_for() {
    let vector = vector("attach-plain-sts");
    let without = |name: &str| {
        let mut parts = vector.parts();
        parts.headers.remove(name);
        vector.verify(&parts).unwrap_err()
    };
    assert_eq!(without("authorization"), "IncompleteSignature");
    for header in ["x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"] {
        assert_eq!(without(header), "MissingParameter", "{header}");
    }
}

#[test]
fn a_header_that_must_be_signed_cannot_be_added_unsigned() {
    let vector = vector("attach-plain-ak");
    let mut parts = vector.parts();
    parts.headers.insert("x-acs-security-token", "stolen".parse().unwrap());
    assert_eq!(vector.verify(&parts), Err("IncompleteSignature".to_owned()));
}

#[test]
fn malformed_authorizations_are_refused_without_a_panic() {
    let vector = vector("attach-plain-ak");
    for (text, code) in [
        ("", "IncompleteSignature"),
        ("Bearer x", "IncompleteSignature"),
        ("ACS3-HMAC-SHA256 Credential=testAccessKeyId", "IncompleteSignature"),
        ("ACS3-HMAC-SHA256 Credential=,SignedHeaders=host,Signature=00", "IncompleteSignature"),
        (
            "ACS3-HMAC-SHA256 Credential=unknown,SignedHeaders=host,Signature=00",
            "InvalidAccessKeyId.NotFound",
        ),
        (
            "ACS3-HMAC-SHA256 Credential=testAccessKeyId,SignedHeaders=host,Signature=00",
            "IncompleteSignature",
        ),
    ] {
        let mut parts = vector.parts();
        parts.headers.insert("authorization", text.parse().unwrap());
        assert_eq!(vector.verify(&parts), Err(code.to_owned()), "{text}");
    }
    let odd_hex = vector.authorization.rsplit_once('=').unwrap().0.to_owned() + "=xyz";
    let mut parts = vector.parts();
    parts.headers.insert("authorization", odd_hex.parse().unwrap());
    assert_eq!(vector.verify(&parts), Err("SignatureDoesNotMatch".to_owned()));
}

#[test]
fn the_date_has_a_window_and_one_format() {
    let vector = vector("attach-plain-ak");
    let at = |offset: SignedDuration| {
        let result = vector.verifier().verify(&vector.parts(), b"", vector.now() + offset);
        result.map_err(|refusal| refusal.code.into_owned())
    };
    for inside in [WINDOW, -WINDOW] {
        assert_eq!(at(inside), Ok(()));
        assert_eq!(
            at(inside + SignedDuration::from_secs(inside.signum().into())),
            Err("InvalidTimeStamp.Expired".to_owned())
        );
    }
    for bad in [
        "2026-03-27",
        "2026-03-27T08:09:10",
        "2026-03-27T08:09:10+00:00",
        "2026-03-27T08:09:10.5Z",
        "now",
    ] {
        let mut parts = vector.parts();
        parts.headers.insert("x-acs-date", bad.parse().unwrap());
        assert_eq!(vector.verify(&parts), Err("InvalidTimeStamp.Format".to_owned()), "{bad}");
    }
}

#[test]
fn a_nonce_is_good_once_and_only_a_right_signature_uses_it_up() {
    let vector = vector("attach-plain-ak");
    let mut verifier = vector.verifier();
    let mut wrong = vector.parts();
    wrong.headers.insert("x-acs-action", "Other".parse().unwrap());
    let mut code = |parts: &Parts| {
        verifier.verify(parts, b"", vector.now()).map_err(|refusal| refusal.code.into_owned())
    };
    assert_eq!(code(&wrong), Err("SignatureDoesNotMatch".to_owned()));
    assert_eq!(code(&vector.parts()), Ok(()));
    assert_eq!(code(&vector.parts()), Err("SignatureNonceUsed".to_owned()));
}

#[test]
fn keys_and_tokens_must_fit() {
    let (plain, sts) = (vector("attach-plain-ak"), vector("attach-plain-sts"));
    let check = |vector: &Vector, key: AccessKey| {
        let result = Verifier::new(vec![key]).verify(&vector.parts(), b"", vector.now());
        result.map_err(|refusal| refusal.code.into_owned()).unwrap_err()
    };
    let key = |vector: &Vector| AccessKey::new(&*vector.access_key_id, &*vector.access_key_secret);
    let token = sts.security_token.clone().unwrap();

    assert_eq!(
        check(&plain, AccessKey::new(&*plain.access_key_id, "wrong")),
        "SignatureDoesNotMatch"
    );
    assert_eq!(
        check(&plain, AccessKey { state: KeyState::Inactive, ..key(&plain) }),
        "InvalidAccessKeyId.Inactive"
    );
    assert_eq!(check(&plain, key(&plain).with_token("t")), "MissingSecurityToken");
    assert_eq!(
        check(&sts, key(&sts).with_token("other")),
        "InvalidSecurityToken.MismatchWithAccessKey"
    );
    assert_eq!(check(&sts, key(&sts)), "InvalidSecurityToken.MismatchWithAccessKey");
    let expired = AccessKey { state: KeyState::Expired, ..key(&sts).with_token(token) };
    assert_eq!(check(&sts, expired), "InvalidSecurityToken.Expired");
}

#[test]
fn debug_output_holds_no_secret() {
    let key = AccessKey::new("id", "hush").with_token("hush-too");
    assert!(!format!("{key:?} {:?}", Verifier::new(vec![key.clone()])).contains("hush"));
}
