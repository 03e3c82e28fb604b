//! The record of one instance: the lock, the queue, the observation, the attempts. Stored as JSON.
//! Fields that this version does not know are kept.

mod attempt;
mod attempts;
mod grace;
mod request;
mod send;
mod small_map;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use attempt::{
    Attached, Attempt, AttemptState, Detached, Detaching, Failed, InFlight, Origin, Unconfirmed,
};
pub use attempts::Attempts;
pub use request::{RequestEntry, RequestKey};
pub use send::SendEntry;
pub use small_map::SmallMap;

use crate::model::stored::stored;
use crate::model::{
    Caller, FencingToken, InterfaceId, RequestId, Revision, Ticket, Timestamp, Unknown,
};

/// The format that this version writes. It reads this one and the previous one.
pub const FORMAT: u32 = 1;

stored! {
    /// The record of one instance. The default is that of an instance never seen.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Record {
        /// The [`FORMAT`] it was written in.
        pub format: u32,
        /// The epoch of its partition at the last write. In another epoch lock, queue and
        /// observation are void.
        pub epoch: Arc<str>,
        /// The last revision given to any attachment.
        pub revision: Revision,
        /// The fencing token of the last grant.
        pub fencing_token: FencingToken,
        /// The lock, if it is held.
        pub lock: Option<LockGrant> = optional,
        /// The queue for the lock, first come first served.
        pub queue: VecDeque<QueuedTicket>,
        /// What the last Describe call for the instance showed.
        pub observation: Option<Observation> = optional,
        /// ENIs confirmed as attached, with the time. They occupy a slot until an observation sent
        /// later than that plus the lag.
        pub recently_confirmed: SmallMap<InterfaceId, Timestamp>,
        /// A limit that ENS itself enforced.
        pub learned_limit: Option<LearnedLimit> = optional,
        /// The newest attempt of each ENI.
        pub attempts: Attempts,
        /// Request ids remembered with the record, each caller's oldest first.
        pub requests: BTreeMap<Caller, Vec<RequestId>> = optional,
    }
}

impl Record {
    /// Approximate size in bytes, as JSON as in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let occupied = self.observation.iter().flat_map(|observation| &observation.occupied);
        let enis =
            occupied.chain(self.recently_confirmed.keys()).map(|eni| 24 + eni.as_str().len());
        let requests =
            self.requests.iter().map(|(caller, ids)| 4 + caller.0.len() + 39 * ids.len());
        let attempts = self.attempts.values().map(Attempt::size);
        let parts = enis.sum::<usize>() + requests.sum::<usize>() + attempts.sum::<usize>();
        500 + self.epoch.len() + 100 * self.queue.len() + parts + self.unknown.size()
    }

    /// Whether it says nothing about its instance. A record that was never stored says as much.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self { epoch: self.epoch.clone(), ..Self::default() }
    }

    /// Whether it shows that ENS has the instance: an ENI on it, or an attempt that ENS did not
    /// refuse because it knows no such instance.
    #[must_use]
    pub fn shows_instance(&self) -> bool {
        let has_enis = self.observation.iter().any(|seen| !seen.occupied.is_empty());
        has_enis || self.attempts.values().any(|attempt| !attempt.found_no_instance())
    }

    /// Whether this ticket holds the lock or has a place in the queue.
    #[must_use]
    pub fn has_ticket(&self, ticket: Ticket) -> bool {
        let holds = self.lock.as_ref().is_some_and(|grant| grant.ticket == ticket);
        holds || self.queue.iter().any(|waiter| waiter.ticket == ticket)
    }

    /// When the Describe call behind the current content was sent, if there is one.
    #[must_use]
    pub fn observed_at(&self) -> Option<Timestamp> {
        let observation =
            self.observation.as_ref().filter(|observation| !observation.is_invalidated());
        observation.map(|observation| observation.sent_at)
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            format: FORMAT,
            epoch: Arc::default(),
            revision: Revision::default(),
            fencing_token: FencingToken::default(),
            lock: None,
            queue: VecDeque::new(),
            observation: None,
            recently_confirmed: SmallMap::default(),
            learned_limit: None,
            attempts: Attempts::default(),
            requests: BTreeMap::new(),
            unknown: Unknown::default(),
        }
    }
}

