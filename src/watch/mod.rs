//! Tells everybody how it goes.
//!
//! ```text
//!  record ─► reader ─► view ─► stream ─► watcher      one reader per watched instance and replica, whoever watches
//!            ▲ hints,  (the latest, never a queue)
//!              every 5 s
//! ```
//!
//! Streams are level-triggered: each sends what is newer than what it has sent, from the latest view. A slow reader so misses
//! states between, and never the last one; nobody waits for a watcher, and a watcher keeps nothing but its place.
//!
//! Reads and watches call ENS in two cases only: for what the ledger has not seen lately
//! (`discover.rs`), and, for followers, so that what they were sent does not grow old
//! (`follow.rs`). What ENS could not be asked about is never called absent: the answer says so
//! ([`Coverage`]), or the read fails with a reason.

mod channel;
mod coverage;
mod discover;
mod failures;
mod follow;
mod hub;
mod reader;
mod stream;
mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Attachment, InstanceId, InterfaceId, Revision};

pub use coverage::Coverage;
pub use hub::{Hub, Listing};

/// What a watcher wants to see.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI; `None`: every ENI of the instance.
    pub eni: Option<InterfaceId>,
    /// The revision up to which it was seen before; 0 for all. One above the instance's current revision counts as 0, for
    /// revisions start anew after a loss.
    pub after: Revision,
    /// Goes on after everything has ended, and waits for what is not there yet.
    pub follow: bool,
    /// The caller's deadline, if it has one: the stream ends then.
    pub until: Option<Instant>,
}

/// One message to a watcher.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An attachment as it stands, newer than every one sent before.
    Attachment(Arc<Attachment>),
    /// Nothing newer is known.
    Heartbeat {
        /// Everything in scope up to this revision was sent.
        revision: Revision,
        /// The next message comes after this long at the latest.
        interval: Duration,
        /// What that was checked against; the default where the scope is one ENI that the ledger
        /// knows.
        coverage: Coverage,
    },
}

/// How streams behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `watch.heartbeat`: how long after a stream's last message a heartbeat comes. Default 15 s.
    pub heartbeat: Duration,
    /// `watch.max_age`: how long a stream lives, give or take a tenth, so that streams do not end together. Default 1 h.
    pub max_age: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            max_age: Duration::from_secs(60 * 60),
        }
    }
}
