//! Where a watch may be taken up again.
//!
//! The trap: a snapshot comes in no promised order, so that only the heartbeat behind it says that everything up to its
//! revision was sent. A stream that breaks within the snapshot is taken up where it was begun, and what is sent twice
//! is shown once.

use std::collections::HashMap;

use crate::grpc::proto::Attachment;

/// How far a watch has come, over all its streams.
#[derive(Debug)]
pub(super) struct Cursor {
    after: u64,
    in_snapshot: bool,
    /// The revision last shown of each ENI.
    shown: HashMap<String, u64>,
}

impl Cursor {
    /// From this revision on; 0 for everything.
    pub(super) fn new(after: u64) -> Self {
        Self {
            after,
            in_snapshot: true,
            shown: HashMap::new(),
        }
    }

    /// The `after_revision` of the next stream.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// A new stream begins.
    pub(super) fn begin(&mut self) {
        self.in_snapshot = true;
    }

    /// Takes note of an attachment, and says whether it is news.
    pub(super) fn attachment(&mut self, attachment: &Attachment) -> bool {
        if !self.in_snapshot {
            self.after = attachment.revision;
        }
        let last = self
            .shown
            .insert(attachment.network_interface_id.clone(), attachment.revision);
        last != Some(attachment.revision)
    }

    /// Everything up to `revision` was sent. It may lie below what was asked for: then the ledger was lost.
    pub(super) fn heartbeat(&mut self, revision: u64) {
        self.in_snapshot = false;
        self.after = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(eni: &str, revision: u64) -> Attachment {
        Attachment {
            network_interface_id: eni.to_owned(),
            revision,
            ..Attachment::default()
        }
    }

    #[test]
    fn a_broken_snapshot_is_asked_for_again() {
        let mut cursor = Cursor::new(5);
        cursor.begin();
        assert!(cursor.attachment(&at("b", 9)));
        assert_eq!(cursor.after(), 5);
        cursor.begin();
        assert!(cursor.attachment(&at("a", 7)));
        assert!(!cursor.attachment(&at("b", 9)), "shown already");
        cursor.heartbeat(9);
        assert_eq!(cursor.after(), 9);
    }

    #[test]
    fn behind_the_snapshot_each_revision_counts() {
        let mut cursor = Cursor::new(0);
        cursor.heartbeat(3);
        assert!(cursor.attachment(&at("a", 4)));
        assert_eq!(cursor.after(), 4);
    }

    #[test]
    fn revisions_may_begin_anew() {
        let mut cursor = Cursor::new(100);
        cursor.heartbeat(2);
        assert_eq!(cursor.after(), 2);
        assert!(cursor.attachment(&at("a", 3)));
    }
}
