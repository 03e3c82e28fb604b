//! An instance's attachments at one moment, built by the reader and shared by all streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ledger::{Partition, Snapshot};
use crate::model::{Attachment, Failure, InterfaceId, Revision, State, Timestamp};

use super::{Coverage, Scope};

/// The attachments of one instance.
#[derive(Debug, Default, PartialEq)]
pub(super) struct View {
    /// The instance's revision, the highest of all attachments.
    pub(super) revision: Revision,
    partition: Partition,
    /// Time at which the ledger's last describe of the instance was sent; `None` if there is none,
    /// or the ledger lost writes since.
    pub(super) observed_at: Option<Timestamp>,
    attachments: BTreeMap<InterfaceId, ViewEntry>,
}

/// An attachment, and the time of its last describe.
#[derive(Debug, PartialEq)]
struct ViewEntry {
    attachment: Arc<Attachment>,
    described_at: Option<Timestamp>,
    /// Whether the last describe did not confirm its state.
    doubtful: bool,
}

impl ViewEntry {
    /// Whether it is neither in flight nor in doubt.
    fn has_ended(&self) -> bool {
        self.attachment.state.is_terminal() && !self.doubtful
    }
}

/// The change of a scope between two views.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ViewChange {
    /// The stream continues.
    On,
    /// The attempt was withdrawn before a send.
    Withdrawn,
    /// The ledger lost writes.
    Lost,
}

impl View {
    /// The view of a snapshot. Unchanged attachments are shared with `before`.
    pub(super) fn of(snapshot: &Snapshot, before: &Self) -> Self {
        let share = |attachment: Attachment| match before.attachments.get(&attachment.eni) {
            Some(seen) if *seen.attachment == attachment => seen.attachment.clone(),
            _ => Arc::new(attachment),
        };
        let attachments = snapshot.record.attempts.iter().map(|(eni, attempt)| {
            let seen = ViewEntry {
                described_at: attempt.described_at,
                doubtful: attempt.state.is_unconfirmed(),
                attachment: share(attempt.attachment()),
            };
            (eni.clone(), seen)
        });
        Self {
            revision: snapshot.record.revision,
            observed_at: snapshot.observed_at(),
            attachments: attachments.collect(),
            partition: snapshot.partition.clone(),
        }
    }

    /// The attachments in scope.
    fn scope(&self, eni: Option<&InterfaceId>) -> impl Iterator<Item = &ViewEntry> {
        let one = eni.map(|eni| self.attachments.get(eni));
        let all = eni.is_none().then(|| self.attachments.values());
        one.flatten().into_iter().chain(all.into_iter().flatten())
    }

    /// Whether a stream of this scope may start from the view although the record may be newer: the
    /// stream then reaches the newer state by the changes that follow. A revision that the view
    /// lacks, a missing ENI, or a scope that has ended needs the current record.
    pub(super) fn may_start(&self, scope: &Scope, now: Timestamp) -> bool {
        let is_shown = match &scope.eni {
            Some(eni) => self.shows(eni),
            None => !self.coverage(None, now).incomplete,
        };
        let continues = scope.follow || !self.has_ended(scope.eni.as_ref());
        is_shown && continues && scope.after <= self.revision
    }

    /// Whether it holds this ENI.
    pub(super) fn shows(&self, eni: &InterfaceId) -> bool {
        self.attachments.contains_key(eni)
    }

    /// Whether a describe within the last minute did not show this ENI, and the ledger does not
    /// either. A describe of a recovery hold-down may be too early for an attach that the ledger
    /// lost.
    pub(super) fn excludes(&self, eni: &InterfaceId, now: Timestamp) -> bool {
        let is_complete = !self.coverage(None, now).incomplete;
        let since = self.partition.hold_down_until;
        !self.shows(eni) && is_complete && self.observed_at.is_some_and(|at| at >= since)
    }

    /// Every attachment, by ENI.
    pub(super) fn attachments(&self) -> impl Iterator<Item = &Arc<Attachment>> {
        self.attachments.values().map(|seen| &seen.attachment)
    }

    /// Whether the scope depends on describes of the whole instance. An ENI's attachment has its
    /// own observation time.
    pub(super) fn is_of_whole(&self, eni: Option<&InterfaceId>) -> bool {
        eni.is_none_or(|eni| !self.shows(eni))
    }

    /// The completeness of the instance. `last_describe` is that of this replica, or its
    /// failure.
    pub(super) fn coverage(
        &self,
        last_describe: Option<&Result<Timestamp, Failure>>,
        now: Timestamp,
    ) -> Coverage {
        let sent_at = last_describe.and_then(|last_describe| last_describe.as_ref().ok()).copied();
        Coverage::at(self.observed_at.max(sent_at), now)
    }

    /// The end of the last recovery hold-down. An attach that the ledger lost may be in flight
    /// until then, and only a describe after it shows such an attach.
    pub(super) fn recovers_until(&self) -> Timestamp {
        self.partition.hold_down_until
    }

    /// Whether a hold-down is over, and the instance was not described since.
    pub(super) fn is_unseen_since_recovery(&self, now: Timestamp) -> bool {
        let since = self.recovers_until();
        since <= now && self.observed_at < Some(since)
    }

    /// Whether nothing is known of the instance, so that an empty view is no answer.
    pub(super) fn is_blank(&self, coverage: &Coverage) -> bool {
        self.attachments.is_empty() && coverage.observed_at.is_none()
    }

