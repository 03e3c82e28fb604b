//! Keeps credentials until they are about to end, and replaces them before.
//!
//! From 15 minutes before their end they are refreshed beside the calls, by one task at a time; if that fails, the old ones serve
//! until a minute before their end. A call waits only where there are none at all.

use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use reqwest::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::chain::Source;
use super::{Credentials, FetchError};
use crate::ens::clock::WallClock;
use crate::ens::transport;

/// How long before their end credentials are refreshed; half their life, if that is less.
const REFRESH_BEFORE: Duration = Duration::from_secs(15 * 60);
/// How long before their end they are used no more: a call takes time, and clocks differ.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(60);
/// Shortest time between two fetches that nobody waits for, and between two rejections that are acted on.
const PAUSE: Duration = Duration::from_secs(10);

/// One source, and what it gave last.
#[derive(Clone)]
pub struct Provider {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    http: Client,
    clock: WallClock,
    current: ArcSwapOption<CachedCredentials>,
    /// Held while fetching: single flight.
    fetching: Mutex<()>,
    failed: StdMutex<Option<Failed>>,
    tasks: TaskTracker,
}

struct CachedCredentials {
    credentials: Arc<Credentials>,
    fetched: Timestamp,
    /// When to fetch new ones; `None`: never.
    refresh_at: Option<Timestamp>,
}

#[derive(Clone)]
struct Failed {
    /// Those who arrived before share it.
    at: Instant,
    time: Timestamp,
    error: FetchError,
}

impl Provider {
    pub(super) fn new(source: Source, http: Client, clock: WallClock) -> Self {
        let inner = Inner {
            source,
            http,
            clock,
            current: ArcSwapOption::empty(),
            fetching: Mutex::default(),
            failed: StdMutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Always these: for the embedded simulator and for tests.
    ///
    /// # Errors
    /// No HTTP client can be built.
    pub fn fixed(credentials: Credentials) -> Result<Self, String> {
        let http = transport::client(transport::Limits::default())?;
        Ok(Self::new(Source::Fixed(credentials), http, WallClock::system()))
    }

    /// Where the credentials come from, without secrets.
    #[must_use]
    pub fn source(&self) -> String {
        self.inner.source.to_string()
    }

    /// Credentials that are good for another minute at least.
    ///
    /// # Errors
    /// There are none, and none can be had now.
    pub async fn get(&self) -> Result<Arc<Credentials>, FetchError> {
        let arrived = Instant::now();
        if let Some(held) = self.usable() {
            if self.wants_refresh(&held) {
                self.refresh_beside();
            }
            return Ok(held.credentials.clone());
        }
        let _single = self.inner.fetching.lock().await;
        if let Some(held) = self.usable() {
            return Ok(held.credentials.clone());
        }
        match self.last_failure() {
            Some(failed) if failed.at >= arrived => Err(failed.error),
            _ => self.fetch().await,
        }
    }

    /// ENS rejected these credentials: they are not used again, unless they are only seconds old.
    pub fn reject(&self, rejected: &Arc<Credentials>) {
        let current = self.inner.current.load_full();
        if let Some(held) = current.filter(|held| Arc::ptr_eq(&held.credentials, rejected))
            && self.is_past_pause(held.fetched)
        {
            self.inner.current.compare_and_swap(&Some(held), None);
        }
    }

    fn usable(&self) -> Option<Arc<CachedCredentials>> {
        let held = self.inner.current.load_full()?;
        let now = self.inner.clock.now();
        let usable = held
            .credentials
            .expiration()
            .is_none_or(|end| now + UNUSABLE_BEFORE < end);
        usable.then_some(held)
    }

    fn wants_refresh(&self, held: &CachedCredentials) -> bool {
        let due = held.refresh_at.is_some_and(|at| self.inner.clock.now() >= at);
        // A source may give the same credentials again, and may be down: neither is a reason to hurry.
        due && self.is_past_pause(held.fetched)
            && self.last_failure().is_none_or(|failed| self.is_past_pause(failed.time))
    }

    fn is_past_pause(&self, time: Timestamp) -> bool {
        // Absolute: a clock that was set back must not stop the refreshing.
        self.inner.clock.now().duration_since(time).unsigned_abs() >= PAUSE
    }

    fn refresh_beside(&self) {
        let provider = self.clone();
        self.inner.tasks.spawn(async move {
            let Ok(_single) = provider.inner.fetching.try_lock() else {
                return;
            };
            if !provider.usable().is_some_and(|held| provider.wants_refresh(&held)) {
                return;
            }
            if let Err(error) = provider.fetch().await {
                tracing::warn!(source = %provider.inner.source, %error, "credentials were not refreshed; the old ones are used on");
            }
        });
    }

    /// Fetches, under the lock.
    async fn fetch(&self) -> Result<Arc<Credentials>, FetchError> {
        let inner = &self.inner;
        let fetched = inner.source.fetch(&inner.http, inner.clock.now()).await;
        match fetched.and_then(|credentials| self.not_ended(credentials)) {
            Ok(credentials) => {
                let now = inner.clock.now();
                let refresh_at = credentials.expiration().map(|end| {
                    let life = Duration::try_from(end.duration_since(now)).unwrap_or_default();
                    end - REFRESH_BEFORE.min(life / 2)
                });
                let credentials = Arc::new(credentials);
                let held = CachedCredentials {
                    credentials: credentials.clone(),
                    fetched: now,
                    refresh_at,
                };
                inner.current.store(Some(Arc::new(held)));
                *inner.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(credentials)
            }
            Err(error) => {
                let failed = Failed {
                    at: Instant::now(),
                    time: inner.clock.now(),
                    error: error.clone(),
                };
                *inner.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
                Err(error)
            }
        }
    }

    /// Credentials that nobody could use are a failure of their source; the ones held may be better.
    fn not_ended(&self, credentials: Credentials) -> Result<Credentials, FetchError> {
        match credentials.expiration() {
            Some(end) if end <= self.inner.clock.now() + UNUSABLE_BEFORE => Err(FetchError::new(format!(
                "it gave credentials that end at {end:.0}, too soon to be used"
            ))),
            _ => Ok(credentials),
        }
    }

    fn last_failure(&self) -> Option<Failed> {
        self.inner.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
