//! The completeness of a read of a whole instance.

use std::time::Duration;

use crate::ledger::MAX_CLOCK_DIFFERENCE;
use crate::model::Timestamp;

/// Maximum age of the last describe of an instance for which its attachments count as complete.
pub const OBSERVED_WITHIN: Duration = Duration::from_secs(60);

/// The completeness that a read claims. The default claims nothing about the whole instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Time at which the last valid, recorded describe of the whole instance was sent; `None`:
    /// none.
    pub observed_at: Option<Timestamp>,
    /// Whether that is more than 60 s ago, or never. Others' attachments may be missing, and
    /// detaches may not show.
    pub incomplete: bool,
}

impl Coverage {
    /// The coverage at `now` of a read whose last describe was sent at `observed_at`. A time in the
    /// future shows that a clock went back. The describe's age is then unknown, so it does not
    /// count.
    pub(super) fn at(observed_at: Option<Timestamp>, now: Timestamp) -> Self {
        let observed_at = observed_at.filter(|at| *at <= now + MAX_CLOCK_DIFFERENCE);
        Self {
            observed_at,
            incomplete: observed_at.is_none_or(|at| now.since(at) > OBSERVED_WITHIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recent_describe_makes_a_read_complete() {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let second = Duration::from_secs(1);
        for (observed_at, counts, incomplete) in [
            (None, false, true),
            (Some(now), true, false),
            (Some(now - OBSERVED_WITHIN), true, false),
            (Some(now - OBSERVED_WITHIN - second), true, true),
            (Some(now + MAX_CLOCK_DIFFERENCE), true, false),
            (Some(now + second), false, true),
        ] {
            let coverage = Coverage::at(observed_at, now);
            assert_eq!(coverage.observed_at, observed_at.filter(|_| counts), "{observed_at:?}");
            assert_eq!(coverage.incomplete, incomplete, "{observed_at:?}");
        }
    }
}