stored! {
    /// A held lock.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LockGrant {
        /// The holder's ticket.
        pub ticket: Ticket,
        /// The fencing token of the grant.
        pub fencing_token: FencingToken,
        /// When the lease ends. For a provisional grant, when it lapses.
        pub expires_at: Timestamp,
        /// Handed over, and not yet confirmed by the grantee's next poll.
        pub provisional: bool,
    }
}

stored! {
    /// A place in the queue.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct QueuedTicket {
        /// The ticket.
        pub ticket: Ticket,
        /// When the place lapses without another poll.
        pub expires_at: Timestamp,
    }
}

stored! {
    /// What a Describe call for the instance showed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Observation {
        /// When the Describe call was sent.
        pub sent_at: Timestamp,
        /// The ENIs that occupied a slot.
        pub occupied: Vec<InterfaceId>,
        /// When it was recorded. Validity counts from here, not from `sent_at`.
        pub recorded_at: Timestamp,
        /// How long it is valid, from then on.
        pub valid_for: Duration,
    }
}

impl Observation {
    /// When it is too old to decide by.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.recorded_at + self.valid_for
    }

    /// Whether it is void. Only its time is kept, because a response to an earlier call may still
    /// arrive.
    #[must_use]
    pub fn is_invalidated(&self) -> bool {
        self.valid_for.is_zero()
    }
}

stored! {
    /// A limit below the configured one, learned from ENS's refusal.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LearnedLimit {
        /// Number of ENIs on the instance when ENS refused another.
        pub limit: usize,
        /// When that attach was sent.
        pub at: Timestamp,
        /// When it expires.
        pub until: Timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Failure, InstanceId, Reason, State, Uid};

    /// A float that is read as its neighbour would change with each commit.
    #[test]
    fn what_a_newer_version_wrote_is_kept_to_the_last_digit() {
        let mut record = Record::default();
        record
            .unknown
            .insert("rate".to_owned(), serde_json::Value::from(1.700_000_000_000_000_1e44));
        let stored = serde_json::to_string(&record).expect("a record can be written");
        assert_eq!(serde_json::from_str::<Record>(&stored).expect("and read"), record);
    }

    /// Measures how long a full record takes to be written and read: `cargo nextest run --release
    /// --lib a_round_trip --run-ignored only --no-capture`.
    #[test]
    #[ignore = "a measurement"]
    fn a_round_trip() {
        let (instance, now) = (
            "i-5p67acfmxazb4p".parse::<InstanceId>().expect("an id"),
            Timestamp::from_micros(1_700_000_000_000_000),
        );
        let mut record = Record::default();
        for number in 0..20 {
            let eni = format!("eni-58z57orgmt6d{number}").parse::<InterfaceId>().expect("an id");
            let mut attempt =
                Attempt::new(&instance, &eni, Uid(uuid::Uuid::from_u128(number)), now);
            let error = Failure::new(Reason::AttachFailed, "free again").about(&instance, &eni);
            let in_flight = [State::Pending, State::Attaching].map(AttemptState::of);
            let states = in_flight.into_iter().chain([AttemptState::failed(error)]);
            for (revision, state) in (1..).zip(states) {
                attempt.state = state;
                attempt.stamp(Revision(revision), now);
            }
            record.attempts.insert(eni, attempt);
        }
        let text = serde_json::to_string(&record).expect("a record can be written");
        let rounds = 5_000;
        let time = |work: &dyn Fn()| {
            let began = tokio::time::Instant::now();
            (0..rounds).for_each(|_| work());
            began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
        };
        let read = time(&|| drop(serde_json::from_str::<Record>(&text).expect("it is one")));
        let write = time(&|| drop(serde_json::to_string(&record).expect("it is one")));
        println!("{} bytes: {read:.1} us to read, {write:.1} us to write", text.len());
    }
}
