//! The position from which a watch is resumed.
//!
//! Trap: a snapshot has no promised order. Only the heartbeat after it confirms that everything up
//! to its revision was sent. A stream that breaks in the snapshot restarts from its beginning, and
//! repeated attachments are shown once.

use std::collections::HashMap;

use crate::grpc::proto::Attachment;

/// The progress of a watch over all its streams.
#[derive(Debug)]
pub(super) struct Cursor {
    after: u64,
    in_snapshot: bool,
    /// The last revision shown of each ENI.
    shown: HashMap<String, u64>,
}

impl Cursor {
    /// A watch from this revision; 0 for everything.
    pub(super) fn new(after: u64) -> Self {
        Self { after, in_snapshot: true, shown: HashMap::new() }
    }

    /// The `after_revision` of the next stream.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// Starts a new stream.
    pub(super) fn begin(&mut self) {
        self.in_snapshot = true;
    }

    /// Records an attachment, and returns whether it is new.
    pub(super) fn attachment(&mut self, attachment: &Attachment) -> bool {
        if !self.in_snapshot {
            self.after = attachment.revision;
        }
        let last = self.shown.insert(attachment.network_interface_id.clone(), attachment.revision);
        last != Some(attachment.revision)
    }

    /// Records that everything up to `revision` was sent. A lower value than requested means that
    /// the ledger lost data.
    pub(super) fn heartbeat(&mut self, revision: u64) {
        self.in_snapshot = false;
        self.after = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(eni: &str, revision: u64) -> Attachment {
        Attachment { network_interface_id: eni.to_owned(), revision, ..Attachment::default() }
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
    fn revisions_may_restart() {
        let mut cursor = Cursor::new(100);
        cursor.heartbeat(2);
        assert_eq!(cursor.after(), 2);
        assert!(cursor.attachment(&at("a", 3)));
    }
}