    /// The attachment with the lowest revision above `after`.
    pub(super) fn next(
        &self,
        eni: Option<&InterfaceId>,
        after: Revision,
    ) -> Option<&Arc<Attachment>> {
        let newer = self
            .scope(eni)
            .map(|seen| &seen.attachment)
            .filter(|attachment| attachment.revision > after);
        newer.min_by_key(|attachment| attachment.revision)
    }

    /// Whether nothing in scope is in flight or in doubt.
    pub(super) fn has_ended(&self, eni: Option<&InterfaceId>) -> bool {
        self.scope(eni).all(ViewEntry::has_ended)
    }

    /// Whether none of these attachments is in flight or in doubt.
    pub(super) fn have_ended(&self, wanted: impl Fn(&Attachment) -> bool) -> bool {
        self.scope(None).filter(|seen| wanted(&seen.attachment)).all(ViewEntry::has_ended)
    }

    /// The change of the scope since `before`. Ended attachments may be forgotten. An attempt in
    /// flight disappears only when it is withdrawn, unless the record was replaced.
    pub(super) fn change_since(&self, before: &Self, eni: Option<&InterfaceId>) -> ViewChange {
        if self.revision < before.revision {
            return ViewChange::Lost;
        }
        let mut gone = before.scope(eni).filter(|seen| {
            !seen.attachment.state.is_terminal()
                && !self.attachments.contains_key(&seen.attachment.eni)
        });
        match gone.next() {
            None => ViewChange::On,
            Some(_) if !self.partition.is_same_life(&before.partition) => ViewChange::Lost,
            Some(_) => ViewChange::Withdrawn,
        }
    }

    /// The attached ENIs in scope that were not described since `time`.
    pub(super) fn attached_unseen_since(
        &self,
        eni: Option<&InterfaceId>,
        time: Timestamp,
    ) -> impl Iterator<Item = &InterfaceId> {
        let due = move |seen: &&ViewEntry| {
            seen.attachment.state == State::Attached
                && seen.described_at.is_none_or(|described_at| described_at <= time)
        };
        self.scope(eni).filter(due).map(|seen| &seen.attachment.eni)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::record::{Attempt, AttemptState, Unconfirmed};
    use crate::model::Uid;

    fn snapshot(epoch: &str, revision: u64, attempts: &[(&str, State)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.partition.epoch = epoch.into();
        let record = Arc::make_mut(&mut snapshot.record);
        record.revision = Revision(revision);
        for (name, state) in attempts {
            let eni: InterfaceId = name.parse().unwrap();
            let now = Timestamp::from_micros(revision);
            let mut attempt = Attempt::new(&"i-1".parse().unwrap(), &eni, Uid(Uuid::nil()), now);
            attempt.state = AttemptState::of(*state);
            attempt.stamp(Revision(revision), now);
            record.attempts.insert(eni, attempt);
        }
        snapshot
    }

    fn view(epoch: &str, revision: u64, attempts: &[(&str, State)]) -> View {
        View::of(&snapshot(epoch, revision, attempts), &View::default())
    }

    #[test]
    fn what_is_gone_was_withdrawn_unless_the_record_is_another() {
        let eni: InterfaceId = "eni-1".parse().unwrap();
        let before = view("a", 5, &[("eni-1", State::Pending), ("eni-2", State::Attached)]);
        for (after, change) in [
            (view("a", 6, &[("eni-1", State::Attaching)]), ViewChange::On),
            (view("a", 6, &[("eni-2", State::Attached)]), ViewChange::Withdrawn),
            (view("b", 6, &[]), ViewChange::Lost),
            (view("b", 6, &[("eni-1", State::Pending)]), ViewChange::On),
            (view("a", 4, &[("eni-1", State::Pending)]), ViewChange::Lost),
        ] {
            assert_eq!(after.change_since(&before, Some(&eni)), change, "{after:?}");
            assert_eq!(after.change_since(&before, None), change, "{after:?}");
        }
        let ended = view("a", 6, &[("eni-1", State::Pending)]);
        assert_eq!(
            ended.change_since(&before, Some(&"eni-2".parse().unwrap())),
            ViewChange::On,
            "what has ended may be forgotten"
        );
    }

    #[test]
    fn what_is_in_doubt_has_not_ended() {
        let eni: InterfaceId = "eni-1".parse().unwrap();
        let mut doubtful = snapshot("a", 5, &[("eni-1", State::Attached)]);
        assert!(View::of(&doubtful, &View::default()).has_ended(Some(&eni)));
        let record = Arc::make_mut(&mut doubtful.record);
        let attempt = record.attempts.get_mut(&eni).unwrap();
        let AttemptState::Attached(attached) = &mut attempt.state else { panic!("it is attached") };
        let seen = Timestamp::from_micros(6);
        attached.unconfirmed = Some(Unconfirmed::new(seen, seen));
        assert!(!View::of(&doubtful, &View::default()).has_ended(Some(&eni)));
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let (eni, attempts) = ("eni-1".parse().unwrap(), [("eni-1", State::Pending)]);
        let before = view("a", 5, &attempts);
        let mut same = snapshot("a", 5, &attempts);
        Arc::make_mut(&mut same.record).revision = Revision(9);
        let after = View::of(&same, &before);
        let attachment = |view: &View| view.next(Some(&eni), Revision(0)).unwrap().clone();
        assert!(Arc::ptr_eq(&attachment(&before), &attachment(&after)));
        assert!(!Arc::ptr_eq(&attachment(&before), &attachment(&view("a", 6, &attempts))));
    }
}
