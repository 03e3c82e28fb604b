//! The account's budget of ENS calls: pure bookkeeping, in memory. `ledger/redis/take.lua` decides the same on the server.
//!
//! Each lane is a leaky bucket kept as one number, the time at which it would be empty again (GCRA): over any stretch it lets
//! through its rate and at most its burst more. A breaker stands before the lanes of a family: once ENS throttled, no call
//! passes for a while, then one probe at a time, until a call went through.

use std::time::Duration;

use crate::model::Timestamp;

use super::{RateClass, RateLimitDecision, RateLimitRequest, Waits};

#[cfg(test)]
mod tests;

/// How much of a second's worth may go out at once after a pause. Small, for ENS counts by the second too.
const BURST_SECONDS: f64 = 0.2;
/// The least burst, in tokens. One alone would lose whatever time passes between a token's being due and its being asked for; the
/// half makes up for it.
const LEAST_BURST: f64 = 1.5;
/// A chunk is a hundredth of a second's worth: from two hundred calls a second on, one request to the store is for several.
const CHUNKS_PER_SECOND: f64 = 100.0;

/// Tokens that are due this far apart, or farther, go to the request that has waited longest, over all replicas. Faster ones come so
/// soon that the order does not matter.
const ORDERED: u64 = 20_000;
/// Requests that arrived this close to each other came together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long a due token is kept for the request that has waited longest: this, and an eighth of the wait that was announced. A caller
/// that left, or died with its replica, costs this time and no more.
const KEPT: Duration = Duration::from_millis(100);
/// No token is kept for longer than this: by a clock that was set back it would be.
const KEPT_AT_MOST: Duration = Duration::from_secs(10);

/// The share of the describes that attaches get at most. Half of all are the tracker's, whatever callers ask.
const ATTACHES: f64 = 3.0 / 8.0;
/// The share that reads get at most: a lane of their own, so that attaches never wait behind them.
const READS: f64 = 1.0 / 8.0;
/// The share that reconciliations get at most: little, because no caller waits for them.
const RECONCILIATIONS: f64 = 1.0 / 20.0;

/// How long a probe may take before another one goes out.
pub const PROBE_PERMIT: Duration = Duration::from_secs(10);

/// How soon to ask again while another probe is out.
pub const PROBE_RETRY: Duration = Duration::from_millis(250);

/// Calls a second, all replicas together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    attach_per_second: f64,
    describe_per_second: f64,
}

/// A rate that is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a rate must be between 0.001 and 100000 calls a second, but is {0}")]
pub struct InvalidRate(pub f64);

impl Rates {
    /// So many attaches and so many describes a second.
    ///
    /// # Errors
    /// One of them is not within 0.001..=100000.
    pub fn new(attach_per_second: f64, describe_per_second: f64) -> Result<Self, InvalidRate> {
        for rate in [attach_per_second, describe_per_second] {
            if !(0.001..=100_000.0).contains(&rate) {
                return Err(InvalidRate(rate));
            }
        }
        Ok(Self {
            attach_per_second,
            describe_per_second,
        })
    }

    /// Maximum number of tokens of this class that one request takes.
    pub fn chunk(&self, class: RateClass) -> u64 {
        let rate = match class {
            RateClass::Attach => self.attach_per_second,
            RateClass::Describe => self.describe_per_second * ATTACHES,
            RateClass::Read => self.describe_per_second * READS,
            // The tracker takes one for each batch, and no caller waits for a reconciliation.
            RateClass::Track | RateClass::Reconcile => 1.0,
        };
        (rate / CHUNKS_PER_SECOND).max(1.0) as u64
    }

    /// Whether the tokens of this class go to the request that has waited longest.
    pub fn is_ordered(&self, class: RateClass) -> bool {
        self.lanes(class).first().is_some_and(|lane| lane.interval >= ORDERED)
    }

    /// The lanes that a token of this class must come from, all of them; its own first.
    pub fn lanes(&self, class: RateClass) -> Vec<Lane> {
        let describe = Lane::new("describe", self.describe_per_second);
        match class {
            RateClass::Attach => vec![Lane::new("attach", self.attach_per_second)],
            RateClass::Describe => vec![Lane::new("callers", self.describe_per_second * ATTACHES), describe],
            RateClass::Read => vec![Lane::new("readers", self.describe_per_second * READS), describe],
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
        Self {
            attach_per_second: 5.0,
            describe_per_second: 20.0,
        }
    }
}

/// A stream of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// What its state is stored under.
    pub name: &'static str,
    /// Microseconds from token to token.
    pub interval: u64,
    /// Microseconds' worth of tokens that may go out at once.
    pub burst: u64,
}

