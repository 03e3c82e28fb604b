//! The public keys of an issuer (JWKS), from a file or a URL.
//!
//! The last good set stays in use while the source fails: from a file without a bound, from a URL
//! for a day. A token with an unknown key causes a fetch, at most one in 30 s.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Certificate, Client, redirect, retry};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::jwks::{Key, KeyPrint, parse};

/// Age at which the keys of a URL are fetched again.
const FETCH_AGE: Duration = Duration::from_secs(300);
/// Minimum time between two fetches.
const FETCH_PAUSE: Duration = Duration::from_secs(30);
/// Maximum age of the keys of a URL that fails.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Timeout for a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a key set, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url {
        /// The URL.
        url: Url,
        /// File of the CA certificates that verify it; `None` for the system's.
        ca_file: Option<PathBuf>,
        /// File with the token that the request sends; `None` for none.
        token_file: Option<PathBuf>,
    },
}

/// Why keys cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keys of {0}: {1}")]
pub struct KeySourceError(String, String);

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    /// The client of a URL, with the CA certificates that it trusts.
    client: ArcSwapOption<Fetcher>,
    current: ArcSwapOption<Set>,
    /// How often a key was withdrawn.
    withdrawals: AtomicU64,
    /// The last fetch. Held during one.
    last: Mutex<Option<Fetch>>,
}

#[derive(Debug)]
struct Fetcher {
    /// `None` for the system's.
    authorities: Option<Vec<u8>>,
    client: Client,
}

#[derive(Debug)]
struct Fetch {
    at: Instant,
    fault: Option<KeySourceError>,
}

#[derive(Debug)]
struct Set {
    text: Vec<u8>,
    keys: Vec<Key>,
    read_at: Instant,
}

impl Keys {
    /// The keys of a source. Those of a URL are fetched later, because the issuer may be down.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) async fn open(source: KeySource) -> Result<Self, KeySourceError> {
        let (client, current) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        let (withdrawals, last) = (AtomicU64::new(0), Mutex::default());
        let keys = Self { source, client, current, withdrawals, last };
        match &keys.source {
            KeySource::File(_) => {
                keys.read().await?;
            }
            KeySource::Url { url, ca_file, .. } => {
                let fault = |why: String| KeySourceError(url.to_string(), why);
                keys.client(ca_file.as_deref()).await.map_err(fault)?;
            }
        }
        Ok(keys)
    }

    /// The key of this id, if it is for the algorithm. Without an id, the only key of the set.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<(DecodingKey, KeyPrint)> {
        if let Some(key) = self.known(id, algorithm) {
            return Some(key);
        }
        if matches!(self.source, KeySource::Url { .. }) {
            // The old keys stay in use if it fails, and the refresh reports that.
            let _ = self.fetch(Duration::ZERO).await;
        }
        self.known(id, algorithm)
    }

    /// Whether the key of this print may still be used, as far as it is known: before the first
    /// fetch none is withdrawn.
    pub(super) fn has(&self, print: KeyPrint) -> bool {
        self.current.load().is_none()
            || self.usable_set().is_some_and(|set| set.keys.iter().any(|key| key.print == print))
    }

    /// How often a key was withdrawn.
    pub(super) fn withdrawals(&self) -> u64 {
        self.withdrawals.load(Ordering::Relaxed)
    }

    fn usable_set(&self) -> Option<Arc<Set>> {
        let is_url = matches!(self.source, KeySource::Url { .. });
        self.current.load_full().filter(|set| !is_url || set.read_at.elapsed() <= MAX_AGE)
    }

    /// As [`Keys::find`], without a fetch.
    pub(super) fn known(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<(DecodingKey, KeyPrint)> {
        let set = self.usable_set()?;
        let name = format!("{algorithm:?}");
        let has_id = |key: &Key| id.map_or(set.keys.len() == 1, |id| key.id == id);
        let fits = |key: &&Key| {
            has_id(key) && key.algorithm.as_ref().is_none_or(|algorithm| *algorithm == name)
        };
        set.keys.iter().find(fits).map(|key| (key.key.clone(), key.print))
    }

    /// Reads a file again, or fetches the keys of a URL if they are due; whether they changed.
    ///
    /// # Errors
    /// The source cannot be used. The keys before stay.
    pub(super) async fn refresh(&self) -> Result<bool, KeySourceError> {
        match self.source {
            KeySource::File(_) => self.read().await,
            KeySource::Url { .. } => self.fetch(FETCH_AGE).await,
        }
    }

    /// Fetches unless the keys are younger than `age`, or the last fetch was lately. Then the
    /// result is the last fault, if any.
    async fn fetch(&self, age: Duration) -> Result<bool, KeySourceError> {
        let mut last = self.last.lock().await;
        if self.current.load().as_ref().is_some_and(|set| set.read_at.elapsed() < age) {
            return Ok(false);
        }
        if let Some(Fetch { at, fault }) = &*last
            && at.elapsed() < FETCH_PAUSE
        {
            return fault.clone().map_or(Ok(false), Err);
        }
        let at = Instant::now();
        let result = self.read().await;
        *last = Some(Fetch { at, fault: result.as_ref().err().cloned() });
        result
    }

    async fn read(&self) -> Result<bool, KeySourceError> {
        let name = match &self.source {
            KeySource::File(path) => path.display().to_string(),
            KeySource::Url { url, .. } => url.to_string(),
        };
        let read = async {
            let text = self.text().await?;
            let before = self.current.load();
            let changed = before.as_ref().is_none_or(|set| set.text != text);
            let keys = parse(&text)?;
            let is_kept = |old: &Key| keys.iter().any(|key| key.print == old.print);
            let withdrawn = before.as_ref().is_some_and(|set| !set.keys.iter().all(is_kept));
            self.current.store(Some(Arc::new(Set { text, keys, read_at: Instant::now() })));
            self.withdrawals.fetch_add(u64::from(withdrawn), Ordering::Relaxed);
            Ok(changed)
        };
        read.await.map_err(|why| KeySourceError(name, why))
    }

    async fn text(&self) -> Result<Vec<u8>, String> {
        match &self.source {
            KeySource::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string()),
            KeySource::Url { url, ca_file, token_file } => {
                let client = self.client(ca_file.as_deref()).await?;
                get(&client, url, token_file.as_ref()).await
            }
        }
    }

    /// The client that trusts the certificates that are in the file now.
    async fn client(&self, ca_file: Option<&Path>) -> Result<Client, String> {
        let authorities = match ca_file {
            None => None,
            Some(path) => {
                let read = tokio::fs::read(path).await;
                Some(read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?)
            }
        };
        let current = self.client.load();
        if let Some(known) = current.as_ref().filter(|it| it.authorities == authorities) {
            return Ok(known.client.clone());
        }
        let client = client(authorities.as_deref())?;
        self.client.store(Some(Arc::new(Fetcher { authorities, client: client.clone() })));
        Ok(client)
    }
}

