//! The pages of a list of all instances.

use crate::ledger::PartitionId;
use crate::model::{Attachment, InterfaceId, Position};

/// The place at which a list continues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPosition {
    /// Index of the partition.
    pub partition: usize,
    /// The position of the last instance in the pages before.
    pub position: Position,
    /// The last ENI of that instance in these pages; `None` if they have all of the instance.
    pub eni: Option<InterfaceId>,
}

impl ListPosition {
    /// The position after which the partition is read.
    pub(in super::super) fn after(&self, partition: PartitionId) -> Position {
        match (self.partition == partition.index(), &self.eni) {
            (false, _) => Position::default(),
            (true, None) => self.position,
            // The rest of that instance comes first.
            (true, Some(_)) => Position(self.position.0.saturating_sub(1)),
        }
    }
}

/// One page of attachments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetPage {
    /// The attachments: at most as many as were asked for, and maybe none.
    pub attachments: Vec<Attachment>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<ListPosition>,
}