impl Lane {
    fn new(name: &'static str, rate: f64) -> Self {
        let interval = (1e6 / rate).round() as u64;
        let burst = (rate * BURST_SECONDS).max(LEAST_BURST);
        Self {
            name,
            interval,
            burst: (burst * interval as f64).round() as u64,
        }
    }
}

/// What one breaker stands before: attaches and describes trip apart.
pub fn family(class: RateClass) -> &'static str {
    match class {
        RateClass::Attach => "attach",
        RateClass::Describe | RateClass::Read | RateClass::Track | RateClass::Reconcile => "describe",
    }
}

/// The token buckets of all classes, and the breakers that are open.
#[derive(Debug, Default, Clone)]
pub struct TokenBuckets {
    /// By lane: when it would be empty again.
    empty_at: std::collections::BTreeMap<&'static str, u64>,
    /// By class: the request that has waited longest.
    first: std::collections::BTreeMap<&'static str, First>,
    /// By family, where ENS throttled.
    tripped: std::collections::BTreeMap<&'static str, OpenBreaker>,
}

#[derive(Debug, Default, Clone)]
struct OpenBreaker {
    /// No token before.
    blocked_until: u64,
    /// How long that was from the throttling on: by a clock that was set back since, it is no longer than this from now.
    pause: u64,
    /// When the permit of the probe that is out expires; 0: none is.
    probe_until: u64,
}

/// For whom the next token of a bucket is kept.
#[derive(Debug, Clone, Copy)]
struct First {
    /// When it arrived.
    since: u64,
    /// How long the token is kept for it.
    until: u64,
}

impl OpenBreaker {
    /// Ends nothing later than if it had begun now: the clock may have been set back.
    fn bound(&mut self, now: u64) {
        self.blocked_until = self.blocked_until.min(now + self.pause);
        self.probe_until = self.probe_until.min(now + micros(PROBE_PERMIT));
    }
}

impl TokenBuckets {
    /// Decides one request at this time.
    pub fn take(&mut self, request: RateLimitRequest, rates: &Rates, now: Timestamp) -> RateLimitDecision {
        let now = now.as_micros();
        self.tripped.values_mut().for_each(|breaker| breaker.bound(now));
        match request {
            RateLimitRequest::Take(class, waits) => return self.take_token(class, waits, rates, now),
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
                // While nobody may pass, what went through was sent before the throttling: it proves nothing.
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

    fn take_token(&mut self, class: RateClass, waits: Option<Waits>, rates: &Rates, now: u64) -> RateLimitDecision {
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
                // Never above a full bucket: a clock that was set back must not block the lane.
                *empty_at = (*empty_at).min(now + lane.burst);
                now.max(*empty_at) + lane.interval
            })
            .collect();
        let ready_at = lanes
            .iter()
            .zip(&next)
            .map(|(lane, next)| next - lane.burst)
            .max()
            .unwrap_or(now);
        let own = lanes.first().map_or("", |lane| lane.name);
        let ordered = breaker.is_none() && rates.is_ordered(class);
        let first = self.first.get(own).copied();
        let first = first.filter(|first| first.until > now && first.until <= now + micros(KEPT_AT_MOST));
        let before = |since: u64| first.is_none_or(|first| since <= first.since + micros(TOGETHER));
        let since = waits.map(|waits| now.saturating_sub(micros(waits.since)));
        if ready_at > now {
            let patient = waits.is_some_and(|waits| micros(waits.most) >= ready_at - now);
            if let Some(since) = since.filter(|since| ordered && patient && before(*since)) {
                let until = ready_at + micros(KEPT) + (ready_at - now) / 8;
                self.first.insert(own, First { since, until });
            }
            return wait(ready_at);
        }
        if let Some(first) = first.filter(|_| ordered) {
            if !since.is_some_and(before) {
                return wait(first.until);
            }
            self.first.remove(own);
        }
        let room = lanes
            .iter()
            .zip(&next)
            .map(|(lane, next)| (now + lane.burst - next) / lane.interval);
        let further = match breaker {
            Some(_) => 0,
            None => room.min().unwrap_or_default().min(rates.chunk(class) - 1),
        };
        let taken = lanes
            .iter()
            .zip(next)
            .map(|(lane, next)| (lane.name, next + further * lane.interval));
        self.empty_at.extend(taken);
        match breaker {
            Some(breaker) => {
                breaker.probe_until = now + micros(PROBE_PERMIT);
                RateLimitDecision::Probe
            }
            None if further > 0 => RateLimitDecision::Chunk(u32::try_from(further).unwrap_or(u32::MAX)),
            None => RateLimitDecision::Granted,
        }
    }
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
