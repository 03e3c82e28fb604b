//! The pages of a list of all instances.

use crate::ledger::PartitionId;
use crate::ledger::keys::PARTITIONS;
use crate::model::{Attachment, InterfaceId, Position};

use super::token::{Life, Mark};

/// The place at which a list continues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPosition {
    /// Index of the partition.
    pub(in super::super) partition: usize,
    /// How far the pages before have the partition: up to the last instance in them.
    pub(in super::super) mark: Mark,
    /// The last ENI of that instance in these pages; `None` if they have all of the instance.
    pub(in super::super) eni: Option<InterfaceId>,
}

impl ListPosition {
    /// The start of this partition.
    pub(in super::super) fn start_of(partition: usize) -> Self {
        Self { partition, ..Self::default() }
    }

    /// The start of the partition after this one; `None` after the last.
    pub(in super::super) fn behind(partition: PartitionId) -> Option<Self> {
        let next = partition.next();
        (next > partition).then(|| Self::start_of(next.index()))
    }

    /// The mark after which the partition is read.
    pub(in super::super) fn after(&self, partition: PartitionId) -> Mark {
        match (self.partition == partition.index(), &self.eni) {
            (false, _) => Mark::default(),
            (true, None) => self.mark,
            // The rest of that instance comes first.
            (true, Some(_)) => {
                Mark { position: Position(self.mark.position.0.saturating_sub(1)), ..self.mark }
            }
        }
    }

    /// Its form in a page token.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // There are fewer partitions than the byte holds.
        let mut bytes = vec![u8::try_from(self.partition).unwrap_or(u8::MAX)];
        if let Some(Life(life)) = self.mark.life {
            bytes.extend(life);
            bytes.extend(self.mark.position.0.to_be_bytes());
            bytes.extend(self.eni.iter().flat_map(|eni| eni.as_str().bytes()));
        }
        bytes
    }

    /// Reads what [`ListPosition::to_bytes`] wrote.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (&partition, rest) = bytes.split_first().filter(|(index, _)| **index < PARTITIONS)?;
        let start = Self::start_of(usize::from(partition));
        if rest.is_empty() {
            return Some(start);
        }
        let (life, rest) = rest.split_first_chunk()?;
        let (position, eni) = rest.split_first_chunk()?;
        let position = Position(u64::from_be_bytes(*position));
        let eni = match std::str::from_utf8(eni).ok()? {
            "" => None,
            text => Some(text.parse().ok()?),
        };
        Some(Self { mark: Mark { life: Some(Life(*life)), position }, eni, ..start })
    }
}

/// One page of attachments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetPage {
    /// The attachments: at most as many as were asked for, and maybe none.
    pub attachments: Vec<Attachment>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<ListPosition>,
    /// Whether an instance is left out because its record cannot be read.
    pub incomplete: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_position_is_read_back() {
        let mark = Mark { life: Some(Life([7; 8])), position: Position(9) };
        for eni in [None, Some("eni-1".parse().unwrap())] {
            let position = ListPosition { partition: 63, mark, eni };
            assert_eq!(ListPosition::read(&position.to_bytes()), Some(position));
        }
        let start = ListPosition::start_of(5);
        assert_eq!(ListPosition::read(&start.to_bytes()), Some(start));
        assert_eq!(ListPosition::read(&[PARTITIONS]), None);
        assert_eq!(ListPosition::read(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = ListPosition::read(&bytes);
        }
    }
}
