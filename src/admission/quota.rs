//! Quotas of single callers, by their principal. They hold for each replica.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::leak::Leak;
use crate::model::{Caller, Failure, InstanceId, Reason, RequestId, random};
use crate::policy::Quota;

/// Number of callers above which those without calls are forgotten.
const MANY: usize = 1024;

/// Time for which a request id counts.
const HOUR: Duration = Duration::from_secs(3600);

/// What the callers use.
#[derive(Debug, Clone, Default)]
pub struct Quotas(Arc<Mutex<BTreeMap<Caller, Usage>>>);

#[derive(Debug)]
struct Usage {
    calls: Leak,
    attaches: usize,
    streams: usize,
    request_ids: RequestIds,
}

/// The different request ids of the last hour.
#[derive(Debug, Default)]
struct RequestIds {
    known: BTreeSet<(InstanceId, RequestId)>,
    by_age: VecDeque<(Instant, (InstanceId, RequestId))>,
}

impl RequestIds {
    /// Forgets those that count no more.
    fn expire(&mut self, now: Instant) {
        while let Some((_, key)) = self.by_age.pop_front_if(|(at, _)| now - *at >= HOUR) {
            self.known.remove(&key);
        }
    }

    /// Counts all of these ids, or none. The error is the time until there is room for them.
    fn enter(
        &mut self,
        mut keys: Vec<(InstanceId, RequestId)>,
        limit: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        self.expire(now);
        keys.retain(|key| !self.known.contains(key));
        let excess = (self.known.len() + keys.len()).saturating_sub(limit);
        if let Some(last) = excess.checked_sub(1).filter(|_| !keys.is_empty()) {
            let makes_room = self.by_age.get(last).or(self.by_age.back());
            let makes_room = makes_room.map_or(now, |(at, _)| *at);
            return Err((makes_room + HOUR).saturating_duration_since(now));
        }
        for key in keys {
            self.known.insert(key.clone());
            self.by_age.push_back((now, key));
        }
        Ok(())
    }
}

/// What a call uses besides the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nothing.
    Read,
    /// This many attaches in flight.
    Attaches(usize),
    /// A watch stream.
    Stream,
}

/// A caller's use, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives its use back"]
pub struct QuotaPermit {
    quotas: Quotas,
    caller: Caller,
    of: Use,
}

impl Quotas {
    /// Counts a call of this caller.
    ///
    /// # Errors
    /// `CALLER_QUOTA_EXCEEDED`, with the delay before a retry unless none helps.
    pub fn enter(&self, caller: &Caller, quota: &Quota, of: Use) -> Result<QuotaPermit, Failure> {
        let now = Instant::now();
        let mut callers = self.lock();
        if callers.len() > MANY {
            callers.retain(|_, usage| !usage.is_idle(now));
        }
        let usage = callers.entry(caller.clone()).or_insert_with(|| Usage {
            calls: Leak::new(now),
            attaches: 0,
            streams: 0,
            request_ids: RequestIds::default(),
        });
        if let (Use::Attaches(number), Some(limit)) = (of, quota.attaches_in_flight)
            && number > limit
        {
            return Err(too_large(number, limit, "attaches in flight"));
        }
        let with_this = usage.of(of).map_or(0, |(in_use, more)| *in_use + more);
        let (limit, what) = match of {
            Use::Read => (None, String::new()),
            Use::Attaches(1) => (quota.attaches_in_flight, "attaches in flight".to_owned()),
            Use::Attaches(number) => {
                let what = format!("attaches in flight, and the call has {number}");
                (quota.attaches_in_flight, what)
            }
            Use::Stream => (quota.watch_streams, "watch streams".to_owned()),
        };
        if let Some(limit) = limit.filter(|limit| with_this > *limit) {
            let delay = Duration::from_millis(random::between(500..=1500));
            return Err(exceeded(&format!("{limit} {what}"), delay));
        }
        if let Some(rate) = quota.calls_per_second {
            let rate = f64::from(rate);
            let delay = usage.calls.wait(rate, now);
            if !delay.is_zero() {
                return Err(exceeded(&format!("{rate} calls a second"), delay));
            }
            usage.calls.count(rate, now);
        }
        if let Some((in_use, more)) = usage.of(of) {
            *in_use += more;
        }
        Ok(QuotaPermit { quotas: self.clone(), caller: caller.clone(), of })
    }

