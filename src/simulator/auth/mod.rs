//! Verifies ACS3-HMAC-SHA256 signatures as ENS does, without the gateway's signer.
//!
//! The server reads `SignedHeaders`, so a caller may sign only the required headers, or all as the
//! SDKs do.

use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use super::refusal::Refusal;

mod canonical;
mod keys;
mod nonces;

pub use keys::{AccessKey, DEFAULT_ID, DEFAULT_SECRET, KeyState};

use nonces::Nonces;

/// Maximum difference of `x-acs-date` by default.
pub(super) const WINDOW: SignedDuration = SignedDuration::from_mins(15);
const ALGORITHM: &str = "ACS3-HMAC-SHA256 ";

/// The keys, and the nonces that were used with them.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<AccessKey>,
    window: SignedDuration,
    nonces: Nonces,
}

impl Verifier {
    /// A verifier of these keys.
    #[must_use]
    pub fn new(keys: Vec<AccessKey>) -> Self {
        Self { keys, window: WINDOW, nonces: Nonces::default() }
    }

    /// Sets another window for dates.
    #[must_use]
    pub fn with_window(self, window: SignedDuration) -> Self {
        Self { window, ..self }
    }

    /// Replaces the keys. Used nonces stay used.
    pub fn set_keys(&mut self, keys: Vec<AccessKey>) {
        self.keys = keys;
    }

    /// Verifies a request at the server's time `now`. Only a valid signature uses up its nonce.
    ///
    /// # Errors
    /// ENS's refusal.
    pub fn verify(&mut self, parts: &Parts, body: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let authorization = Authorization::of(parts)?;
        let date = date(header(parts, "x-acs-date")?)?;
        let nonce = header(parts, "x-acs-signature-nonce")?;
        let body_hash = header(parts, "x-acs-content-sha256")?;

        let key = self
            .keys
            .iter()
            .find(|key| key.id == authorization.key)
            .ok_or(Refusal::KEY_NOT_FOUND)?;
        if key.state == KeyState::Inactive {
            return Err(Refusal::KEY_INACTIVE);
        }
        if now.duration_since(date).abs() > self.window {
            return Err(Refusal::DATE_EXPIRED);
        }
        authorization.covers_enough(parts)?;
        if body_hash != canonical::sha256_hex(body) {
            return Err(Refusal::SIGNATURE_MISMATCH
                .saying("x-acs-content-sha256 is not the hash of the body."));
        }
        authorization.check(key, parts, body_hash)?;
        check_token(key, parts)?;
        if self.nonces.take(nonce, now, self.window * 2) {
            Ok(())
        } else {
            Err(Refusal::NONCE_USED)
        }
    }
}

/// The parsed `Authorization` header.
struct Authorization<'a> {
    key: &'a str,
    signed_headers: Vec<String>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn of(parts: &'a Parts) -> Result<Self, Refusal> {
        let text =
            parts.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let fields = text
            .and_then(|text| text.strip_prefix(ALGORITHM))
            .ok_or(Refusal::SIGNATURE_INCOMPLETE)?;
        let field = |name: &str| {
            let mut found = fields
                .split(',')
                .filter_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            found.next().filter(|value| !value.is_empty()).ok_or(Refusal::SIGNATURE_INCOMPLETE)
        };
        Ok(Self {
            key: field("Credential")?,
            signed_headers: field("SignedHeaders")?.split(';').map(str::to_owned).collect(),
            signature: field("Signature")?,
        })
    }

    /// Requires that `host`, `content-type` and every `x-acs-*` header are signed, with sorted
    /// lower-case names.
    fn covers_enough(&self, parts: &Parts) -> Result<(), Refusal> {
        let must =
            |name: &&str| name.starts_with("x-acs-") || *name == "host" || *name == "content-type";
        let unsigned = parts
            .headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(must)
            .find(|name| !self.signed_headers.iter().any(|signed| signed == name));
        match unsigned {
            Some(name) => Err(Refusal::SIGNATURE_INCOMPLETE
                .saying(format!("{name} must be among the signed headers."))),
            None if !self.signed_headers.is_sorted() => {
                Err(Refusal::SIGNATURE_INCOMPLETE.saying("The signed headers must be sorted."))
            }
            None => Ok(()),
        }
    }

    /// Compares in constant time.
    fn check(&self, key: &AccessKey, parts: &Parts, body_hash: &str) -> Result<(), Refusal> {
        let text = canonical::string_to_sign(parts, &self.signed_headers, body_hash)
            .ok_or(Refusal::SIGNATURE_INCOMPLETE)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key.secret())
            .map_err(|_| Refusal::SIGNATURE_MISMATCH)?;
        mac.update(text.as_bytes());
        let theirs = hex::decode(self.signature).map_err(|_| Refusal::SIGNATURE_MISMATCH)?;
        mac.verify_slice(&theirs).map_err(|_| {
            Refusal::SIGNATURE_MISMATCH.saying(format!(
                "Specified signature is not matched with our calculation. server string to sign is:{text}"
            ))
        })
    }
}

/// Runs after the signature check: the sender has the key's secret, so its timing reveals nothing.
fn check_token(key: &AccessKey, parts: &Parts) -> Result<(), Refusal> {
    let theirs = parts
        .headers
        .get("x-acs-security-token")
        .map(http::HeaderValue::as_bytes)
        .filter(|it| !it.is_empty());
    match (key.token(), theirs) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(Refusal::TOKEN_MISSING),
        (_, Some(theirs)) if !theirs.iter().all(u8::is_ascii_graphic) => {
            Err(Refusal::TOKEN_MALFORMED)
        }
        (Some(ours), Some(theirs)) if ours == theirs => match key.state {
            KeyState::Expired => Err(Refusal::TOKEN_EXPIRED),
            KeyState::Active | KeyState::Inactive => Ok(()),
        },
        (_, Some(_)) => Err(Refusal::TOKEN_MISMATCH),
    }
}

fn header<'a>(parts: &'a Parts, name: &str) -> Result<&'a str, Refusal> {
    let value = parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty());
    value.ok_or_else(|| Refusal::missing(name))
}

/// Parses exactly `YYYY-MM-DDTHH:MM:SSZ`.
fn date(text: &str) -> Result<Timestamp, Refusal> {
    let time: Timestamp = text.parse().map_err(|_| Refusal::DATE_FORMAT)?;
    if time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() == text {
        Ok(time)
    } else {
        Err(Refusal::DATE_FORMAT)
    }
}

#[cfg(test)]
mod tests;
