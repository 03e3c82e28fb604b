//! The observation of an instance that the ledger does not know, and the limit on such attaches.

use tokio::time::Instant;

use crate::admission::{AdmissionPermit, ConcurrencyLimit, Sharing};
use crate::ledger::bounds::OBSERVATION_LIFE;
use crate::observe::InstanceObservation;

/// Maximum number of attaches to unknown instances that describe or send at once.
const AT_ONCE: usize = 8;
/// Maximum number of them that wait.
const WAITING: usize = 256;

/// A limit on calls of this kind. The callers take turns, by address and connection.
pub(super) fn limit(kind: &'static str) -> ConcurrencyLimit {
    ConcurrencyLimit::new(kind, AT_ONCE, AT_ONCE, Sharing::WorkConserving { waiting: WAITING })
}

/// The describe of an unknown instance.
pub(super) struct Discovery {
    /// The observation, until it is used, and when it arrived.
    seen: Option<(Instant, InstanceObservation)>,
    /// Held until ENS has shown the instance, or answered the send.
    _place: Option<AdmissionPermit>,
}

impl Discovery {
    /// An observation that has just arrived. The place is kept if it shows no ENI: the instance may
    /// not exist.
    pub(super) fn new(seen: Option<InstanceObservation>, place: AdmissionPermit) -> Self {
        let shows_none = seen.as_ref().is_none_or(|seen| seen.rows.is_empty());
        let seen = seen.map(|seen| (Instant::now(), seen));
        Self { seen, _place: shows_none.then_some(place) }
    }

    /// The observation, if it is recent enough for a reservation.
    pub(super) fn take_recent(&mut self) -> Option<InstanceObservation> {
        let (arrived, seen) = self.seen.take()?;
        (arrived.elapsed() < OBSERVATION_LIFE).then_some(seen)
    }
}
