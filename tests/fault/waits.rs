//! The waiting callers of each instance, and the longest time in which none of them was served.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// How long before a wait an outage began that is shown with it.
const BEFORE: Duration = Duration::from_secs(60);

/// The waiting callers of an instance.
#[derive(Debug, Default)]
struct Wait {
    waiting: usize,
    /// Since when callers wait and none was served.
    since: Option<Instant>,
    /// What happened since.
    history: Vec<Event>,
    served: u64,
}

/// Something that happened at an instance, once or repeatedly.
#[derive(Debug, Clone)]
struct Event {
    first: Instant,
    last: Instant,
    what: String,
    times: u32,
}

impl Wait {
    fn record(&mut self, what: String) {
        let now = Instant::now();
        match self.history.last_mut() {
            Some(event) if event.what == what => (event.last, event.times) = (now, event.times + 1),
            _ => self.history.push(Event { first: now, last: now, what, times: 1 }),
        }
    }
}

/// A time in which callers waited for an instance and none was served there.
#[derive(Debug, Clone)]
pub(crate) struct Longest {
    /// How much of it lies outside of faults and of what they leave behind.
    pub(crate) outside: Duration,
    instance: String,
    since: Instant,
    ended: Instant,
    history: Vec<Event>,
}

/// A fault and its recovery.
#[derive(Debug, Clone)]
struct Outage {
    begins: Instant,
    /// `None` while the fault lasts.
    ends: Option<Instant>,
    what: String,
}

#[derive(Debug, Default)]
struct Facts {
    instances: BTreeMap<String, Wait>,
    longest: Duration,
    longest_outside: Option<Longest>,
    outages: Vec<Outage>,
}

impl Facts {
    /// How much of the time from `from` to `until` lies outside all outages.
    fn outside(&self, from: Instant, until: Instant) -> Duration {
        let ends = |outage: &Outage| outage.ends.unwrap_or(until);
        let mut outages: Vec<_> =
            self.outages.iter().map(|outage| (outage.begins, ends(outage))).collect();
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
#[derive(Debug)]
pub(crate) struct Waits {
    began: Instant,
    facts: Mutex<Facts>,
}

/// One caller that waits, until it is served or leaves.
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    instance: Option<String>,
}

impl Waits {
    /// None yet, in a run that began then.
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, facts: Mutex::default() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    pub(crate) fn begin(&self, instance: &str) -> Waiting<'_> {
        let mut facts = self.facts();
        let wait = facts.instances.entry(instance.to_owned()).or_default();
        wait.waiting += 1;
        wait.since.get_or_insert_with(Instant::now);
        Waiting { waits: self, instance: Some(instance.to_owned()) }
    }

    /// The instances where callers wait, with the number of callers served there before.
    pub(crate) fn waited_for(&self) -> BTreeMap<String, u64> {
        let facts = self.facts();
        let waited = facts.instances.iter().filter(|(_, wait)| wait.waiting > 0);
        waited.map(|(instance, wait)| (instance.clone(), wait.served)).collect()
    }

    /// The instances where callers wait and none was served for this long.
    pub(crate) fn unserved_for(&self, time: Duration) -> Vec<String> {
        let facts = self.facts();
        let unserved = facts
            .instances
            .iter()
            .filter(|(_, wait)| wait.since.is_some_and(|since| since.elapsed() >= time));
        unserved.map(|(instance, _)| instance.clone()).collect()
    }

    /// Records what was seen of an instance while callers wait there.
    pub(crate) fn record(&self, instance: &str, what: String) {
        let mut facts = self.facts();
        let wait = facts.instances.get_mut(instance);
        if let Some(wait) = wait.filter(|wait| wait.since.is_some()) {
            wait.record(what);
        }
    }

    /// Whether a caller was served on each of these since, or none waits there any more.
    pub(crate) fn all_served(&self, since: &BTreeMap<String, u64>) -> bool {
        let facts = self.facts();
        since.iter().all(|(instance, served)| {
            let wait = facts.instances.get(instance);
            wait.is_none_or(|wait| wait.served > *served || wait.waiting == 0)
        })
    }

    /// A fault began then. Returns its number, for its end.
    pub(crate) fn outage(&self, begins: Instant, what: String) -> usize {
        let mut facts = self.facts();
        facts.outages.push(Outage { begins, ends: None, what });
        facts.outages.len() - 1
    }

    /// The recovery from a fault ends then.
    pub(crate) fn outage_ends(&self, number: usize, at: Instant) {
        self.facts().outages[number].ends = Some(at);
    }

    /// As [`Waits::longest`], without outages.
    pub(crate) fn longest_outside(&self) -> Option<Longest> {
        self.facts().longest_outside.clone()
    }

    /// The longest time in which callers waited for an instance and none was served there.
    pub(crate) fn longest(&self) -> Duration {
        self.facts().longest
    }

    /// The wait as one line.
    pub(crate) fn summary(&self, longest: &Longest) -> String {
        let Longest { outside, instance, since, ended, .. } = longest;
        let (from, until) = (*since - self.began, *ended - self.began);
        format!(
            "{outside:.1?} outside of faults: no caller was served on {instance} from {from:.1?} \
             to {until:.1?}"
        )
    }

    /// What happened meanwhile: the outages, what callers received, and what held them up.
    pub(crate) fn details(&self, longest: &Longest) -> String {
        let at = |then: Instant| format!("{:.1?}", then.saturating_duration_since(self.began));
        let mut text = String::new();
        for Outage { begins, ends, what } in &self.facts().outages {
            let over = ends.is_some_and(|ends| ends + BEFORE < longest.since);
            if *begins < longest.ended && !over {
                let ends = ends.map_or_else(|| "now".to_owned(), at);
                write!(text, "\n    {} to {ends}: {what}", at(*begins)).unwrap();
            }
        }
        for Event { first, last, what, times } in &longest.history {
            write!(text, "\n    {}", at(*first)).unwrap();
            if *times > 1 {
                write!(text, " to {}, {times} times", at(*last)).unwrap();
            }
            write!(text, ": {what}").unwrap();
        }
        text
    }
}

impl Waiting<'_> {
    /// Received a final answer.
    pub(crate) fn served(&mut self) {
        self.leave(true);
    }

    /// Received an answer, and calls again.
    pub(crate) fn answered(&mut self, answer: String) {
        if let Some(instance) = &self.instance {
            self.waits.record(instance, answer);
        }
    }

    /// Waits for something else now.
    pub(crate) fn gone(&mut self) {
        self.leave(false);
    }

    fn leave(&mut self, served: bool) {
        let Some(instance) = self.instance.take() else {
            return;
        };
        let mut facts = self.waits.facts();
        let Some(wait) = facts.instances.get_mut(&instance) else {
            return;
        };
        wait.waiting -= 1;
        wait.served += u64::from(served);
        let (since, ended, history) = (wait.since, Instant::now(), wait.history.clone());
        if served || wait.waiting == 0 {
            wait.since = (wait.waiting > 0).then_some(ended);
            wait.history.clear();
        }
        let Some(since) = since else { return };
        if served {
            facts.longest = facts.longest.max(ended - since);
        }
        let outside = facts.outside(since, ended);
        if facts.longest_outside.as_ref().is_none_or(|longest| outside > longest.outside) {
            facts.longest_outside = Some(Longest { outside, instance, since, ended, history });
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gone();
    }
}