fn client(authorities: Option<&[u8]>) -> Result<Client, String> {
    let mut builder = Client::builder()
        .retry(retry::never())
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(FETCH_TIMEOUT)
        .timeout(FETCH_TIMEOUT);
    if let Some(pem) = authorities {
        let authorities = Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| error.without_url().to_string())
}

async fn get(client: &Client, url: &Url, token: Option<&PathBuf>) -> Result<Vec<u8>, String> {
    let fault = |error: reqwest::Error| error.without_url().to_string();
    let mut request = client.get(url.clone());
    if let Some(path) = token {
        // The kubelet renews the file, so it is read for each request.
        let token = tokio::fs::read_to_string(path).await;
        let token = token.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        request = request.bearer_auth(token.trim());
    }
    let mut answer = request.send().await.map_err(fault)?;
    if !answer.status().is_success() {
        return Err(format!("the answer has the status {}", answer.status().as_u16()));
    }
    let mut text = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(fault)? {
        text.extend_from_slice(&part);
        if text.len() > MAX_SIZE {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use serde_json::{Value, json};

    use super::*;

    /// The key of RFC 7517, A.1, under this id.
    fn jwk(id: &str) -> Value {
        let x = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
        let y = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
        json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y })
    }

    async fn advance(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn keys_of_a_url_are_fetched_for_new_tokens_and_kept_in_an_outage() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = Arc::new(std::sync::Mutex::new(Err(StatusCode::SERVICE_UNAVAILABLE)));
        let asked = Arc::new(AtomicUsize::new(0));
        let handler = {
            let (answer, asked) = (answer.clone(), asked.clone());
            move || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                answer.lock().expect("no panic").clone()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
        let router = Router::new().route("/keys", get(handler));
        let server = tokio_util::task::TaskTracker::new();
        server.spawn(async move { axum::serve(listener, router).await });
        let serve = |keys: Result<&[&str], StatusCode>| {
            let set = keys.map(|ids| {
                let keys: Vec<_> = ids.iter().map(|id| jwk(id)).collect();
                json!({ "keys": keys }).to_string()
            });
            *answer.lock().expect("no panic") = set;
        };

        let source =
            KeySource::Url { url: url.parse().expect("a URL"), ca_file: None, token_file: None };
        let keys = Keys::open(source).await.expect("it is fetched later");
        let has = async |id: &str| keys.find(Some(id), Algorithm::ES256).await.is_some();
        assert!(!has("one").await, "the issuer is down");
        serve(Ok(&["one"]));
        assert!(!has("one").await, "the next fetch is 30 s later");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        advance(FETCH_PAUSE).await;
        assert!(has("one").await && !has("two").await);
        assert_eq!(asked.load(Ordering::Relaxed), 2);

        serve(Ok(&["one", "two"]));
        advance(FETCH_PAUSE).await;
        assert!(has("two").await);
        assert!(!keys.refresh().await.expect("not yet due"));

        serve(Err(StatusCode::INTERNAL_SERVER_ERROR));
        advance(FETCH_AGE).await;
        let error = keys.refresh().await.expect_err("it fails").to_string();
        assert!(error.contains("500"), "{error}");
        assert!(has("one").await, "the old keys are still used");
        advance(MAX_AGE).await;
        assert!(!has("one").await, "but not without a bound");
        serve(Ok(&["three"]));
        advance(FETCH_PAUSE).await;
        assert!(keys.refresh().await.expect("it answers"));
        assert!(has("three").await && !has("one").await);
    }
}
