//! The account's rate limits: a token bucket for each action.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::action::Action;

/// A rate limit.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls a second.
    pub per_second: f64,
    /// Maximum burst.
    pub burst: f64,
}

/// `ACTION=PER_SECOND` on the command line. The burst is one second's worth, at least one call.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ActionRate(pub Action, pub Rate);

impl FromStr for ActionRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (action, rate) =
            text.split_once('=').ok_or("must have the form ACTION=CALLS_PER_SECOND")?;
        let action = Action::parse(action).ok_or_else(|| {
            let names: Vec<_> = Action::ALL.iter().map(|action| action.name()).collect();
            format!("unknown action `{action}`; one of {}", names.join(", "))
        })?;
        let per_second: f64 =
            rate.parse().map_err(|_| format!("`{rate}` is not a number of calls per second"))?;
        if per_second.is_finite() && per_second > 0.0 {
            Ok(Self(action, Rate { per_second, burst: per_second.max(1.0) }))
        } else {
            Err("a rate must be above zero".to_owned())
        }
    }
}

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    buckets: BTreeMap<Action, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    filled_at: Option<Instant>,
}

impl Throttle {
    pub(super) fn new(rates: &BTreeMap<Action, Rate>) -> Self {
        let full = |rate: Rate| Bucket { rate, tokens: rate.burst, filled_at: None };
        Self { buckets: rates.iter().map(|(action, rate)| (*action, full(*rate))).collect() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until the next one.
    pub(super) fn take(&mut self, action: Action, now: Instant) -> Result<(), Duration> {
        let Some(bucket) = self.buckets.get_mut(&action) else {
            return Ok(());
        };
        let elapsed =
            bucket.filled_at.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        bucket.filled_at = Some(now);
        bucket.tokens =
            (bucket.tokens + elapsed.as_secs_f64() * bucket.rate.per_second).min(bucket.rate.burst);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::try_from_secs_f64((1.0 - bucket.tokens) / bucket.rate.per_second)
                .unwrap_or(Duration::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let rate = Rate { per_second: 2.0, burst: 3.0 };
        let mut throttle = Throttle::new(&BTreeMap::from([(Action::AttachNetworkInterface, rate)]));
        let start = Instant::now();
        let mut take = |millis: u64| {
            throttle.take(Action::AttachNetworkInterface, start + Duration::from_millis(millis))
        };
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), Err(Duration::from_millis(500)));
        assert_eq!(take(500), Ok(()));
        assert!(take(600).is_err());
        assert_eq!(throttle.take(Action::DescribeInstances, start), Ok(()));
    }

    #[test]
    fn reads_action_and_rate() {
        assert_eq!("AttachNetworkInterface=0.5".parse::<ActionRate>().unwrap().1.burst, 1.0);
        for bad in ["5", "Attach=5", "StopInstance=0", "StopInstance=fast", "StopInstance=inf"] {
            assert!(bad.parse::<ActionRate>().is_err(), "{bad}");
        }
    }
}
