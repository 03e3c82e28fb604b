//! The account's budget of ENS calls: pure and in memory. `ledger/redis/take.lua` implements the
//! same rules on the server.
//!
//! Each lane is a leaky bucket, kept as the time at which it would be empty (GCRA). Over any period
//! it passes its rate plus at most its burst. A breaker guards the lanes of a family. After
//! throttling it stops all calls for a while, then passes one probe at a time until a call
//! succeeds.

use std::time::Duration;

use crate::model::Timestamp;

use super::{RateClass, RateLimitDecision, RateLimitRequest, Waits};

#[cfg(test)]
mod tests;

/// The burst after a pause, in seconds of the rate. It is small, because ENS also counts by the
/// second.
const BURST_SECONDS: f64 = 0.2;
/// Minimum burst, in tokens. With one, the time between a token's due time and its request would be
/// lost.
const LEAST_BURST: f64 = 1.5;
/// Chunks per second: from two hundred calls a second on, one store request covers several.
const CHUNKS_PER_SECOND: f64 = 100.0;

/// Minimum interval of tokens that go to the longest-waiting request of all replicas. For faster
/// tokens the order does not matter.
const ORDERED: u64 = 20_000;
/// Requests that arrived within this time count as simultaneous.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long a due token is kept for the longest-waiting request, plus an eighth of its announced
/// wait. A caller that left or died costs no more than this.
const KEPT: Duration = Duration::from_millis(100);
/// Maximum time that a token is kept, also after a clock step back.
const KEPT_AT_MOST: Duration = Duration::from_secs(10);

/// Maximum share of describes for attaches. The tracker always has half.
const ATTACHES: f64 = 3.0 / 8.0;
/// Maximum share for reads, in a lane of their own, so that attaches never wait behind them.
const READS: f64 = 1.0 / 8.0;
/// Maximum share for reconciliations: small, because no caller waits for them.
const RECONCILIATIONS: f64 = 1.0 / 20.0;

/// Lifetime of a probe; then another one may be sent.
pub const PROBE_PERMIT: Duration = Duration::from_secs(10);

/// Wait while another probe is out.
pub const PROBE_RETRY: Duration = Duration::from_millis(250);

/// Calls a second, of all replicas together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    attach_per_second: f64,
    describe_per_second: f64,
}

/// A rate out of range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a rate must be between 0.001 and 100000 calls a second, but is {0}")]
pub struct InvalidRate(pub f64);

impl Rates {
    /// Rates for attaches and describes, in calls a second.
    ///
    /// # Errors
    /// A rate is not within 0.001..=100000.
    pub fn new(attach_per_second: f64, describe_per_second: f64) -> Result<Self, InvalidRate> {
        for rate in [attach_per_second, describe_per_second] {
            if !(0.001..=100_000.0).contains(&rate) {
                return Err(InvalidRate(rate));
            }
        }
        Ok(Self { attach_per_second, describe_per_second })
    }

    /// Maximum number of describes a second for reads, over all replicas.
    #[must_use]
    pub fn reads_per_second(&self) -> f64 {
        self.describe_per_second * READS
    }

    /// Maximum number of tokens of this class that one request takes.
    pub fn chunk(&self, class: RateClass) -> u64 {
        let rate = match class {
            RateClass::Attach => self.attach_per_second,
            RateClass::Describe => self.describe_per_second * ATTACHES,
            RateClass::Read => self.reads_per_second(),
            // The tracker takes one for each batch, and no caller waits for a reconciliation.
            RateClass::Track | RateClass::Reconcile => 1.0,
        };
        (rate / CHUNKS_PER_SECOND).max(1.0) as u64
    }

    /// Whether tokens of this class go to the longest-waiting request.
    pub fn is_ordered(&self, class: RateClass) -> bool {
        self.lanes(class).first().is_some_and(|lane| lane.interval >= ORDERED)
    }

    /// The lanes of this class. A token needs all of them; the class's own is first.
    pub fn lanes(&self, class: RateClass) -> Vec<Lane> {
        let describe = Lane::new("describe", self.describe_per_second);
        match class {
            RateClass::Attach => vec![Lane::new("attach", self.attach_per_second)],
            RateClass::Describe => {
                vec![Lane::new("callers", self.describe_per_second * ATTACHES), describe]
            }
            RateClass::Read => {
                vec![Lane::new("readers", self.reads_per_second()), describe]
            }
            RateClass::Track => vec![describe],
            RateClass::Reconcile => vec![
                Lane::new("reconciliations", self.describe_per_second * RECONCILIATIONS),
                describe,
            ],
        }
    }
}

impl Default for Rates {
    /// 5 attaches and 20 describes a second.
    fn default() -> Self {
        Self { attach_per_second: 5.0, describe_per_second: 20.0 }
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// Its key in the store.
    pub name: &'static str,
    /// Microseconds between tokens.
    pub interval: u64,
    /// The burst, in microseconds of the rate.
    pub burst: u64,
}

impl Lane {
    fn new(name: &'static str, rate: f64) -> Self {
        let interval = (1e6 / rate).round() as u64;
        let burst = (rate * BURST_SECONDS).max(LEAST_BURST);
        Self { name, interval, burst: (burst * interval as f64).round() as u64 }
    }
}

/// The breaker of a class: attaches and describes trip apart.
pub fn family(class: RateClass) -> &'static str {
    match class {
        RateClass::Attach => "attach",
        RateClass::Describe | RateClass::Read | RateClass::Track | RateClass::Reconcile => {
            "describe"
        }
    }
}

