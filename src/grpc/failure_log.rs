//! The log lines of failed calls, summed. A client that fails in a loop must not fill the disk.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

/// Time over which failures of one kind are summed.
const WINDOW: Duration = Duration::from_secs(1);
/// Maximum number of kinds that are summed apart. Further ones count as of no peer.
const MOST: usize = 1024;

/// What failures have in common whose lines are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FailureKind {
    /// Address of the peer, or its IPv6 network.
    pub(super) peer: Option<IpAddr>,
    pub(super) method: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: Option<&'static str>,
}

/// The failures of this second. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct FailureLog(Arc<Mutex<BTreeMap<FailureKind, usize>>>);

impl FailureLog {
    /// Whether the failure is the first of its kind in this second, which has a line of its own.
    /// The others are counted, and have one line at the end of the second.
    pub(super) fn is_first(&self, mut kind: FailureKind) -> bool {
        let mut counts = self.lock();
        if counts.is_empty() {
            let log = self.clone();
            #[expect(clippy::disallowed_methods, reason = "ends after a second, by itself")]
            tokio::spawn(async move {
                sleep(WINDOW).await;
                log.report();
            });
        }
        if counts.len() >= MOST && !counts.contains_key(&kind) {
            kind.peer = None;
        }
        match counts.get_mut(&kind) {
            Some(count) => {
                *count += 1;
                false
            }
            None => {
                counts.insert(kind, 0);
                true
            }
        }
    }

    fn report(&self) {
        let counts = std::mem::take(&mut *self.lock());
        for (FailureKind { peer, method, status, reason }, calls) in counts {
            if calls > 0 {
                let peer = peer.map(tracing::field::display);
                tracing::info!(
                    method,
                    status,
                    reason,
                    peer,
                    calls,
                    "more rpcs failed with the same status"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FailureKind, usize>> {
        // Counting cannot panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_of_a_kind_and_second_has_a_line() {
        let log = FailureLog::default();
        let kind = |host: u8| FailureKind {
            peer: Some([10, 0, 0, host].into()),
            method: "m",
            status: "s",
            reason: None,
        };
        assert_eq!([1, 1, 2, 1].map(|host| log.is_first(kind(host))), [true, false, true, false]);
        assert_eq!(log.lock()[&kind(1)], 2);
        sleep(WINDOW * 2).await;
        assert!(log.lock().is_empty() && log.is_first(kind(1)));
    }
}
