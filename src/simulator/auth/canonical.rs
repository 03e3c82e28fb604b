//! The canonical request of ACS3-HMAC-SHA256, from the received request.
//!
//! Trap: the official Python SDK signs `%20` and sends `+`. So the query is decoded as a form, and
//! encoded again.

use http::HeaderMap;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Characters to encode: all but RFC 3986's unreserved ones.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The string to sign; `None` if a signed header is missing or not text.
pub(super) fn string_to_sign(
    parts: &Parts,
    signed_headers: &[String],
    body_hash: &str,
) -> Option<String> {
    let headers: String = signed_headers
        .iter()
        .map(|name| Some(format!("{name}:{}\n", header_value(&parts.headers, name)?)))
        .collect::<Option<_>>()?;
    let request = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{body_hash}",
        parts.method,
        parts.uri.path(),
        query(parts.uri.query().unwrap_or_default()),
        signed_headers.join(";"),
    );
    Some(format!("ACS3-HMAC-SHA256\n{}", sha256_hex(request.as_bytes())))
}

/// Lower-case hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn header_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().ok().map(str::trim))
        .collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.join(","))
}

fn query(raw: &str) -> String {
    let mut pairs: Vec<_> = url::form_urlencoded::parse(raw.as_bytes()).into_owned().collect();
    pairs.sort_unstable();
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    pairs
        .iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}
