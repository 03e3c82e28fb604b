//! An issuer of tokens.

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for letter in 0..=chunk.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * letter)) as usize & 63]));
        }
    }
    text
}

fn unsigned(header: &Value, claims: &Value) -> String {
    [header, claims].map(|part| base64url(part.to_string().as_bytes())).join(".")
}

/// A key of an issuer.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        let (scheme, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(scheme, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(scheme, key.as_ref(), &random).expect("a key"))
    }

    pub(crate) fn jwk(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": x, "y": y })
    }

    /// A token whose signature is a MAC with this issuer's public key as the secret.
    pub(crate) fn confused_token(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.public_key().as_ref());
        let mac = hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", base64url(mac.as_ref()))
    }

    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).expect("signed");
        format!("{message}.{}", base64url(signature.as_ref()))
    }
}
