//! ACS3-HMAC-SHA256, the signature of Alibaba Cloud's OpenAPI ("V3"). Pure: the caller gives date
//! and nonce.
//!
//! The key is the raw secret, without derivation, scope or region. Only `host` and `x-acs-*` are
//! signed, so headers that a client or proxy adds are harmless. The query on the wire must be
//! [`canonical_query`] itself: form encoders turn a space into `+` and keep `*`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::percent::encode;

/// The algorithm's name in `Authorization` and in the string to sign.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Headers by their lower-case names.
pub type Headers = BTreeMap<&'static str, String>;

/// The key that signs, with the token of a session.
#[derive(Debug, Clone, Copy)]
pub struct SigningKey<'a> {
    /// The key's id.
    pub id: &'a str,
    /// The key.
    pub secret: &'a SecretString,
    /// The session's token.
    pub token: Option<&'a SecretString>,
}

/// One RPC-style call: path `/`, method POST, parameters in the query, no body.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `Host` as on the wire, with the port if it is not the scheme's default.
    pub host: &'a str,
    /// `x-acs-action`.
    pub action: &'a str,
    /// `x-acs-version`.
    pub version: &'a str,
    /// The parameters' canonical form.
    pub query: &'a str,
    /// `x-acs-date`, sent with a resolution of one second.
    pub date: Timestamp,
    /// `x-acs-signature-nonce`: unique.
    pub nonce: &'a str,
}

impl Call<'_> {
    /// All headers of the call, with `host` and `authorization`. They hold the security token, so
    /// they must not be logged.
    #[must_use]
    pub fn headers(&self, key: SigningKey<'_>) -> Headers {
        let body = hex_sha256(b"");
        let mut headers = Headers::from([
            ("host", self.host.to_owned()),
            ("x-acs-action", self.action.to_owned()),
            ("x-acs-version", self.version.to_owned()),
            ("x-acs-date", self.date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("x-acs-signature-nonce", self.nonce.to_owned()),
            ("x-acs-content-sha256", body.clone()),
        ]);
        if let Some(token) = key.token {
            headers.insert("x-acs-accesskey-id", key.id.to_owned());
            headers.insert("x-acs-security-token", token.expose_secret().to_owned());
        }
        let signed = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let authorization = authorization("POST", "/", self.query, signed, &body, key);
        headers.insert("authorization", authorization);
        headers
    }
}

/// The value of `Authorization`. `headers` are signed: lower-case, sorted, unique names.
#[must_use]
pub fn authorization<'a>(
    method: &str,
    path: &str,
    query: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    body_sha256: &str,
    key: SigningKey<'_>,
) -> String {
    let names = headers.clone().map(|(name, _)| name).collect::<Vec<_>>().join(";");
    let mut canonical = format!("{method}\n{path}\n{query}\n");
    for (name, value) in headers {
        // A write to a String cannot fail.
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{body_sha256}");
    let to_sign = format!("{ALGORITHM}\n{}", hex_sha256(canonical.as_bytes()));
    let signature = hex_hmac(key.secret.expose_secret().as_bytes(), to_sign.as_bytes());
    format!("{ALGORITHM} Credential={},SignedHeaders={names},Signature={signature}", key.id)
}

/// Parameters sorted by name, byte by byte, and encoded once; also the query on the wire.
#[must_use]
pub fn canonical_query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = parameters.into_iter().collect();
    let pairs = sorted.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// SHA-256 in lower-case hexadecimal digits.
#[must_use]
pub fn hex_sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hex_hmac(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use url::Url;

    use super::*;
    use crate::ens::credentials::Credentials;

    #[derive(Deserialize)]
    struct Vectors {
        acs3: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        kind: String,
        method: String,
        host: String,
        path: String,
        query: BTreeMap<String, String>,
        headers_in: BTreeMap<String, String>,
        body: String,
        access_key_id: String,
        access_key_secret: String,
        security_token: Option<String>,
        canonical_query_string: String,
        authorization: String,
    }

    fn vectors() -> Vec<Vector> {
        let text = include_str!("../../tests/data/acs3-vectors.json");
        serde_json::from_str::<Vectors>(text).expect("the vectors are JSON").acs3
    }

    impl Vector {
        fn credentials(&self) -> Credentials {
            let credentials =
                Credentials::new(self.access_key_id.clone(), self.access_key_secret.clone());
            match &self.security_token {
                Some(token) => credentials.with_token(token.clone()),
                None => credentials,
            }
        }

        fn canonical_query(&self) -> String {
            canonical_query(self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        }

        /// Whether the call has this gateway's form.
        fn is_ours(&self) -> bool {
            let has_ids =
                self.security_token.is_none() || self.headers_in.contains_key("x-acs-accesskey-id");
            self.kind != "sdk-client" && self.method == "POST" && self.body.is_empty() && has_ids
        }
    }

    #[test]
    fn the_official_sdk_signs_the_same() {
        let vectors = vectors();
        assert!(vectors.len() >= 32, "only {} vectors", vectors.len());
        for vector in vectors {
            let query = vector.canonical_query();
            assert_eq!(query, vector.canonical_query_string, "{}", vector.name);
            let headers =
                vector.headers_in.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let body = hex_sha256(vector.body.as_bytes());
            let got = authorization(
                &vector.method,
                &vector.path,
                &query,
                headers,
                &body,
                vector.credentials().signing_key(),
            );
            assert_eq!(got, vector.authorization, "{}", vector.name);
        }
    }

    #[test]
    fn a_call_carries_the_minimal_headers_signed() {
        let ours: Vec<_> = vectors().into_iter().filter(Vector::is_ours).collect();
        assert!(ours.len() >= 10, "only {} vectors", ours.len());
        for vector in ours {
            let call = Call {
                host: &vector.host,
                action: &vector.headers_in["x-acs-action"],
                version: &vector.headers_in["x-acs-version"],
                query: &vector.canonical_query(),
                date: vector.headers_in["x-acs-date"].parse().expect("a date"),
                nonce: &vector.headers_in["x-acs-signature-nonce"],
            };
            let mut headers = call.headers(vector.credentials().signing_key());
            assert_eq!(
                headers.remove("authorization").as_ref(),
                Some(&vector.authorization),
                "{}",
                vector.name
            );
            let sent: BTreeMap<_, _> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!(sent, vector.headers_in, "{}", vector.name);
        }
    }

    #[test]
    fn a_url_keeps_the_canonical_query_as_it_is() {
        for vector in vectors() {
            let mut url = Url::parse("https://ens.aliyuncs.com/").expect("a URL");
            url.set_query(Some(&vector.canonical_query_string));
            assert_eq!(
                url.query(),
                Some(vector.canonical_query_string.as_str()),
                "{}",
                vector.name
            );
        }
    }

    #[test]
    fn the_date_is_cut_to_the_second() {
        let call = Call {
            host: "ens.aliyuncs.com",
            action: "A",
            version: "V",
            query: "",
            date: "2026-03-27T08:09:10.987Z".parse().expect("a date"),
            nonce: "n",
        };
        assert_eq!(
            call.headers(Credentials::new("id", "secret").signing_key())["x-acs-date"],
            "2026-03-27T08:09:10Z"
        );
    }
}
