//! Removal of the gateway's own credentials from the texts of servers. ENS repeats the string that
//! it expected to be signed, and with it what was sent: key id and token, also percent-encoded, in
//! base64 or in hexadecimal, or with escapes of JSON or HTML.

use std::collections::{BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::percent::encode;

/// Maximum number of remembered sets: the current credentials, and those before a refresh.
const MAX_REMEMBERED: usize = 4;
/// Minimum length of a secret, in bytes. A shorter one would match ordinary words.
const MIN_LENGTH: usize = 8;
/// The text that replaces a secret.
const REPLACEMENT: &str = "[redacted]";

/// Secrets in every form in which a server may repeat them. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    /// The forms of each set, longest form first; the oldest set first.
    sets: VecDeque<Vec<SecretString>>,
}

impl Redaction {
    /// Removes these texts.
    #[must_use]
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        Self { sets: VecDeque::from([forms(secrets)]) }
    }

    /// Removes these texts as well. Forgets the oldest set.
    #[must_use]
    pub fn and<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sets = self.sets.clone();
        sets.push_back(forms(secrets));
        while sets.len() > MAX_REMEMBERED {
            sets.pop_front();
        }
        Self { sets }
    }

    /// Removes the secrets from a text.
    pub fn clean(&self, text: &mut String) {
        for form in self.sets.iter().flatten().map(ExposeSecret::expose_secret) {
            if text.contains(form) {
                *text = text.replace(form, REPLACEMENT);
            }
        }
    }

    /// Removes the secrets from every text of a JSON value.
    pub fn clean_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.clean(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.clean_json(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.clean_json(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn forms<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Vec<SecretString> {
    let mut forms = BTreeSet::new();
    for secret in secrets.into_iter().filter(|secret| secret.len() >= MIN_LENGTH) {
        let once = encode(secret).to_string();
        let twice = encode(&once).to_string();
        for text in [secret, &once, &twice] {
            forms.extend([text.to_owned(), with_lower_hex(text)]);
            forms.extend(in_base64(text));
        }
        // As some libraries write JSON, in a text that itself is JSON.
        forms.insert(secret.replace('/', "\\/"));
        forms.insert(secret.replace('=', "\\u003d"));
        forms.insert(secret.replace('/', "\\/").replace('=', "\\u003d"));
        forms.extend(in_html(secret));
        forms.extend([secret.to_ascii_lowercase(), secret.to_ascii_uppercase()]);
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([hex.to_ascii_uppercase(), hex]);
    }
    let mut forms: Vec<String> = forms.into_iter().collect();
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.into_iter().map(SecretString::from).collect()
}

/// A text as pages show it: what is no letter or digit as a decimal or hexadecimal reference.
fn in_html(secret: &str) -> [String; 3] {
    let written = |reference: fn(u32) -> String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let one = |c: char| if plain(c) { c.to_string() } else { reference(c.into()) };
        secret.chars().map(one).collect()
    };
    [
        written(|code| format!("&#{code};")),
        written(|code| format!("&#x{code:X};")),
        written(|code| format!("&#x{code:x};")),
    ]
}

/// A percent-encoded text with lower-case digits.
fn with_lower_hex(text: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| {
        digits = if c == '%' { 3 } else { digits - i32::from(digits > 0) };
        if digits > 0 { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(lower).collect()
}

/// The characters that every base64 of a longer text with this part has, by the part's place in a
/// group of three bytes.
fn in_base64(part: &str) -> impl Iterator<Item = String> {
    (0..3_usize).flat_map(move |before| {
        let bytes = [&[0; 2][..before.min(2)], part.as_bytes()].concat();
        let whole = (8 * before).div_ceil(6)..8 * bytes.len() / 6;
        [STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|engine| {
            let text = engine.encode(&bytes);
            text.get(whole.clone()).unwrap_or_default().to_owned()
        })
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::ens::credentials::Credentials;

    const ID: &str = "LTAI5tExampleExample";
    const SECRET: &str = "a/secret+of=the-key";
    const TOKEN: &str = "CAIS+a/long=session==token";

    fn redaction() -> Redaction {
        let credentials = Credentials::new(ID, SECRET).with_token(TOKEN);
        Redaction::default().and(credentials.secrets())
    }

    fn cleaned(text: &str) -> String {
        let mut text = text.to_owned();
        redaction().clean(&mut text);
        text
    }

    #[test]
    fn a_secret_is_removed_in_every_form() {
        for secret in [ID, SECRET, TOKEN] {
            let once = encode(secret).to_string();
            let twice = encode(&once).to_string();
            let escaped = secret.replace('/', "\\/");
            let lower = with_lower_hex(&once);
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let page = secret.replace('/', "&#47;").replace('+', "&#43;").replace('=', "&#61;");
            let page_hex = page.replace("&#47", "&#x2F").replace("&#43", "&#x2B");
            let page_hex = page_hex.replace("&#61", "&#x3D");
            let (small, big) = (secret.to_lowercase(), secret.to_uppercase());
            for form in
                [secret, &once, &twice, &escaped, &lower, &hex, &page, &page_hex, &small, &big]
            {
                assert_eq!(cleaned(&format!("it was {form}!")), "it was [redacted]!", "{form}");
            }
            for before in ["", "1", "12", "123"] {
                let signed = format!("{before}x-acs-security-token:{secret}\nhost");
                for text in [STANDARD.encode(&signed), URL_SAFE_NO_PAD.encode(&signed)] {
                    assert!(cleaned(&text).contains(REPLACEMENT), "{signed}");
                }
            }
        }
        assert_eq!(
            cleaned("Specified access key is not found."),
            "Specified access key is not found."
        );
    }

    #[test]
    fn every_text_of_an_answer_is_cleaned() {
        let mut answer = json!({"Code": ID, "Rows": [{"Status": SECRET, "n": 1}], "none": null});
        redaction().clean_json(&mut answer);
        let expected =
            json!({"Code": REPLACEMENT, "Rows": [{"Status": REPLACEMENT, "n": 1}], "none": null});
        assert_eq!(answer, expected);
    }

    #[test]
    fn credentials_before_a_refresh_are_removed_too() {
        let later = redaction().and(["LTAI5tAnother", "the-other-secret"]);
        let mut text = format!("{ID} LTAI5tAnother");
        later.clean(&mut text);
        assert_eq!(text, format!("{REPLACEMENT} {REPLACEMENT}"));
    }

    #[test]
    fn short_words_stay() {
        let mut text = "the key of id".to_owned();
        Redaction::of(["id", "key"]).clean(&mut text);
        assert_eq!(text, "the key of id");
    }
}
