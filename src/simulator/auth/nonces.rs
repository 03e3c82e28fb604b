//! Which nonces were used: each is good once, for as long as its date could pass.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

/// The nonces of the last while.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    used: HashSet<String>,
    by_age: VecDeque<(Timestamp, String)>,
}

impl Nonces {
    /// Uses a nonce; false if it was used already. Those older than `memory` are forgotten.
    pub(super) fn take(&mut self, nonce: &str, now: Timestamp, memory: SignedDuration) -> bool {
        while self
            .by_age
            .front()
            .is_some_and(|(since, _)| now.duration_since(*since) > memory)
        {
            if let Some((_, old)) = self.by_age.pop_front() {
                self.used.remove(&old);
            }
        }
        let new = self.used.insert(nonce.to_owned());
        if new {
            self.by_age.push_back((now, nonce.to_owned()));
        }
        new
    }
}
