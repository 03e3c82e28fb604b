//! The epoch of a partition, as stored: the server that wrote it, the end of the hold-down, and the
//! settings of all replicas. One line of text, which the commit script compares as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Partition;
use crate::ledger::bounds::SharedBounds;
use crate::ledger::freeze::{Freeze, FrozenPartitions};
use crate::ledger::keys::{PARTITIONS, PartitionId};
use crate::ledger::record::FORMAT;
use crate::model::Timestamp;

/// The settings that all replicas of a ledger share. Two replicas with different limits would
/// enforce neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedSettings {
    /// The shared bounds of the rules.
    pub bounds: SharedBounds,
    /// Whether every replica waits for Redis' replicas before each send.
    pub synced: bool,
}

impl SharedSettings {
    /// The safer value of each setting.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { bounds: self.bounds.join(other.bounds), synced: self.synced && other.synced }
    }

    /// Whether a replica with these settings may use it.
    #[must_use]
    pub fn covers(&self, ours: &Self) -> bool {
        self.join(*ours) == *self
    }

    /// How long a partition stays closed after a possible loss of data.
    #[must_use]
    pub fn recovery_hold_down(&self) -> Duration {
        self.bounds.recovery_hold_down()
    }

    /// Parses the output of [`Display`](fmt::Display). `None` for text that this version does not
    /// understand.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> =
            text.split(' ').filter_map(|field| field.split_once('=')).collect();
        let millis = |name: &str| Some(Duration::from_millis(fields.get(name)?.parse().ok()?));
        (fields.get("format")?.parse() == Ok(FORMAT)).then_some(())?;
        Some(Self {
            bounds: SharedBounds {
                limit: fields.get("limit")?.parse().ok()?,
                count_primary: fields.get("count_primary")?.parse().ok()?,
                lag: millis("lag_ms")?,
                validity: millis("validity_ms")?,
                lease: millis("lease_ms")?,
                failover_window: millis("failover_window_ms")?,
            },
            synced: fields.get("synced")?.parse().ok()?,
        })
    }
}

impl fmt::Display for SharedSettings {
    /// The form at the end of an epoch's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bounds, synced } = self;
        write!(
            f,
            "format={FORMAT} limit={} count_primary={} lag_ms={} validity_ms={} lease_ms={} failover_window_ms={} synced={synced}",
            bounds.limit,
            bounds.count_primary,
            bounds.lag.as_millis(),
            bounds.validity.as_millis(),
            bounds.lease.as_millis(),
            bounds.failover_window.as_millis(),
        )
    }
}

/// A parsed epoch: `<replication id> <end of the hold-down, us> <shared settings>`, and the id of a
/// new ledger. Clones share its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) hold_down_until: Timestamp,
    /// The shared settings, if this version understands them.
    pub(super) shared_settings: Option<SharedSettings>,
    text: Arc<str>,
}

impl Epoch {
    /// `None` for a missing epoch, and for a text that no gateway wrote. Both count as missing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ').skip(1);
        let hold_down_until = Timestamp::from_micros(parts.next()?.parse().ok()?);
        let shared_settings = SharedSettings::parse(parts.next()?);
        Some(Self { hold_down_until, shared_settings, text: text.into() })
    }

    /// The replication id of the server that wrote it.
    pub(super) fn replication_id(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// The partition state that it gives.
    pub(super) fn partition(&self) -> Partition {
        Partition {
            epoch: self.text.clone(),
            hold_down_until: self.hold_down_until,
            shared: self.shared_settings.map(|settings| settings.bounds),
            freeze: None,
        }
    }

    /// Why this replica must not write here, if another version wrote it.
    pub(super) fn version_conflict(&self) -> Option<String> {
        self.shared_settings.is_none().then(|| {
            format!(
                "another version made the ledger ('{}'), and this one writes format={FORMAT}: run the version that made it, or \
                 one that follows it",
                self.text
            )
        })
    }

    /// The differences between the shared settings and a replica's own, as text.
    pub(super) fn difference(&self, ours: &SharedSettings) -> Option<String> {
        let shared = self.shared_settings.filter(|shared| shared != ours)?;
        Some(format!(
            "replicas have different settings: {shared} is in force, and this replica has {ours}; the safer value of each holds \
             until all replicas have the same"
        ))
    }
}

/// The known state of each partition, for [`LedgerHealth`](crate::ledger::LedgerHealth).
#[derive(Debug)]
pub(super) struct EpochViews([EpochView; PARTITIONS as usize]);

#[derive(Debug, Default)]
struct EpochView {
    epoch: Option<Epoch>,
    partition: Partition,
    version_conflict: Option<String>,
    difference: Option<String>,
}

