//! Used nonces. Each is valid once, for as long as its date is accepted.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

/// The recent nonces.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    used: HashSet<String>,
    by_age: VecDeque<(Timestamp, String)>,
}

impl Nonces {
    /// Uses a nonce; `false` if it was used already. Nonces older than `memory` are removed.
    pub(super) fn take(&mut self, nonce: &str, now: Timestamp, memory: SignedDuration) -> bool {
        while self.by_age.front().is_some_and(|(since, _)| now.duration_since(*since) > memory) {
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