    /// Counts the request ids of attaches, all or none. A repeat is free.
    ///
    /// # Errors
    /// As [`Quotas::enter`].
    pub fn enter_request_ids(
        &self,
        permit: &QuotaPermit,
        quota: &Quota,
        instance: &InstanceId,
        ids: &[RequestId],
    ) -> Result<(), Failure> {
        let Some(limit) = quota.request_ids_per_hour else {
            return Ok(());
        };
        let mut callers = self.lock();
        let Some(usage) = callers.get_mut(&permit.caller) else {
            return Ok(());
        };
        let keys = ids.iter().map(|id| (instance.clone(), *id)).collect();
        let entered = usage.request_ids.enter(keys, limit, Instant::now());
        entered.map_err(|delay| match ids.len() {
            number if number > limit => too_large(number, limit, "request ids an hour"),
            _ => exceeded(&format!("{limit} request ids an hour"), delay),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Caller, Usage>> {
        // Counting cannot panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    /// What is in use of this kind, and how much more `of` is.
    fn of(&mut self, of: Use) -> Option<(&mut usize, usize)> {
        match of {
            Use::Read => None,
            Use::Attaches(number) => Some((&mut self.attaches, number)),
            Use::Stream => Some((&mut self.streams, 1)),
        }
    }

    /// Whether forgetting it changes nothing. The least rate is one call a second.
    fn is_idle(&mut self, now: Instant) -> bool {
        self.request_ids.expire(now);
        self.attaches == 0
            && self.streams == 0
            && self.request_ids.known.is_empty()
            && self.calls.is_empty(1.0, now)
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        let mut callers = self.quotas.lock();
        let usage = callers.get_mut(&self.caller).and_then(|usage| usage.of(self.of));
        if let Some((in_use, number)) = usage {
            *in_use = in_use.saturating_sub(number);
        }
    }
}

fn exceeded(limit: &str, delay: Duration) -> Failure {
    let why = format!(
        "the caller has its quota of {limit} on this replica; nothing was sent; call again later"
    );
    Failure::new(Reason::CallerQuotaExceeded, why).retry_after(delay)
}

/// A call that has more than the quota, so that no delay helps.
fn too_large(number: usize, limit: usize, what: &str) -> Failure {
    let why = format!(
        "the call has {number} enis, and the caller a quota of {limit} {what}; nothing was sent; \
         send at most {limit} enis in one call"
    );
    Failure::new(Reason::CallerQuotaExceeded, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller(name.into())
    }

    const NONE: Quota = Quota {
        calls_per_second: None,
        attaches_in_flight: None,
        watch_streams: None,
        request_ids_per_hour: None,
    };

    #[tokio::test(start_paused = true)]
    async fn a_new_request_id_counts_for_an_hour() {
        let (quotas, quota) = (Quotas::default(), Quota { request_ids_per_hour: Some(2), ..NONE });
        let attach = |name: &str, instance: &str, id: u128| {
            let permit = quotas.enter(&caller(name), &quota, Use::Attaches(1))?;
            let id = RequestId(uuid::Uuid::from_u128(id));
            quotas.enter_request_ids(&permit, &quota, &instance.parse().expect("an id"), &[id])
        };
        attach("a", "i-1", 1).expect("the first");
        attach("a", "i-1", 1).expect("a repeat");
        tokio::time::advance(HOUR / 4).await;
        attach("a", "i-2", 1).expect("another instance, another id");
        let refused = attach("a", "i-1", 2).expect_err("over the quota");
        assert_eq!(refused.reason, Reason::CallerQuotaExceeded);
        assert_eq!(refused.retry_after, Some(HOUR * 3 / 4));
        attach("b", "i-1", 2).expect("its quota is its own");
        tokio::time::advance(HOUR * 3 / 4).await;
        attach("a", "i-1", 2).expect("the first counts no more");
        attach("a", "i-2", 1).expect("still a repeat");
        assert!(attach("a", "i-1", 1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_over_time_for_each_caller() {
        let (quotas, quota) = (Quotas::default(), Quota { calls_per_second: Some(4), ..NONE });
        let call = |name| quotas.enter(&caller(name), &quota, Use::Read).map(drop);
        for _ in 0..4 {
            call("a").expect("a second's calls");
        }
        let refused = call("a").expect_err("over the quota");
        assert_eq!(refused.reason, Reason::CallerQuotaExceeded);
        let delay = refused.retry_after.expect("a delay");
        assert_eq!(delay, Duration::from_millis(250));
        call("b").expect("its quota is its own");
        tokio::time::advance(delay).await;
        call("a").expect("the delay was enough");
        assert!(call("a").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_is_given_back() {
        let (quotas, quota) = (
            Quotas::default(),
            Quota { attaches_in_flight: Some(1), watch_streams: Some(2), ..NONE },
        );
        let enter = |of| quotas.enter(&caller("a"), &quota, of);
        let attach = enter(Use::Attaches(1)).expect("the first");
        assert!(enter(Use::Attaches(1)).is_err());
        let _streams = (enter(Use::Stream).expect("one"), enter(Use::Stream).expect("two"));
        assert!(enter(Use::Stream).is_err() && enter(Use::Read).is_ok());
        drop(attach);
        assert!(enter(Use::Attaches(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_counts_as_its_attaches_and_as_all_of_its_ids_or_none() {
        let quotas = Quotas::default();
        let limits = Quota { attaches_in_flight: Some(3), request_ids_per_hour: Some(3), ..NONE };
        let enter = |number| quotas.enter(&caller("a"), &limits, Use::Attaches(number));
        let batch = enter(2).expect("two of three");
        let refused = enter(2).expect_err("more than is left");
        assert!(refused.message.contains("and the call has 2"), "{}", refused.message);
        assert!(refused.retry_after.is_some());
        drop(enter(1).expect("the third"));

        let instance = "i-1".parse().expect("an id");
        let ids = |ids: &[u128]| {
            let ids: Vec<_> = ids.iter().map(|id| RequestId(uuid::Uuid::from_u128(*id))).collect();
            quotas.enter_request_ids(&batch, &limits, &instance, &ids)
        };
        ids(&[1, 2]).expect("two of three");
        tokio::time::advance(HOUR / 4).await;
        assert_eq!(ids(&[3, 4]).expect_err("one too many").retry_after, Some(HOUR * 3 / 4));
        ids(&[1, 3]).expect("none of the refused batch counts");
        drop(batch);
        assert!(enter(3).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_no_delay_helps_is_refused_with_the_maximum() {
        let (quotas, instance) = (Quotas::default(), "i-1".parse().expect("an id"));
        let limits = Quota {
            calls_per_second: Some(1),
            attaches_in_flight: Some(3),
            request_ids_per_hour: Some(2),
            ..NONE
        };
        let enter = |number| quotas.enter(&caller("a"), &limits, Use::Attaches(number));
        let refused = enter(4).expect_err("more than the quota");
        assert_eq!(refused.retry_after, None);
        assert!(refused.message.contains("send at most 3 "), "{}", refused.message);
        // A batch is one call of its second.
        let batch = enter(3).expect("what the quota has");
        let ids = |ids: std::ops::Range<u128>| {
            let ids: Vec<_> = ids.map(|id| RequestId(uuid::Uuid::from_u128(id))).collect();
            quotas.enter_request_ids(&batch, &limits, &instance, &ids)
        };
        let refused = ids(0..3).expect_err("more than the quota");
        assert_eq!(refused.retry_after, None);
        assert!(refused.message.contains("send at most 2 "), "{}", refused.message);
        ids(0..2).expect("what the quota has");
        let delayed = ids(1..3).expect_err("one too many").retry_after;
        assert_eq!(delayed, Some(HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_without_calls_are_forgotten() {
        let (quotas, quota) = (Quotas::default(), Quota { calls_per_second: Some(1), ..NONE });
        let kept = quotas.enter(&caller("kept"), &quota, Use::Stream).expect("a stream");
        for n in 0..=MANY {
            drop(quotas.enter(&caller(&n.to_string()), &quota, Use::Read).expect("one"));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(quotas.enter(&caller("last"), &quota, Use::Read).expect("one"));
        assert_eq!(quotas.lock().len(), 2);
        drop(kept);
    }
}