impl Default for EpochViews {
    fn default() -> Self {
        Self(std::array::from_fn(|_| EpochView::default()))
    }
}

impl EpochViews {
    /// Records the epoch and the freeze that were found, and returns the epoch. A missing epoch
    /// changes nothing.
    pub(super) fn record(
        &mut self,
        partition: PartitionId,
        epoch: &str,
        freeze: &str,
        ours: &SharedSettings,
    ) -> Option<Epoch> {
        let epoch = self.parse(partition, epoch)?;
        let view = &mut self.0[partition.index()];
        let freeze = Freeze::stored(freeze);
        if view.epoch.as_ref() != Some(&epoch) || view.partition.freeze != freeze {
            *view = EpochView {
                partition: Partition { freeze, ..epoch.partition() },
                version_conflict: epoch.version_conflict(),
                difference: epoch.difference(ours),
                epoch: Some(epoch.clone()),
            };
        }
        Some(epoch)
    }

    /// As [`Epoch::parse`], for an epoch of this partition. The known one is not parsed again: each
    /// reply of the server has it.
    pub(super) fn parse(&self, partition: PartitionId, text: &str) -> Option<Epoch> {
        let known = self.0[partition.index()].epoch.as_ref().filter(|epoch| *epoch.text == *text);
        known.cloned().or_else(|| Epoch::parse(text))
    }

    /// Number of closed partitions, each by the clock of its own server.
    pub(super) fn recovering(&self, now: impl Fn(PartitionId) -> Timestamp) -> usize {
        PartitionId::all()
            .filter(|&partition| {
                self.0[partition.index()].partition.hold_down_until > now(partition)
            })
            .count()
    }

    /// The freezes, and how many partitions have one.
    pub(super) fn frozen(&self) -> FrozenPartitions {
        FrozenPartitions::among(self.0.iter().map(|view| view.partition.freeze.as_ref()))
    }

    /// Whether these partitions have the same freeze, or none.
    pub(super) fn share_freeze(&self, partitions: &BTreeSet<PartitionId>) -> bool {
        let mut freezes =
            partitions.iter().map(|partition| &self.0[partition.index()].partition.freeze);
        freezes.next().is_none_or(|first| freezes.all(|freeze| freeze == first))
    }

    /// The last known state.
    pub(super) fn partition(&self, partition: PartitionId) -> Partition {
        self.0[partition.index()].partition.clone()
    }

    /// Each version conflict, without duplicates.
    pub(super) fn version_conflicts(&self) -> BTreeSet<String> {
        self.0.iter().filter_map(|view| view.version_conflict.clone()).collect()
    }

    /// Each difference, without duplicates.
    pub(super) fn differences(&self) -> BTreeSet<String> {
        self.0.iter().filter_map(|view| view.difference.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Bounds;

    fn ours() -> SharedSettings {
        SharedSettings { bounds: Bounds::default().shared(), synced: false }
    }

    #[test]
    fn an_epoch_is_one_line() {
        let text = "0123abcd 1700000000000000 format=1 limit=10 count_primary=false lag_ms=10000 validity_ms=30000 \
                    lease_ms=15000 failover_window_ms=15000 synced=false";
        let epoch = Epoch::parse(text).unwrap();
        assert_eq!(
            (epoch.replication_id(), epoch.hold_down_until.as_micros()),
            ("0123abcd", 1_700_000_000_000_000)
        );
        assert_eq!(epoch.shared_settings, Some(ours()));
        assert!(text.ends_with(&ours().to_string()));
        assert_eq!((epoch.version_conflict(), epoch.difference(&ours())), (None, None));
        for nonsense in ["", "abc", "abc def ghi", "abc 1"] {
            assert_eq!(Epoch::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn what_another_version_made_is_left_alone() {
        let other = format!("0123abcd 0 {}", ours().to_string().replace("format=1", "format=2"));
        let epoch = Epoch::parse(&other).unwrap();
        assert!(epoch.version_conflict().unwrap().contains("format=2"));
    }

    #[test]
    fn the_safer_of_each_setting_is_in_force() {
        let mut other = ours();
        other.bounds.limit = 5;
        other.bounds.lag = Duration::from_secs(1);
        other.bounds.validity = Duration::from_secs(60);
        let joined = ours().join(other);
        assert_eq!(joined.bounds.limit, 5);
        assert_eq!(joined.bounds.lag, Duration::from_secs(10));
        assert_eq!(joined.bounds.validity, Duration::from_secs(60));
        assert!(joined.covers(&ours()) && joined.covers(&other) && !ours().covers(&other));
        let synced = SharedSettings { synced: true, ..ours() };
        assert!(!synced.join(ours()).synced && ours().covers(&synced) && !synced.covers(&ours()));
    }
}