/// The token buckets of all classes, and the breakers that are open.
#[derive(Debug, Default, Clone)]
pub struct TokenBuckets {
    /// By lane: the time at which it would be empty.
    empty_at: std::collections::BTreeMap<&'static str, u64>,
    /// By class: the longest-waiting request.
    first: std::collections::BTreeMap<&'static str, KeptFor>,
    /// By family: the open breaker.
    tripped: std::collections::BTreeMap<&'static str, OpenBreaker>,
}

#[derive(Debug, Default, Clone)]
struct OpenBreaker {
    /// The end of the pause.
    blocked_until: u64,
    /// The pause's length. It bounds `blocked_until` after a clock step back.
    pause: u64,
    /// Expiry of the current probe's permit; 0 without one.
    probe_until: u64,
}

/// The request that a bucket's next token is kept for.
#[derive(Debug, Clone, Copy)]
struct KeptFor {
    /// Its arrival.
    since: u64,
    /// The end of the time for which the token is kept.
    until: u64,
}

impl OpenBreaker {
    /// Bounds the end times as if the pause began now, after a clock step back.
    fn bound(&mut self, now: u64) {
        self.blocked_until = self.blocked_until.min(now + self.pause);
        self.probe_until = self.probe_until.min(now + micros(PROBE_PERMIT));
    }
}

impl TokenBuckets {
    /// Decides one request at this time.
    pub fn take(
        &mut self,
        request: RateLimitRequest,
        rates: &Rates,
        now: Timestamp,
    ) -> RateLimitDecision {
        let now = now.as_micros();
        self.tripped.values_mut().for_each(|breaker| breaker.bound(now));
        match request {
            RateLimitRequest::Take(class, waits) => {
                return self.take_token(class, waits, rates, now);
            }
            RateLimitRequest::GiveBack { class, probe } => {
                for lane in rates.lanes(class) {
                    if let Some(empty_at) = self.empty_at.get_mut(lane.name) {
                        *empty_at = empty_at.saturating_sub(lane.interval);
                    }
                }
                if let (Some(breaker), true) = (self.tripped.get_mut(family(class)), probe) {
                    breaker.probe_until = 0;
                }
            }
            RateLimitRequest::Trip(class, pause) => {
                let breaker = self.tripped.entry(family(class)).or_default();
                let pause = micros(pause);
                if now + pause >= breaker.blocked_until {
                    breaker.blocked_until = now + pause;
                    breaker.pause = pause;
                }
                breaker.probe_until = 0;
            }
            RateLimitRequest::Close(class) => {
                // During the pause, an answered call was sent before the throttling and proves
                // nothing.
                if self
                    .tripped
                    .get(family(class))
                    .is_some_and(|breaker| breaker.blocked_until <= now)
                {
                    self.tripped.remove(family(class));
                }
            }
        }
        RateLimitDecision::Granted
    }

    fn take_token(
        &mut self,
        class: RateClass,
        waits: Option<Waits>,
        rates: &Rates,
        now: u64,
    ) -> RateLimitDecision {
        let wait = |until: u64| RateLimitDecision::Wait(Duration::from_micros(until - now));
        let breaker = self.tripped.get_mut(family(class));
        if let Some(breaker) = &breaker {
            if breaker.blocked_until > now {
                return wait(breaker.blocked_until);
            }
            if breaker.probe_until > now {
                return wait(breaker.probe_until.min(now + micros(PROBE_RETRY)));
            }
        }
        let lanes = rates.lanes(class);
        let next: Vec<u64> = lanes
            .iter()
            .map(|lane| {
                let empty_at = self.empty_at.entry(lane.name).or_default();
                // Never above a full bucket: a clock step back must not block the lane.
                *empty_at = (*empty_at).min(now + lane.burst);
                now.max(*empty_at) + lane.interval
            })
            .collect();
        let ready_at =
            lanes.iter().zip(&next).map(|(lane, next)| next - lane.burst).max().unwrap_or(now);
        let own = lanes.first().map_or("", |lane| lane.name);
        let ordered = breaker.is_none() && rates.is_ordered(class);
        let first = self.first.get(own).copied();
        let first =
            first.filter(|first| first.until > now && first.until <= now + micros(KEPT_AT_MOST));
        let before = |since: u64| first.is_none_or(|first| since <= first.since + micros(TOGETHER));
        let since = waits.map(|waits| now.saturating_sub(micros(waits.since)));
        if ready_at > now {
            let patient = waits.is_some_and(|waits| micros(waits.most) >= ready_at - now);
            if let Some(since) = since.filter(|since| ordered && patient && before(*since)) {
                let until = ready_at + micros(KEPT) + (ready_at - now) / 8;
                self.first.insert(own, KeptFor { since, until });
            }
            return wait(ready_at);
        }
        if let Some(first) = first.filter(|_| ordered) {
            if !since.is_some_and(before) {
                return wait(first.until);
            }
            self.first.remove(own);
        }
        let free_tokens =
            lanes.iter().zip(&next).map(|(lane, next)| (now + lane.burst - next) / lane.interval);
        let further = match breaker {
            Some(_) => 0,
            None => free_tokens.min().unwrap_or_default().min(rates.chunk(class) - 1),
        };
        let taken =
            lanes.iter().zip(next).map(|(lane, next)| (lane.name, next + further * lane.interval));
        self.empty_at.extend(taken);
        match breaker {
            Some(breaker) => {
                breaker.probe_until = now + micros(PROBE_PERMIT);
                RateLimitDecision::Probe
            }
            None if further > 0 => {
                RateLimitDecision::Chunk(u32::try_from(further).unwrap_or(u32::MAX))
            }
            None => RateLimitDecision::Granted,
        }
    }
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
