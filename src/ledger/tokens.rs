//! The account's budget of ENS calls: pure bookkeeping, in memory. `redis/take.lua` keeps the same books on the server.
//!
//! Each lane is a leaky bucket kept as one number, the time at which it would be empty again (GCRA): over any stretch it lets
//! through its rate and at most its burst more. A breaker stands before the lanes of a family: once ENS throttled, nobody
//! passes for a while, then one probe at a time, until a call went through.

use std::time::Duration;

use crate::model::Timestamp;

use super::{Bucket, TokenOrder, TokenReply, Waits};

#[cfg(test)]
mod tests;

/// How much of a second's worth may go out at once after a pause. Small, for ENS counts by the second too.
const BURST_SECONDS: f64 = 0.2;
/// The least burst, in tokens. One alone would lose whatever time passes between a token's being due and its being asked for; the
/// half makes up for it.
const LEAST_BURST: f64 = 1.5;
/// A chunk is a hundredth of a second's worth: from two hundred calls a second on, one question to the counter is for several.
const CHUNKS_PER_SECOND: f64 = 100.0;

/// Tokens that are due this far apart, or farther, go to whoever has waited longest, over all replicas. Faster ones come so soon that
/// order does not matter.
const ORDERED: u64 = 20_000;
/// Askers that arrived this close to each other came together.
pub(super) const TOGETHER: Duration = Duration::from_millis(20);
/// How long a token is kept, from its being due, for who has waited longest: this, and an eighth of the wait that it was told. An
/// asker that left, or died with its replica, costs so much time and no more.
pub(super) const KEPT: Duration = Duration::from_millis(100);
/// No token is kept for longer than this: by a clock that was set back it would be.
pub(super) const KEPT_AT_MOST: Duration = Duration::from_secs(10);

/// The share of the describes that attaches get at most. Half of all are the tracker's, whatever callers ask.
const ATTACHES: f64 = 3.0 / 8.0;
/// The share that reads get at most: a lane of their own, so that attaches never wait behind them.
const READS: f64 = 1.0 / 8.0;
/// The share that reconciliations get at most: little, for nobody waits for them.
const COMPARISONS: f64 = 1.0 / 20.0;

/// How long a probe may take before another one goes out.
pub(super) const PROBE_PERMIT: Duration = Duration::from_secs(10);

