//! Reads of attachments, and streams of their changes.
//!
//! ```text
//!  record ─► reader ─► view ─► stream ─► watcher      one reader per watched instance and replica
//!            ▲ change notifications,  (the latest, never a queue)
//!              every 5 s
//! ```
//!
//! A stream sends, from the latest view, each attachment newer than the last one sent. A slow
//! watcher misses intermediate states, never the last one. Watchers have no queue and delay
//! nothing; a watcher's only state is its revision.
//!
//! Reads and watches call ENS only to discover what the ledger has not observed lately
//! (`discover.rs`), for the states of instances (`states.rs`), and to refresh followed scopes
//! (`follow.rs`). Those of all instances never do (`fleet`). Unknown is never reported as
//! absent. The answer is marked incomplete ([`Coverage`]), or the read fails with a reason.

mod capacity;
mod coverage;
mod discover;
pub mod fleet;
mod fleet_list;
mod fleet_stream;
mod follow;
mod hub;
mod limits;
mod read;
mod read_shares;
mod reader;
mod shared_read;
mod states;
mod stream;
mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::Peer;
use crate::model::{Attachment, InstanceId, InterfaceId, Revision};

pub use capacity::{Capacity, RECORDS_AT_ONCE};
pub use coverage::{Coverage, OBSERVED_WITHIN};
pub use hub::Hub;
pub use read::Listing;

/// On whose behalf a read is made, and until when.
#[derive(Debug, Clone, Copy)]
pub struct ReadCall {
    /// The peer whose share of the describes it uses.
    pub peer: Peer,
    /// The caller's deadline.
    pub deadline: Instant,
}

/// The scope of a watch.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI; `None` for every ENI of the instance.
    pub eni: Option<InterfaceId>,
    /// The last revision that the caller saw; 0 for all. A value above the instance's revision
    /// counts as 0, because revisions restart after a loss.
    pub after: Revision,
    /// Whether the stream waits for missing attachments and continues after terminal states.
    pub follow: bool,
    /// The caller's deadline, at which the stream ends.
    pub until: Option<Instant>,
    /// The peer whose share of the describes it uses.
    pub peer: Peer,
}

/// A message to a watcher.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The current state of an attachment, newer than every one sent before.
    Attachment(Arc<Attachment>),
    /// Nothing newer is known.
    Heartbeat {
        /// Everything in scope up to this revision was sent.
        revision: Revision,
        /// Maximum time until the next message.
        interval: Duration,
        /// The scope's completeness; the default for an ENI that the ledger knows.
        coverage: Coverage,
    },
}

/// Settings of streams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// `watch.heartbeat`: time after a stream's last message to a heartbeat. Default 15 s.
    pub heartbeat: Duration,
    /// `watch.max_age`: maximum age of a stream, varied by a tenth so that streams do not end
    /// together. Default 1 h.
    pub max_age: Duration,
    /// Maximum number of describes a second for the reads of one peer. Default 2.
    pub describes_per_peer: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            max_age: Duration::from_secs(60 * 60),
            describes_per_peer: 2.0,
        }
    }
}
