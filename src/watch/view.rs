//! One instance's attachments as they stood at one moment: made once by the reader, shared by all streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ledger::{Partition, Snapshot};
use crate::model::{Attachment, InterfaceId, Revision, State, Timestamp};

/// The attachments of one instance.
#[derive(Debug, Default, PartialEq)]
pub(super) struct View {
    /// The instance's revision: no attachment has a higher one.
    pub(super) revision: Revision,
    partition: Partition,
    /// When the describe of the instance was sent that the ledger goes by.
    pub(super) observed_at: Option<Timestamp>,
    attachments: BTreeMap<InterfaceId, Seen>,
}

/// An attachment, and when ENS was last asked for it.
#[derive(Debug, PartialEq)]
struct Seen {
    attachment: Arc<Attachment>,
    described_at: Option<Timestamp>,
}

/// What a stream's scope has come to from one view to a later one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// On.
    On,
    /// The attempt that was under way was withdrawn: nothing was sent.
    Withdrawn,
    /// The ledger lost writes.
    Lost,
}

impl View {
    /// What the ledger holds now. Attachments that did not change since `before` are shared with it.
    pub(super) fn of(snapshot: Snapshot, before: &Self) -> Self {
        let share = |attachment: Attachment| match before.attachments.get(&attachment.eni) {
            Some(seen) if *seen.attachment == attachment => seen.attachment.clone(),
            _ => Arc::new(attachment),
        };
        let attachments = snapshot.record.attempts.into_iter().map(|(eni, attempt)| {
            let seen = Seen {
                described_at: attempt.described_at,
                attachment: share(attempt.attachment),
            };
            (eni, seen)
        });
        Self {
            revision: snapshot.record.revision,
            observed_at: snapshot.record.observation.map(|observation| observation.sent_at),
            attachments: attachments.collect(),
            partition: snapshot.partition,
        }
    }

    /// The attachments in scope: that of one ENI, or all.
    fn scope(&self, eni: Option<&InterfaceId>) -> impl Iterator<Item = &Seen> {
        let one = eni.map(|eni| self.attachments.get(eni));
        let all = eni.is_none().then(|| self.attachments.values());
        one.flatten().into_iter().chain(all.into_iter().flatten())
    }

    /// Whether it shows this ENI.
    pub(super) fn shows(&self, eni: &InterfaceId) -> bool {
        self.attachments.contains_key(eni)
    }

    /// The attachment with the lowest revision above `after`.
    pub(super) fn next(&self, eni: Option<&InterfaceId>, after: Revision) -> Option<&Arc<Attachment>> {
        let newer = self
            .scope(eni)
            .map(|seen| &seen.attachment)
            .filter(|attachment| attachment.revision > after);
        newer.min_by_key(|attachment| attachment.revision)
    }

    /// Whether nothing in scope is under way.
    pub(super) fn has_ended(&self, eni: Option<&InterfaceId>) -> bool {
        self.scope(eni).all(|seen| seen.attachment.state.is_terminal())
    }

    /// What has come of the scope since `before`. Ended attachments may be forgotten; one under way leaves the record only when it
    /// is withdrawn, unless the record itself is another.
    pub(super) fn turn(&self, before: &Self, eni: Option<&InterfaceId>) -> Turn {
        if self.revision < before.revision {
            return Turn::Lost;
        }
        let mut gone = before.scope(eni).filter(|seen| {
            !seen.attachment.state.is_terminal() && !self.attachments.contains_key(&seen.attachment.eni)
        });
        match gone.next() {
            None => Turn::On,
            Some(_) if self.partition != before.partition => Turn::Lost,
            Some(_) => Turn::Withdrawn,
        }
    }

    /// The ENIs in scope that are attached and were not asked for since `time`.
    pub(super) fn attached_unseen_since(
        &self,
        eni: Option<&InterfaceId>,
        time: Timestamp,
    ) -> impl Iterator<Item = &InterfaceId> {
        let due = move |seen: &&Seen| {
            seen.attachment.state == State::Attached
                && seen.described_at.is_none_or(|described_at| described_at <= time)
        };
        self.scope(eni).filter(due).map(|seen| &seen.attachment.eni)
    }
}
