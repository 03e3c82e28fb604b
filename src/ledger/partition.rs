//! The partitions of the ledger. Every instance belongs to one, for good.

use std::sync::Arc;

use crate::model::{InstanceId, Timestamp};

use super::bounds::SharedBounds;
use super::freeze::Freeze;

/// Number of partitions. Part of the stored layout, so it never changes.
pub const PARTITIONS: u8 = 64;

/// One of the [`PARTITIONS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(u8);

impl PartitionId {
    /// The partition of an instance: the FNV-1a hash (64 bit) of its id, modulo [`PARTITIONS`].
    #[must_use]
    pub fn of(instance: &InstanceId) -> Self {
        let hash = instance.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self((hash % u64::from(PARTITIONS)) as u8)
    }

    /// All partitions.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..PARTITIONS).map(Self)
    }

    /// The partition after this one. After the last one, the first.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1) % PARTITIONS)
    }

    /// Index among all partitions.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// State shared by all instances of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// Identifies one life of the data. Changes with every restart, failover and loss.
    pub epoch: Arc<str>,
    /// End of the recovery hold-down, during which nothing is granted or reserved.
    pub hold_down_until: Timestamp,
    /// The bounds that replicas share. `None` where there is only one replica.
    pub shared: Option<SharedBounds>,
    /// The operator's order to begin no attach, if there is one.
    pub freeze: Option<Freeze>,
}

impl Partition {
    /// Whether nothing was lost between the two.
    #[must_use]
    pub fn is_same_life(&self, other: &Self) -> bool {
        (&self.epoch, self.hold_down_until) == (&other.epoch, other.hold_down_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    #[test]
    fn an_instance_stays_in_its_partition() {
        let of = |text: &str| PartitionId::of(&instance(text)).index();
        assert_eq!([of("i-1"), of("i-2"), of("a"), of("i-5p67acfmxazb4p")], [14, 27, 12, 51]);
    }

    #[test]
    fn instances_spread_over_all_partitions() {
        let mut counts = [0_u32; PARTITIONS as usize];
        for number in 0..6_400 {
            counts[PartitionId::of(&instance(&format!("i-5p67acfmxa{number}"))).index()] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
    }
}
