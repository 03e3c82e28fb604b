//! Who waits for an instance, and since when nobody was served there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
struct Wait {
    waiting: usize,
    /// Since when somebody waits and nobody was served.
    since: Option<Instant>,
    served: u64,
}

#[derive(Debug, Default)]
struct Book {
    instances: BTreeMap<String, Wait>,
    longest: Duration,
    /// The longest of them, without the time in which a fault struck or was recovered from, and where.
    longest_outside: (Duration, String),
    /// When faults struck, and until when they were recovered from.
    outages: Vec<(Instant, Instant)>,
}

impl Book {
    /// How much of the time from `from` to `until` lies outside all outages.
    fn outside(&self, from: Instant, until: Instant) -> Duration {
        let mut outages = self.outages.clone();
        outages.sort_unstable();
        let (mut outside, mut at) = (Duration::ZERO, from);
        for (begins, ends) in outages.into_iter().filter(|(begins, _)| *begins < until) {
            outside += begins.saturating_duration_since(at);
            at = at.max(ends);
        }
        outside + until.saturating_duration_since(at)
    }
}

/// The waits of one ledger's callers.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Book>);

/// One caller who waits, until he is served or leaves.
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    instance: Option<String>,
}

impl Waits {
    fn ledger(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    pub(crate) fn begin(&self, instance: &str) -> Waiting<'_> {
        let mut ledger = self.ledger();
        let wait = ledger.instances.entry(instance.to_owned()).or_default();
        wait.waiting += 1;
        wait.since.get_or_insert_with(Instant::now);
        Waiting {
            waits: self,
            instance: Some(instance.to_owned()),
        }
    }

    /// The instances where somebody waits, with how many were served there before.
    pub(crate) fn waited_for(&self) -> BTreeMap<String, u64> {
        let ledger = self.ledger();
        let waited = ledger.instances.iter().filter(|(_, wait)| wait.waiting > 0);
        waited.map(|(instance, wait)| (instance.clone(), wait.served)).collect()
    }

    /// Whether somebody was served on each of these since, or nobody waits there any more.
    pub(crate) fn all_served(&self, since: &BTreeMap<String, u64>) -> bool {
        let ledger = self.ledger();
        since.iter().all(|(instance, served)| {
            let wait = ledger.instances.get(instance);
            wait.is_none_or(|wait| wait.served > *served || wait.waiting == 0)
        })
    }

    /// A fault struck in this time, and was recovered from.
    pub(crate) fn outage(&self, begins: Instant, ends: Instant) {
        self.ledger().outages.push((begins, ends));
    }

    /// As [`Waits::longest`], without outages; and on which instance it was.
    pub(crate) fn longest_outside(&self) -> (Duration, String) {
        self.ledger().longest_outside.clone()
    }

    /// The longest time in which somebody waited for an instance and nobody was served there.
    pub(crate) fn longest(&self) -> Duration {
        self.ledger().longest
    }
}

impl Waiting<'_> {
    /// Was answered for good.
    pub(crate) fn served(&mut self) {
        self.leave(true);
    }

    /// Waits for something else now.
    pub(crate) fn gone(&mut self) {
        self.leave(false);
    }

    fn leave(&mut self, served: bool) {
        let Some(instance) = self.instance.take() else { return };
        let mut ledger = self.waits.ledger();
        let Some(wait) = ledger.instances.get_mut(&instance) else {
            return;
        };
        wait.waiting -= 1;
        wait.served += u64::from(served);
        let since = wait.since;
        if served || wait.waiting == 0 {
            wait.since = (wait.waiting > 0).then(Instant::now);
        }
        let Some(since) = since else { return };
        if served {
            ledger.longest = ledger.longest.max(since.elapsed());
        }
        let outside = ledger.outside(since, Instant::now());
        if outside > ledger.longest_outside.0 {
            ledger.longest_outside = (outside, instance);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gone();
    }
}
