//! The form of key sets (JWKS).

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The begin of the SHA-256 of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPrint([u8; 16]);

/// A key of a set.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) print: KeyPrint,
    /// The one algorithm that the set permits for the key, if it names one.
    pub(super) algorithm: Option<String>,
    pub(super) key: DecodingKey,
}

/// The keys of a set that can verify signatures. Others are ignored, because issuers add new kinds.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value =
        serde_json::from_slice(text).map_err(|error| format!("are no key set: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("are no key set")?;
    let keys: Vec<Key> = keys.iter().filter_map(usable).collect();
    if keys.is_empty() { Err("has no usable key".to_owned()) } else { Ok(keys) }
}

fn usable(value: &Value) -> Option<Key> {
    // A shared secret is none that this process may have.
    if value.get("kty").and_then(Value::as_str) == Some("oct") {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| for_signatures)?;
    let algorithm = value.get("alg").and_then(Value::as_str).map(str::to_owned);
    Some(Key { id: jwk.common.key_id?, print: print(value), algorithm, key })
}

/// Of the members that make the key. Others, such as `use`, may change.
fn print(value: &Value) -> KeyPrint {
    let members = ["kty", "crv", "n", "e", "x", "y"].map(|name| value.get(name));
    let digest = Sha256::digest(format!("{members:?}").as_bytes());
    let mut print = [0; 16];
    print.copy_from_slice(&digest[..16]);
    KeyPrint(print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("{}", "no key set")]
    #[case("[]", "no key set")]
    #[case("<html>", "no key set")]
    #[case(r#"{"keys": []}"#, "no usable key")]
    #[case(r#"{"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}"#, "no usable key")]
    #[case(
        r#"{"keys": [{"kty": "RSA", "kid": "a", "use": "enc", "n": "AQAB", "e": "AQAB"}]}"#,
        "no usable key"
    )]
    #[case(r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#, "no usable key")]
    fn a_set_without_usable_keys_is_none(#[case] text: &str, #[case] problem: &str) {
        let error = parse(text.as_bytes()).expect_err("no keys");
        assert!(error.contains(problem), "{error}");
    }
}
