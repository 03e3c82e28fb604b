//! The bounds that the safety argument rests on.

use std::time::Duration;

use crate::model::Timestamp;

use super::record::{Attempt, SendEntry};
use super::safety_checks::{SafetyCheck, SafetyChecks};

/// A handed-over grant lapses unless its holder polls within this time.
pub const PROVISIONAL_GRANT: Duration = Duration::from_secs(1);
/// A place in the queue is dead unless polled within this time.
pub const WAITER_LIFE: Duration = Duration::from_secs(1);
/// How long an observation is good for.
pub const OBSERVATION_LIFE: Duration = Duration::from_secs(2);
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
pub const FIRST_POLL: Duration = Duration::from_secs(1);
/// The longest pause between two looks at an attempt: that of a stuck one.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How far a record's times may lie in the future without another clock: two replicas may each be off by
/// [`MAX_CLOCK_DIFFERENCE`](super::MAX_CLOCK_DIFFERENCE).
pub const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);
/// An attempt that was due so long ago has lost its place in the queue, or those who drive it are stuck: it is put there anew.
pub const OVERDUE: Duration = Duration::from_secs(15);
/// How often `tracker.reconcile_after` after the last change an instance is compared with ENS: a few times, ever more seldom.
const RECONCILE_ROUNDS: [u32; 3] = [1, 5, 30];
/// The same while something is under way: again and again.
const RECONCILE_ROUNDS_LIVE: u32 = 5;

/// The part of the bounds that all replicas of a ledger act by. Each replica has settings of its own; while they differ, as in a
/// rolling change, the safer one of each is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedBounds {
    /// As [`Bounds::limit`]: the smallest is in force.
    pub limit: usize,
    /// As [`Bounds::count_primary`]: in force if any replica has it.
    pub count_primary: bool,
    /// As [`Bounds::lag`]: the largest is in force.
    pub lag: Duration,
    /// As [`Bounds::validity`]: the largest is in force.
    pub validity: Duration,
    /// As [`Bounds::lease`]: the largest is in force.
    pub lease: Duration,
    /// As [`Bounds::failover_window`]: the largest is in force.
    pub failover_window: Duration,
}

impl SharedBounds {
    /// The safer one of each.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            limit: self.limit.min(other.limit),
            count_primary: self.count_primary || other.count_primary,
            lag: self.lag.max(other.lag),
            validity: self.validity.max(other.validity),
            lease: self.lease.max(other.lease),
            failover_window: self.failover_window.max(other.failover_window),
        }
    }

    /// How long a partition stays closed after it may have lost writes: until nothing that it forgot can still arrive
    /// or be hidden.
    #[must_use]
    pub fn recovery_hold_down(&self) -> Duration {
        self.failover_window + self.lease + self.validity + self.lag
    }
}

/// The configured bounds.
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
    /// `tracker.reconcile_after`. Default 1 min.
    pub reconcile_after: Duration,
    /// All of them, but in tests that look what a rule is for.
    pub checks: SafetyChecks,
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
            reconcile_after: Duration::from_secs(60),
            checks: SafetyChecks::default(),
        }
    }
}

impl Bounds {
    /// What of them replicas share.
    #[must_use]
    pub fn shared(&self) -> SharedBounds {
        SharedBounds {
            limit: self.limit,
            count_primary: self.count_primary,
            lag: self.lag,
            validity: self.validity,
            lease: self.lease,
            failover_window: self.failover_window,
        }
    }

    /// These bounds where replicas share `shared`.
    #[must_use]
    pub fn among(&self, shared: Option<SharedBounds>) -> Self {
        let SharedBounds {
            limit,
            count_primary,
            lag,
            validity,
            lease,
            failover_window,
        } = shared.map_or_else(|| self.shared(), |shared| self.shared().join(shared));
        Self {
            limit,
            count_primary,
            lag,
            validity,
            lease,
            failover_window,
            ..self.clone()
        }
    }

    /// How long a partition stays closed after it may have lost writes.
    #[must_use]
    pub fn recovery_hold_down(&self) -> Duration {
        self.shared().recovery_hold_down()
    }

    /// The farthest in the future that a comparison is ever due.
    #[must_use]
    pub fn reconcile_horizon(&self) -> Duration {
        let times = RECONCILE_ROUNDS.iter().copied().fold(RECONCILE_ROUNDS_LIVE, u32::max);
        self.reconcile_after * times + Duration::from_secs(60)
    }

    /// The farthest in the future that an attempt is ever due.
    #[must_use]
    pub fn due_horizon(&self) -> Duration {
        let longest = LONGEST_PAUSE.max(self.lease + LEASE_MARGIN).max(self.lag);
        longest + Duration::from_secs(1) + CLOCK_TOLERANCE
    }

    /// When an instance that last changed at `changed_at` is compared with ENS next; `live`: something is under way on it.
    #[must_use]
    pub fn next_reconciliation(&self, changed_at: Timestamp, live: bool, now: Timestamp) -> Option<Timestamp> {
        let live = live.then(|| now + self.reconcile_after * RECONCILE_ROUNDS_LIVE);
        let rounds = RECONCILE_ROUNDS
            .iter()
            .map(|times| changed_at + self.reconcile_after * *times);
        rounds.chain(live).filter(|at| *at > now).min()
    }

    /// When a describe that shows the ENI free, elsewhere or gone proves that no send of this attempt took or will take effect:
    /// one sent after this time. A copy that was answered was applied before the answer, and shows one lag later at most; one that was
    /// not may be applied for as long as ENS takes it, and shows one lag after that.
    #[must_use]
    pub fn grace_ends(&self, attempt: &Attempt) -> Timestamp {
        let ends = attempt.sends.iter().map(|send| match send.answered_at {
            Some(answered_at) if self.checks.enabled(SafetyCheck::GraceOfAccepted) => answered_at + self.lag,
            None if self.checks.enabled(SafetyCheck::GraceOfUnanswered) => self.copy_shows(send),
            Some(_) | None => send.at,
        });
        ends.max().unwrap_or(attempt.in_flight_since() + self.lag)
    }

    /// When whatever became of every unanswered copy shows in every describe; long ago, if all were answered.
    #[must_use]
    pub fn open_copies_show(&self, attempt: &Attempt) -> Timestamp {
        let unanswered = attempt.sends.iter().filter(|send| send.answered_at.is_none());
        unanswered.map(|send| self.copy_shows(send)).max().unwrap_or_default()
    }

    /// When whatever became of an unanswered copy shows in every describe: it may be applied for as long as ENS takes it, and
    /// shows one lag after that.
    #[must_use]
    pub fn copy_shows(&self, send: &SendEntry) -> Timestamp {
        send.counts_from() + self.validity + self.lag
    }
}
