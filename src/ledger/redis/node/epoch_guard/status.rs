//! Decides the action for an epoch from what was read.

use std::time::Duration;

use crate::ledger::bounds::CLOCK_TOLERANCE;
use crate::ledger::redis::epoch::{Epoch, SharedSettings};
use crate::ledger::redis::scripts::StoredRecord;
use crate::model::Timestamp;

/// How long a renewal without a hold-down closes a partition. It only makes the epoch's text
/// another.
pub(super) const NO_HOLD_DOWN: Duration = Duration::from_micros(1);

/// The action for an epoch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EpochStatus {
    /// No action.
    Current,
    /// Another one takes its place, with these settings and this hold-down.
    Renew(SharedSettings, Duration),
    /// The same, with the hold-down that a loss calls for.
    Recover(SharedSettings),
    /// This replica must not renew it.
    Refuse(String),
}

/// The action for `epoch`, which was read from `found`, by a replica with the settings `ours`.
/// `old_clock` is the time that the server's clock would show if it was set since the epoch was
/// written.
pub(super) fn evaluate(
    epoch: Option<&Epoch>,
    found: &StoredRecord,
    ours: &SharedSettings,
    old_clock: Option<Timestamp>,
) -> EpochStatus {
    let Some(epoch) = epoch else {
        return EpochStatus::Recover(*ours);
    };
    let same_server = epoch.replication_id() == found.replication_id;
    let Some(shared) = epoch.shared_settings else {
        return match epoch.version_conflict() {
            Some(why) if !same_server => EpochStatus::Refuse(why),
            _ => EpochStatus::Current,
        };
    };
    let joined = shared.join(*ours);
    // Longer than any hold-down: by another clock, which no replica saw change.
    let is_far = epoch.hold_down_until > found.now + joined.recovery_hold_down() + CLOCK_TOLERANCE;
    if !same_server {
        EpochStatus::Recover(joined)
    } else if joined != shared || old_clock.is_some() || is_far {
        EpochStatus::Renew(
            joined,
            remaining_hold_down(epoch, old_clock.unwrap_or(found.now), &joined),
        )
    } else {
        EpochStatus::Current
    }
}

/// How long a partition stays closed whose epoch is renewed for another reason than a loss. A
/// hold-down that is not over begins again. `now` is by the clock that wrote its end.
pub(super) fn remaining_hold_down(
    epoch: &Epoch,
    now: Timestamp,
    settings: &SharedSettings,
) -> Duration {
    if epoch.hold_down_until > now { settings.recovery_hold_down() } else { NO_HOLD_DOWN }
}
