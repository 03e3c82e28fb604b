//! The bounds that the safety argument rests on.

use std::time::Duration;

use crate::model::Timestamp;

use super::record::Attempt;
use super::rules::{Rule, Rules};

/// A handed-over grant lapses unless its holder polls within this time.
pub const PROVISIONAL_GRANT: Duration = Duration::from_secs(1);
/// A place in the queue is dead unless polled within this time.
pub const WAITER_LIFE: Duration = Duration::from_secs(1);
/// How long an observation is good for.
pub const OBSERVATION_LIFE: Duration = Duration::from_secs(2);
/// How long the ledger's word that an ENI is attached is taken for true without asking ENS; longer than a describe takes.
pub const PRESENT_LIFE: Duration = Duration::from_secs(5);
/// How long at most, doubled while the instance stays full.
pub const OBSERVATION_LIFE_MAX: Duration = Duration::from_secs(30);
/// How long ENS's own limit is believed at most.
pub const LEARNED_LIMIT_LIFE: Duration = Duration::from_secs(60);
/// Most sends of one attempt.
pub const MAX_SENDS: usize = 3;
/// How long ended attempts are remembered.
pub const ENDED_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Most ended attempts that one instance remembers: the newest.
pub const MAX_ENDED: usize = 20;
/// About how many bytes they take at most, all together. Each commit writes them.
pub const MAX_ENDED_SIZE: usize = 16 * 1024;
/// Most request ids that one instance remembers, of all callers together.
pub const MAX_REQUESTS: usize = 32;
/// How long the record of an instance is kept on which something is attached and nothing happens.
pub const IDLE_LIFE: Duration = Duration::from_secs(48 * 3600);
/// How long a record without attempts is kept: longer than any lock, observation or step of a clock that is worth a thought.
pub const EMPTY_LIFE: Duration = Duration::from_secs(300);
/// What a lease must have left beside a send's timeout when the send goes out, and how long after its lease an owner is given up.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// The first look at an accepted attempt comes this long after its acceptance.
pub const FIRST_LOOK: Duration = Duration::from_secs(1);
/// An attempt that was due so long ago has lost its place in the queue, or those who drive it are stuck: it is put there anew.
pub const OVERDUE: Duration = Duration::from_secs(15);
/// How often `tracker.compare_after` after the last change an instance is compared with ENS: a few times, ever more seldom.
const COMPARISONS: [u32; 3] = [1, 5, 30];
/// The same while something is under way: again and again.
const COMPARISONS_LIVE: u32 = 5;

/// The configured bounds; all replicas must agree on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `ens.visibility_lag`: how long after a change a describe may still show the old state. Default 10 s.
    pub lag: Duration,
    /// `ens.request_validity`: how long after its signature an unanswered request may still be applied. Default 30 s.
    pub validity: Duration,
    /// How long a confirmed grant lasts. 15 s: longer than the longest critical section.
    pub lease: Duration,
    /// `ledger.failover_window`: the longest stretch of writes that a failover can lose. Default 15 s.
    pub failover_window: Duration,
    /// `limit.enis_per_instance`. Default 10.
    pub limit: usize,
    /// `limit.count_primary`. Default false.
    pub count_primary: bool,
    /// `tracker.stuck_after`. Default 5 min.
    pub stuck_after: Duration,
    /// `tracker.compare_after`. Default 1 min.
    pub compare_after: Duration,
    /// All of them, but in tests that look what a rule is for.
    pub rules: Rules,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lag: Duration::from_secs(10),
            validity: Duration::from_secs(30),
            lease: Duration::from_secs(15),
            failover_window: Duration::from_secs(15),
            limit: 10,
            count_primary: false,
            stuck_after: Duration::from_secs(300),
            compare_after: Duration::from_secs(60),
            rules: Rules::default(),
        }
    }
}

impl Bounds {
    /// How long a partition stays closed after it may have lost writes: until nothing that it forgot can still arrive
    /// or be hidden.
    #[must_use]
    pub fn hold(&self) -> Duration {
        self.failover_window + self.lease + self.validity + self.lag
    }

    /// When an instance that last changed at `changed_at` is compared with ENS next; `live`: something is under way on it.
    #[must_use]
    pub fn next_comparison(&self, changed_at: Timestamp, live: bool, now: Timestamp) -> Option<Timestamp> {
        let live = live.then(|| now + self.compare_after * COMPARISONS_LIVE);
        let rounds = COMPARISONS.iter().map(|times| changed_at + self.compare_after * *times);
        rounds.chain(live).filter(|at| *at > now).min()
    }

    /// When a describe that shows the ENI free, elsewhere or gone proves that no send of this attempt took or will take effect:
    /// one sent after this time. A copy that was answered was applied before the answer, and shows one lag later at most; one that was
    /// not may be applied for as long as ENS takes it, and shows one lag after that.
    #[must_use]
    pub fn grace_ends(&self, attempt: &Attempt) -> Timestamp {
        let ends = attempt.sends.iter().map(|send| match send.answered_at {
            Some(answered_at) if self.rules.hold(Rule::GraceOfAccepted) => answered_at + self.lag,
            None if self.rules.hold(Rule::GraceOfUnanswered) => send.at + self.validity + self.lag,
            Some(_) | None => send.at,
        });
        ends.max().unwrap_or(attempt.attachment.created_at + self.lag)
    }
}
