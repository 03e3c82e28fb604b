//! The incarnation of a partition, as its epoch key holds it: which server wrote it, until when the partition is closed, and
//! the settings on which all replicas must agree. One line of text, compared as a whole by the commit script.

use std::fmt;

use crate::ledger::Partition;
use crate::ledger::keys::{PARTITIONS, PartitionId};
use crate::ledger::record::FORMAT;
use crate::model::Timestamp;

/// What all replicas that share a ledger must have set alike: with two limits there would be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// How many ENIs an instance may have.
    pub limit: usize,
    /// Whether the primary one counts.
    pub count_primary: bool,
    /// Whether Redis' replicas are waited for before each send.
    pub synced: bool,
}

impl fmt::Display for Agreement {
    /// As it stands at the end of an epoch.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            count_primary,
            synced,
        } = self;
        write!(f, "limit={limit} count_primary={count_primary} format={FORMAT}")?;
        if *synced { f.write_str(" synced=true") } else { Ok(()) }
    }
}

/// An epoch, read: `<replication id> <hold until, us> <agreement>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch<'a> {
    pub(super) replication_id: &'a str,
    pub(super) hold_until: Timestamp,
    pub(super) agreement: &'a str,
}

impl fmt::Display for Epoch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.replication_id,
            self.hold_until.as_micros(),
            self.agreement
        )
    }
}

impl<'a> Epoch<'a> {
    /// `None` for a missing one, and for what nobody here wrote: as good as missing.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let replication_id = parts.next()?;
        let hold_until = Timestamp::from_micros(parts.next()?.parse().ok()?);
        Some(Self {
            replication_id,
            hold_until,
            agreement: parts.next()?,
        })
    }

    /// Why this replica must not write here, if other replicas are set differently.
    pub(super) fn disagreement(&self, ours: &Agreement) -> Option<String> {
        let ours = ours.to_string();
        (self.agreement != ours).then(|| {
            format!(
                "the ledger was made with {}, but this replica has {ours}: all replicas need the same (to change it, stop \
                 them all and delete the ledger's epoch keys; it recovers before it grants again)",
                self.agreement
            )
        })
    }
}

/// What is known of each partition, for [`Health`](crate::ledger::Health).
#[derive(Debug)]
pub(super) struct Views([View; PARTITIONS as usize]);

#[derive(Debug, Default)]
struct View {
    partition: Partition,
    disagreement: Option<String>,
}

impl Default for Views {
    fn default() -> Self {
        Self(std::array::from_fn(|_| View::default()))
    }
}

impl Views {
    pub(super) fn saw(&mut self, partition: PartitionId, epoch: &Epoch<'_>, ours: &Agreement) {
        self.0[partition.index()] = View {
            partition: Partition {
                incarnation: epoch.to_string(),
                hold_until: epoch.hold_until,
            },
            disagreement: epoch.disagreement(ours),
        };
    }

    /// How many partitions are closed, each by the clock of its own server.
    pub(super) fn recovering(&self, now: impl Fn(PartitionId) -> Timestamp) -> usize {
        PartitionId::all()
            .filter(|&partition| self.0[partition.index()].partition.hold_until > now(partition))
            .count()
    }

    /// As it was seen last.
    pub(super) fn partition(&self, partition: PartitionId) -> Partition {
        self.0[partition.index()].partition.clone()
    }

    /// Each disagreement once.
    pub(super) fn disagreements(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.iter().filter_map(|view| view.disagreement.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_one_line() {
        let ours = Agreement {
            limit: 10,
            count_primary: false,
            synced: false,
        };
        let text = "0123abcd 1700000000000000 limit=10 count_primary=false format=1";
        let epoch = Epoch::parse(text).unwrap();
        assert_eq!(
            (epoch.replication_id, epoch.hold_until.as_micros()),
            ("0123abcd", 1_700_000_000_000_000)
        );
        assert_eq!(epoch.agreement, ours.to_string());
        assert_eq!(epoch.to_string(), text);
        assert_eq!(epoch.disagreement(&ours), None);
        let other = epoch.disagreement(&Agreement { limit: 15, ..ours }).unwrap();
        assert!(other.contains("limit=10") && other.contains("limit=15"), "{other}");
        let synced = Agreement { synced: true, ..ours };
        assert!(epoch.disagreement(&synced).is_some());
        assert!(synced.to_string().ends_with(" synced=true"));
        for nonsense in ["", "abc", "abc def ghi", "abc 1"] {
            assert_eq!(Epoch::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
