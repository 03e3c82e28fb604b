//! Where a node's server is, and which partitions it holds. The node writes both; its parts read
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::settings::ServerAddr;

/// The last known address and partitions of one server. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Assignment(watch::Sender<Current>);

/// An assignment at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    /// `None` until the server was found.
    pub(super) address: Option<ServerAddr>,
    pub(super) partitions: Arc<BTreeSet<PartitionId>>,
}

impl Assignment {
    /// Of these partitions, at an address that is not known yet.
    pub(super) fn new(partitions: BTreeSet<PartitionId>) -> Self {
        Self(watch::Sender::new(Current { address: None, partitions: Arc::new(partitions) }))
    }

    pub(super) fn address(&self) -> Option<ServerAddr> {
        self.0.borrow().address.clone()
    }

    pub(super) fn partitions(&self) -> Arc<BTreeSet<PartitionId>> {
        self.0.borrow().partitions.clone()
    }

    /// One of the partitions, where one stands for all.
    pub(super) fn first_partition(&self) -> Option<PartitionId> {
        self.0.borrow().partitions.first().copied()
    }

    /// Follows the changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Current> {
        self.0.subscribe()
    }

    pub(super) fn set_address(&self, address: ServerAddr) {
        self.0.send_modify(|current| current.address = Some(address));
    }

    /// Replaces the partitions. Returns whether they are others than before.
    pub(super) fn set_partitions(&self, partitions: BTreeSet<PartitionId>) -> bool {
        self.0.send_if_modified(|current| {
            let changed = *current.partitions != partitions;
            if changed {
                current.partitions = Arc::new(partitions);
            }
            changed
        })
    }
}
