//! The issuers of tokens in the file of a policy.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Table;
use url::Url;

use super::entries::entries;
use crate::identity::KeySource;
use crate::identity::token::{IssuerSettings, algorithm};

/// Maximum tolerance for differences of clocks.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// An issuer as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerText {
    alias: String,
    issuer: String,
    audiences: Vec<String>,
    #[serde(default = "algorithms")]
    algorithms: Vec<String>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    #[serde(default = "leeway", with = "humantime_serde")]
    leeway: Duration,
    #[serde(default = "groups_claim")]
    groups_claim: String,
    #[serde(default = "require_key_id")]
    require_key_id: bool,
}

fn algorithms() -> Vec<String> {
    ["RS256", "ES256"].map(str::to_owned).to_vec()
}

const fn leeway() -> Duration {
    Duration::from_secs(30)
}

const fn require_key_id() -> bool {
    true
}

fn groups_claim() -> String {
    "groups".to_owned()
}

/// The issuers of the file.
pub(super) fn read(table: &Table, faults: &mut Vec<String>) -> Vec<IssuerSettings> {
    let issuers = entries::<IssuerText>(table, "issuers", "alias", faults);
    let mut names = BTreeSet::new();
    for issuer in &issuers {
        for name in [&issuer.alias, &issuer.issuer] {
            if !names.insert(name.clone()) {
                faults.push(format!("issuers `{name}`: another issuer has this name"));
            }
        }
    }
    issuers.into_iter().filter_map(|issuer| check(issuer, faults)).collect()
}

/// The issuer, unless it has faults.
fn check(text: IssuerText, faults: &mut Vec<String>) -> Option<IssuerSettings> {
    let before = faults.len();
    let mut require = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("issuers `{}`: {what}", text.alias.escape_debug()));
        }
    };
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    require(
        (1..=32).contains(&text.alias.len()) && text.alias.bytes().all(letter),
        "the alias is not 1 to 32 lower-case letters, digits and dashes",
    );
    let taken = ["spiffe", "dns", "anonymous"].contains(&text.alias.as_str());
    require(!taken, "the alias begins other principals; choose another");
    require(!text.issuer.is_empty(), "issuer: is empty");
    require(
        !text.audiences.is_empty() && text.audiences.iter().all(|it| !it.is_empty()),
        "audiences: is empty; name the audience of tokens for the gateway",
    );
    let known: Vec<_> = text.algorithms.iter().filter_map(|name| algorithm(name)).collect();
    require(
        !known.is_empty() && known.len() == text.algorithms.len(),
        "algorithms: use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA",
    );
    require(text.leeway <= MAX_LEEWAY, "leeway: is more than 5m");
    let keys = match (text.jwks_file, text.jwks_url) {
        (Some(file), None) => {
            let alone = text.ca_file.is_none() && text.token_file.is_none();
            require(alone, "ca_file and token_file: are for jwks_url; remove them");
            Some(KeySource::File(file))
        }
        (None, Some(url)) => {
            let url = Url::parse(&url).ok().filter(is_safe);
            require(
                url.is_some(),
                "jwks_url: is no https:// URL, or http:// of this machine, without a password",
            );
            let (ca_file, token_file) = (text.ca_file, text.token_file);
            url.map(|url| KeySource::Url { url, ca_file, token_file })
        }
        _ => {
            require(false, "set one of jwks_url and jwks_file");
            None
        }
    };
    let settings = IssuerSettings {
        issuer: text.issuer,
        audiences: text.audiences,
        algorithms: known,
        keys: keys?,
        leeway: text.leeway,
        groups_claim: text.groups_claim,
        require_key_id: text.require_key_id,
        alias: text.alias,
    };
    (faults.len() == before).then_some(settings)
}

/// Whether keys from this URL cannot be replaced on their way, and log lines may show the URL.
fn is_safe(url: &Url) -> bool {
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_public = url.username().is_empty() && url.password().is_none();
    is_public && (url.scheme() == "https" || (url.scheme() == "http" && local))
}