/// How soon to ask again while somebody else's probe is out.
pub(super) const PROBE_RETRY: Duration = Duration::from_millis(250);

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

    /// How many tokens of this bucket are taken at once, at most.
    pub(super) fn chunk(&self, bucket: Bucket) -> u64 {
        let rate = match bucket {
            Bucket::Attach => self.attach_per_second,
            Bucket::Describe => self.describe_per_second * ATTACHES,
            Bucket::Read => self.describe_per_second * READS,
            // The tracker takes one for each batch, and nobody waits for a comparison.
            Bucket::Track | Bucket::Compare => 1.0,
        };
        (rate / CHUNKS_PER_SECOND).max(1.0) as u64
    }

    /// Whether the tokens of this bucket go to whoever has waited longest.
    pub(super) fn is_ordered(&self, bucket: Bucket) -> bool {
        self.lanes(bucket).first().is_some_and(|lane| lane.interval >= ORDERED)
    }

    /// The lanes that a token of this bucket must come from, all of them; its own first.
    pub(super) fn lanes(&self, bucket: Bucket) -> Vec<Lane> {
        let describe = Lane::new("describe", self.describe_per_second);
        match bucket {
            Bucket::Attach => vec![Lane::new("attach", self.attach_per_second)],
            Bucket::Describe => vec![Lane::new("callers", self.describe_per_second * ATTACHES), describe],
            Bucket::Read => vec![Lane::new("readers", self.describe_per_second * READS), describe],
            Bucket::Track => vec![describe],
            Bucket::Compare => vec![
                Lane::new("reconciliations", self.describe_per_second * COMPARISONS),
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
pub(super) struct Lane {
    /// What its state is stored under.
    pub(super) name: &'static str,
    /// Microseconds from token to token.
    pub(super) interval: u64,
    /// Microseconds' worth of tokens that may go out at once.
    pub(super) burst: u64,
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
pub(super) fn family(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::Attach => "attach",
        Bucket::Describe | Bucket::Read | Bucket::Track | Bucket::Compare => "describe",
    }
}

/// The books.
#[derive(Debug, Default, Clone)]
pub(super) struct Tokens {
    /// By lane: when it would be empty again.
    empty_at: std::collections::BTreeMap<&'static str, u64>,
    /// By bucket: the asker that has waited longest.
    first: std::collections::BTreeMap<&'static str, First>,
    /// By family, where ENS throttled.
    tripped: std::collections::BTreeMap<&'static str, Breaker>,
}

#[derive(Debug, Default, Clone)]
struct Breaker {
    /// Nobody passes before.
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

impl Breaker {
    /// Ends nothing later than if it had begun now: the clock may have been set back.
    fn bound(&mut self, now: u64) {
        self.blocked_until = self.blocked_until.min(now + self.pause);
        self.probe_until = self.probe_until.min(now + micros(PROBE_PERMIT));
    }
}

impl Tokens {
    pub(super) fn order(&mut self, order: TokenOrder, rates: &Rates, now: Timestamp) -> TokenReply {
        let now = now.as_micros();
        self.tripped.values_mut().for_each(|breaker| breaker.bound(now));
        match order {
            TokenOrder::Take(bucket, waits) => return self.take(bucket, waits, rates, now),
            TokenOrder::GiveBack { bucket, probe } => {
                for lane in rates.lanes(bucket) {
                    if let Some(empty_at) = self.empty_at.get_mut(lane.name) {
                        *empty_at = empty_at.saturating_sub(lane.interval);
                    }
                }
                if let (Some(breaker), true) = (self.tripped.get_mut(family(bucket)), probe) {
                    breaker.probe_until = 0;
                }
            }
            TokenOrder::Trip(bucket, pause) => {
                let breaker = self.tripped.entry(family(bucket)).or_default();
                let pause = micros(pause);
                if now + pause >= breaker.blocked_until {
                    breaker.blocked_until = now + pause;
                    breaker.pause = pause;
                }
                breaker.probe_until = 0;
            }
            TokenOrder::Close(bucket) => {
                // While nobody may pass, what went through was sent before the throttling: it proves nothing.
                if self
                    .tripped
                    .get(family(bucket))
                    .is_some_and(|breaker| breaker.blocked_until <= now)
                {
                    self.tripped.remove(family(bucket));
                }
            }
        }
        TokenReply::Granted
    }

    fn take(&mut self, bucket: Bucket, waits: Option<Waits>, rates: &Rates, now: u64) -> TokenReply {
        let wait = |until: u64| TokenReply::Wait(Duration::from_micros(until - now));
        let breaker = self.tripped.get_mut(family(bucket));
        if let Some(breaker) = &breaker {
            if breaker.blocked_until > now {
                return wait(breaker.blocked_until);
            }
            if breaker.probe_until > now {
                return wait(breaker.probe_until.min(now + micros(PROBE_RETRY)));
            }
        }
        let lanes = rates.lanes(bucket);
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
        let ordered = breaker.is_none() && rates.is_ordered(bucket);
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
            None => room.min().unwrap_or_default().min(rates.chunk(bucket) - 1),
        };
        let taken = lanes
            .iter()
            .zip(next)
            .map(|(lane, next)| (lane.name, next + further * lane.interval));
        self.empty_at.extend(taken);
        match breaker {
            Some(breaker) => {
                breaker.probe_until = now + micros(PROBE_PERMIT);
                TokenReply::Probe
            }
            None if further > 0 => TokenReply::Chunk(u32::try_from(further).unwrap_or(u32::MAX)),
            None => TokenReply::Granted,
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
