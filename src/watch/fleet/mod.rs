//! The attachments of all instances: streams and pages. Neither calls ENS.
//!
//! ```text
//!  partition ─► reader ─► view ─► stream ─► watcher    one reader per partition and replica
//!               ▲ change notifications,  (the latest, never a queue)
//!                 every 5 s
//! ```
//!
//! The ledger lists the instances of a partition by the *position* of their last change. A stream
//! sends each instance whose position is after the last one sent, with all its attachments. So a
//! slow watcher misses intermediate states, never the last one, and a watcher's only state is one
//! position for each partition. That is the resume token, too, which every replica accepts.
//!
//! Positions hold within an epoch of their partition. After another epoch the partition is reset:
//! the watcher forgets it, and receives it again.

mod page;
mod reader;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::{LedgerError, PartitionId};
use crate::model::{Attachment, InstanceId, State};

pub use page::{FleetPage, ListPosition};
pub(super) use reader::{Fleet, PartitionView, Readings};
pub use token::{InvalidToken, ResumeToken, ScopeDigest};
pub(super) use token::{Life, Mark};

/// Decides whether a caller may see an instance.
pub type MayShow = Arc<dyn Fn(&InstanceId) -> bool + Send + Sync>;

/// Which attachments of an instance are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachmentFilter {
    /// The states; none for all.
    pub states: Vec<State>,
    /// Whether only stuck attachments are wanted.
    pub stuck: bool,
}

impl AttachmentFilter {
    /// Whether this attachment is wanted.
    #[must_use]
    pub fn has(&self, attachment: &Attachment) -> bool {
        let has_state = self.states.is_empty() || self.states.contains(&attachment.state);
        has_state && (attachment.stuck || !self.stuck)
    }
}

/// Which attachments of the fleet are wanted.
#[derive(Clone)]
pub struct FleetFilter {
    /// The beginning of the instances' ids.
    pub prefix: String,
    /// The attachments of a wanted instance.
    pub attachments: AttachmentFilter,
    /// The caller's rights.
    pub may_show: MayShow,
}

impl FleetFilter {
    pub(super) fn has_instance(&self, instance: &InstanceId) -> bool {
        instance.as_str().starts_with(&self.prefix) && (self.may_show)(instance)
    }

    pub(super) fn has(&self, attachment: &Attachment) -> bool {
        self.attachments.has(attachment)
    }
}

impl fmt::Debug for FleetFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, attachments, may_show: _ } = self;
        write!(f, "FleetFilter({prefix:?}, {attachments:?})")
    }
}

/// The scope of a watch of the fleet.
#[derive(Debug, Clone)]
pub struct FleetScope {
    /// What is wanted.
    pub filter: FleetFilter,
    /// Identifies the filter, with the caller's rights. A token of another scope is void.
    pub digest: ScopeDigest,
    /// The last token that the caller received; `None` for everything.
    pub after: Option<ResumeToken>,
    /// Whether the stream continues when nothing in scope is in flight.
    pub follow: bool,
    /// The caller's deadline, at which the stream ends.
    pub until: Option<Instant>,
}

/// A message to a watcher of the fleet.
#[derive(Debug, Clone, PartialEq)]
pub enum FleetEvent {
    /// The wanted attachments of an instance: all of them. It replaces what was sent of the
    /// instance.
    Instance {
        /// The instance.
        instance: InstanceId,
        /// Its partition.
        partition: PartitionId,
        /// The attachments, by ENI.
        attachments: Vec<Arc<Attachment>>,
    },
    /// What was sent of a partition is void. What is known of it follows.
    Reset(PartitionId),
    /// Nothing newer is known, or the interval is over.
    Heartbeat {
        /// Resumes the watch.
        token: ResumeToken,
        /// Maximum time until the next message.
        interval: Duration,
        /// Whether something may be missing: the snapshot is not complete yet, or a part of the
        /// ledger cannot be read, which may be one record.
        incomplete: bool,
    },
}

/// Names the instance whose record is left out. Answers have no place for it.
pub(super) fn log_unreadable(instance: &InstanceId, error: &LedgerError) {
    tracing::warn!(%instance, %error, "a record cannot be read; streams and lists of all instances are incomplete without it");
}
