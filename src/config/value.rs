//! Parsers and renderers of settings' values.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// A type of a setting's value.
pub trait Value: Sized {
    /// A valid example, for error messages.
    const EXAMPLE: &'static str;

    /// Parses a value.
    ///
    /// # Errors
    /// The problem. It quotes the text only if that cannot be a secret.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as TOML, secrets masked; `None` for an unset optional one.
    fn render(&self) -> Option<String>;
}

/// The text for an error message: escaped and cut.
fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?} and so on", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn quoted(text: impl fmt::Display) -> Option<String> {
    Some(toml::Value::String(text.to_string()).to_string())
}

impl Value for bool {
    const EXAMPLE: &'static str = "true";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{} is neither true nor false", shown(text)))
    }

    fn render(&self) -> Option<String> {
        Some(self.to_string())
    }
}

fn no_whole_number(text: &str) -> &'static str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix('-') {
        Some(rest) if digits(rest) => "is below 0",
        None if digits(text) => "is far too large",
        _ => "is not a whole number",
    }
}

macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const EXAMPLE: &'static str = "10";

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{} {}", shown(text), no_whole_number(text)))
            }

            fn render(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

whole_number!(u32, usize);

/// Maximum duration of a setting, so that sums cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Value for Duration {
    const EXAMPLE: &'static str = "250ms";

    fn parse(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(duration) if duration > LONGEST => {
                Err(format!("{} is longer than a year", shown(text)))
            }
            Ok(duration) => Ok(duration),
            Err(error) => Err(format!("{} is not a duration ({error})", shown(text))),
        }
    }

    fn render(&self) -> Option<String> {
        quoted(humantime::format_duration(*self))
    }
}

impl Value for SocketAddr {
    const EXAMPLE: &'static str = "127.0.0.1:50051";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{} is not an address of the form IP:PORT", shown(text)))
    }

    fn render(&self) -> Option<String> {
        quoted(self)
    }
}

impl Value for String {
    const EXAMPLE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn render(&self) -> Option<String> {
        quoted(self)
    }
}

impl Value for PathBuf {
    const EXAMPLE: &'static str = "/etc/eni-gateway/file";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("an empty text is not a path".to_owned())
        } else {
            Ok(text.into())
        }
    }

    fn render(&self) -> Option<String> {
        quoted(self.display())
    }
}

/// An optional setting. An empty text means unset, as an empty variable does.
impl<T: Value> Value for Option<T> {
    const EXAMPLE: &'static str = T::EXAMPLE;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn render(&self) -> Option<String> {
        self.as_ref().and_then(T::render)
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

impl Value for LogFormat {
    const EXAMPLE: &'static str = "json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{} is none of auto, text and json", shown(text))),
        }
    }

    fn render(&self) -> Option<String> {
        quoted(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Where audit lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutput {
    /// To standard error, with the other lines.
    Stderr,
    /// To standard output.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

impl Value for AuditOutput {
    const EXAMPLE: &'static str = "stdout";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "stderr" => Ok(Self::Stderr),
            "stdout" => Ok(Self::Stdout),
            path if path.starts_with('/') => Ok(Self::File(path.into())),
            _ => Err(format!(
                "{} is none of stderr, stdout and the absolute path of a file",
                shown(text)
            )),
        }
    }

    fn render(&self) -> Option<String> {
        match self {
            Self::Stderr => quoted("stderr"),
            Self::Stdout => quoted("stdout"),
            Self::File(path) => path.render(),
        }
    }
}

/// An `http://` or `https://` URL without credentials, query or fragment, so it is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether requests to it are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }
}

impl Value for Endpoint {
    // Of a proxy: each other endpoint has a default.
    const EXAMPLE: &'static str = "http://proxy.example:3128";

    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("it is neither an https:// nor an http:// URL".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "this URL has no user and no password; the account's keys are in their own \
                 variables"
                    .to_owned(),
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("this URL has neither query nor fragment".to_owned());
        }
        Ok(Self(url))
    }

    fn render(&self) -> Option<String> {
        quoted(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LedgerUrl;

    #[test]
    fn every_example_parses() {
        fn holds<T: Value>() {
            T::parse(T::EXAMPLE).map(|_| ()).expect("the example parses");
        }
        holds::<bool>();
        holds::<u32>();
        holds::<usize>();
        holds::<Duration>();
        holds::<SocketAddr>();
        holds::<String>();
        holds::<Option<PathBuf>>();
        holds::<Endpoint>();
        holds::<LogFormat>();
        holds::<AuditOutput>();
        holds::<LedgerUrl>();
    }

    #[test]
    fn digits_stay_text() {
        assert_eq!(String::parse("00123").as_deref(), Ok("00123"));
        assert_eq!("00123".to_owned().render().as_deref(), Some("\"00123\""));
    }

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(Duration::parse("250ms"), Ok(Duration::from_millis(250)));
        assert!(Duration::parse("5").is_err());
        assert!(Duration::parse("-5s").is_err());
        assert!(Duration::parse("18446744073709551615s").is_err());
    }

    #[test]
    fn an_endpoint_holds_no_secret_and_knows_where_it_is() {
        for bad in
            ["ens.aliyuncs.com", "ftp://x", "https://user:hunter2@x", "https://x/?key=hunter2", ""]
        {
            let problem = Endpoint::parse(bad).expect_err(bad);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        for (text, loopback) in
            [("http://127.0.0.1:8080", true), ("http://[::1]:80", true), ("http://10.0.0.1", false)]
        {
            assert_eq!(Endpoint::parse(text).expect(text).is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_long_or_strange_text_is_shown_safely() {
        let problem = bool::parse(&"x".repeat(500)).expect_err("it is no bool");
        assert!(problem.len() < 120, "{problem}");
        assert!(bool::parse("a\u{1b}[31m").expect_err("it is no bool").contains("\\u{1b}"));
    }
}
