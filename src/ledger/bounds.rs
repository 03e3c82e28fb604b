//! The bounds that the safety argument rests on.

use std::time::Duration;

use crate::model::Timestamp;

use super::safety_checks::SafetyCheck;

/// How long a handed-over grant waits for the poll that confirms it.
pub const PROVISIONAL_GRANT: Duration = Duration::from_secs(1);
/// How long a place in the queue lasts without a poll.
pub const WAITER_LIFE: Duration = Duration::from_secs(1);
/// How long an observation is valid.
pub const OBSERVATION_LIFE: Duration = Duration::from_secs(2);
/// Maximum validity of an observation, which doubles while the instance stays full.
pub const OBSERVATION_LIFE_MAX: Duration = Duration::from_secs(30);
/// How long a limit learned from ENS is in force.
pub const LEARNED_LIMIT_LIFE: Duration = Duration::from_secs(60);
/// Maximum number of sends of one attempt.
pub const MAX_SENDS: usize = 3;
/// How long ended attempts are kept.
pub const ENDED_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of ended attempts in one record. The newest are kept.
pub const MAX_ENDED: usize = 20;
/// Approximate maximum size of all ended attempts of one record, in bytes. Each commit writes them.
pub const MAX_ENDED_SIZE: usize = 16 * 1024;
/// Maximum number of request ids in one record, of all callers together.
pub const MAX_REQUESTS: usize = 32;
/// How long a record is kept that has an attachment and does not change.
pub const IDLE_LIFE: Duration = Duration::from_secs(48 * 3600);
/// How long a record without attempts is kept. Longer than any lock, observation or realistic clock
/// step.
pub const EMPTY_LIFE: Duration = Duration::from_secs(300);
/// Time that must be left of a lease beyond a send's timeout when the send goes out. Also the time
/// from the end of a lease until its owner counts as gone.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// Time from acceptance to the first poll of an accepted attempt.
pub const FIRST_POLL: Duration = Duration::from_secs(1);
/// Longest pause between two polls of an attempt. A stuck attempt reaches it.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Tolerance for times in the future. Two replicas may each be off by
/// [`MAX_CLOCK_DIFFERENCE`](super::MAX_CLOCK_DIFFERENCE). A later time was written by another
/// clock.
pub const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);
/// Delay after which a due attempt is scheduled again. It has lost its place in the queue, or no
/// tracker makes progress.
pub const OVERDUE: Duration = Duration::from_secs(15);
/// Delays between reconciliations after the last change, in units of `tracker.reconcile_after`. The
/// list is short, and the delays grow.
const RECONCILE_ROUNDS: [u32; 3] = [1, 5, 30];
/// Delay between reconciliations while an attempt is in flight. It repeats without end.
const RECONCILE_ROUNDS_LIVE: u32 = 5;

/// The bounds that all replicas of a ledger share. Each replica has its own settings. While they
/// differ, as in a rolling update, the safer value of each is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedBounds {
    /// As [`Bounds::limit`]. The smallest is in force.
    pub limit: usize,
    /// As [`Bounds::count_primary`]. In force if any replica sets it.
    pub count_primary: bool,
    /// As [`Bounds::lag`]. The largest is in force.
    pub lag: Duration,
    /// As [`Bounds::validity`]. The largest is in force.
    pub validity: Duration,
    /// As [`Bounds::lease`]. The largest is in force.
    pub lease: Duration,
    /// As [`Bounds::failover_window`]. The largest is in force.
    pub failover_window: Duration,
}

impl SharedBounds {
    /// The safer value of each bound.
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

    /// Duration of the hold-down after a possible loss of writes. At its end every forgotten send
    /// has arrived and is visible.
    #[must_use]
    pub fn recovery_hold_down(&self) -> Duration {
        self.failover_window + self.lease + self.validity + self.lag
    }
}

/// The configured bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `ens.visibility_lag`: how long after a change a Describe call may still show the old state.
    /// Default 10 s.
    pub lag: Duration,
    /// `ens.request_validity`: how long after its signature a request without a response may still
    /// be applied. Default 30 s.
    pub validity: Duration,
    /// Lease of a confirmed grant. 15 s is longer than the longest critical section.
    pub lease: Duration,
    /// `ledger.failover_window`: longest period of writes that a failover can lose. Default 15 s.
    pub failover_window: Duration,
    /// `limit.enis_per_instance`. Default 10.
    pub limit: usize,
    /// `limit.count_primary`. Default false.
    pub count_primary: bool,
    /// `tracker.stuck_after`. Default 5 min.
    pub stuck_after: Duration,
    /// `tracker.reconcile_after`. Default 1 min.
    pub reconcile_after: Duration,
    /// The safety check that a mutation test switches off.
    #[cfg(feature = "mutations")]
    pub without: Option<SafetyCheck>,
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
            #[cfg(feature = "mutations")]
            without: None,
        }
    }
}

impl Bounds {
    /// Whether a safety check is on. Only a mutation test switches one off.
    #[cfg(not(feature = "mutations"))]
    #[must_use]
    pub const fn enabled(&self, _check: SafetyCheck) -> bool {
        true
    }

    /// Whether a safety check is on.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub fn enabled(&self, check: SafetyCheck) -> bool {
        self.without != Some(check)
    }

    /// The part that replicas share.
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

    /// These bounds, with the values of `shared` in force.
    #[must_use]
    pub fn among(&self, shared: Option<SharedBounds>) -> Self {
        let SharedBounds { limit, count_primary, lag, validity, lease, failover_window } =
            shared.map_or_else(|| self.shared(), |shared| self.shared().join(shared));
        Self { limit, count_primary, lag, validity, lease, failover_window, ..self.clone() }
    }

    /// Duration of the hold-down after a possible loss of writes.
    #[must_use]
    pub fn recovery_hold_down(&self) -> Duration {
        self.shared().recovery_hold_down()
    }

    /// The farthest future time at which a reconciliation is ever due.
    #[must_use]
    pub fn reconcile_horizon(&self) -> Duration {
        let times = RECONCILE_ROUNDS.iter().copied().fold(RECONCILE_ROUNDS_LIVE, u32::max);
        self.reconcile_after * times + Duration::from_secs(60)
    }

    /// The farthest future time at which an attempt is ever due.
    #[must_use]
    pub fn due_horizon(&self) -> Duration {
        let longest = LONGEST_PAUSE.max(self.lease + LEASE_MARGIN).max(self.lag);
        longest + Duration::from_secs(1) + CLOCK_TOLERANCE
    }

    /// The next reconciliation of an instance that last changed at `changed_at`. `live`: an attempt
    /// on it is in flight.
    #[must_use]
    pub fn next_reconciliation(
        &self,
        changed_at: Timestamp,
        live: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let live = live.then(|| now + self.reconcile_after * RECONCILE_ROUNDS_LIVE);
        let rounds =
            RECONCILE_ROUNDS.iter().map(|times| changed_at + self.reconcile_after * *times);
        rounds.chain(live).filter(|at| *at > now).min()
    }
}
