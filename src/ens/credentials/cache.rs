//! A cache of credentials that refreshes them before they expire.
//!
//! From 15 minutes before expiry one task refreshes them in the background. If that fails, the old
//! ones are used until a minute before expiry, or until a tenth of a short life is left. A call
//! waits only if there are none.

use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fetch::Http;
use super::selected::Selected;
use super::source::Source;
use super::{Credentials, FetchError};
use crate::ens::clock::WallClock;
use crate::ens::redaction::Redaction;
use crate::ens::transport;
use crate::model::random;

/// Time before expiry at which credentials are refreshed; at most half of their life.
const REFRESH_BEFORE: Duration = Duration::from_secs(15 * 60);
/// Time before expiry from which they are not used: a call takes time, and clocks differ. At most a
/// tenth of their life.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(60);
/// Minimum interval between background fetches, and between rejections that cause one.
const PAUSE: Duration = Duration::from_secs(10);
/// Pauses before the further tries of a fetch that failed for a passing reason. Each is lengthened
/// by up to a half, so that replicas do not try at the same times.
const RETRY_PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// Time after which a fetch is not tried again.
const RETRY_FOR: Duration = Duration::from_secs(3);

/// A source and its last credentials.
#[derive(Clone)]
pub struct Provider {
    inner: Arc<Inner>,
}

struct Inner {
    source: Selected,
    http: Http,
    clock: WallClock,
    current: ArcSwapOption<CachedCredentials>,
    /// Of the current credentials, and of those before a refresh.
    redaction: ArcSwap<Redaction>,
    /// Held during a fetch: single flight.
    fetching: Mutex<()>,
    failed: StdMutex<Option<Failed>>,
    tasks: TaskTracker,
}

struct CachedCredentials {
    credentials: Arc<Credentials>,
    fetched: Timestamp,
    /// Time of the next fetch; `None`: never.
    refresh_at: Option<Timestamp>,
    /// Time from which they are not used; `None`: never.
    unusable_from: Option<Timestamp>,
}

#[derive(Clone)]
struct Failed {
    /// Callers that arrived before this share the failure.
    at: Instant,
    time: Timestamp,
    error: FetchError,
}

impl Provider {
    pub(super) fn new(source: Selected, http: Http, clock: WallClock) -> Self {
        let inner = Inner {
            source,
            http,
            clock,
            current: ArcSwapOption::empty(),
            redaction: ArcSwap::default(),
            fetching: Mutex::default(),
            failed: StdMutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A provider of fixed credentials, for the embedded simulator and tests.
    ///
    /// # Errors
    /// No HTTP client can be built.
    pub fn fixed(credentials: Credentials) -> Result<Self, String> {
        let client = transport::client(transport::ConnectionBounds::default(), None)?;
        let http = Http { direct: client.clone(), sts: client };
        let source = Selected::Source(Source::Fixed(credentials));
        Ok(Self::new(source, http, WallClock::system()))
    }

    /// The source, without secrets.
    #[must_use]
    pub fn source(&self) -> String {
        self.inner.source.to_string()
    }

    /// The credentials that a server's texts must not contain.
    pub(in crate::ens) fn redaction(&self) -> Arc<Redaction> {
        self.inner.redaction.load_full()
    }

    /// Credentials that are valid for at least another minute.
    ///
    /// # Errors
    /// There are none, and a fetch failed.
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
            _ => self.keep(self.fetch_patiently().await),
        }
    }

    /// Discards credentials that ENS rejected, unless they are only seconds old.
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
        held.unusable_from.is_none_or(|end| now < end).then_some(held)
    }

    fn wants_refresh(&self, held: &CachedCredentials) -> bool {
        let due = held.refresh_at.is_some_and(|at| self.inner.clock.now() >= at);
        // A source may return the same credentials or be down. Neither is urgent.
        due && self.is_past_pause(held.fetched)
            && self.last_failure().is_none_or(|failed| self.is_past_pause(failed.time))
    }

    fn is_past_pause(&self, time: Timestamp) -> bool {
        // Absolute, because a clock step back must not stop refreshes.
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
            let Inner { source, http, clock, .. } = &*provider.inner;
            // A failure is logged, and the gateway uses the old ones. The next call tries again.
            let _ = provider.keep(source.fetch(http, clock.now()).await);
        });
    }

    /// Fetches, and again for a short time while the failure is a passing one.
    async fn fetch_patiently(&self) -> Result<Credentials, FetchError> {
        let Inner { source, http, clock, .. } = &*self.inner;
        let began = Instant::now();
        for pause in RETRY_PAUSES {
            match source.fetch(http, clock.now()).await {
                Err(error) if error.is_passing() && began.elapsed() + pause < RETRY_FOR => {
                    tokio::time::sleep(pause.mul_f64(1.0 + random::fraction() / 2.0)).await;
                }
                fetched => return fetched,
            }
        }
        source.fetch(http, clock.now()).await
    }

    /// Keeps what was fetched, or the failure; the caller holds the lock.
    fn keep(
        &self,
        fetched: Result<Credentials, FetchError>,
    ) -> Result<Arc<Credentials>, FetchError> {
        let inner = &self.inner;
        match fetched.and_then(|credentials| self.not_ended(credentials)) {
            Ok(credentials) => {
                let now = inner.clock.now();
                let before_end = |most: Duration, divisor: u32| {
                    let end = credentials.expiration()?;
                    let life = Duration::try_from(end.duration_since(now)).unwrap_or_default();
                    Some(end - most.min(life / divisor))
                };
                let refresh_at = before_end(REFRESH_BEFORE, 2);
                let unusable_from = before_end(UNUSABLE_BEFORE, 10);
                let credentials = Arc::new(credentials);
                let held = CachedCredentials {
                    credentials: credentials.clone(),
                    fetched: now,
                    refresh_at,
                    unusable_from,
                };
                inner.redaction.store(Arc::new(self.redaction().and(credentials.secrets())));
                inner.current.store(Some(Arc::new(held)));
                *inner.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(credentials)
            }
            Err(error) => {
                let error = error.without(&self.redaction());
                self.log_failure(&error);
                let failed =
                    Failed { at: Instant::now(), time: inner.clock.now(), error: error.clone() };
                *inner.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
                Err(error)
            }
        }
    }

    /// Logs a failed fetch, unless the same was logged just now.
    fn log_failure(&self, error: &FetchError) {
        let same = |failed: &Failed| failed.error == *error && !self.is_past_pause(failed.time);
        if !self.last_failure().is_some_and(|failed| same(&failed)) {
            let source = &self.inner.source;
            tracing::warn!(%source, %error, "credentials were not fetched; the gateway uses the \
                ones that it has until they expire");
        }
    }

    /// Rejects credentials that have expired, or expire sooner than the cached ones.
    fn not_ended(&self, credentials: Credentials) -> Result<Credentials, FetchError> {
        let Some(end) = credentials.expiration() else { return Ok(credentials) };
        let held = self.usable().and_then(|held| held.credentials.expiration());
        if end <= self.inner.clock.now() || held.is_some_and(|held| end < held) {
            return Err(FetchError::lasting(format!(
                "its credentials expire at {end:.0}, too soon for use"
            )));
        }
        Ok(credentials)
    }

    fn last_failure(&self) -> Option<Failed> {
        self.inner.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
