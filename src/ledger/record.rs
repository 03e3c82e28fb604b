//! What the ledger remembers of one instance: the lock, the queue, the observation, the attempts. Stored as JSON; fields
//! that this version does not know are kept.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::stored::{Open, stored};
use crate::model::{
    Attachment, Caller, Failure, Fence, InstanceId, InterfaceId, RequestId, Revision, State, Ticket, Timestamp, Uid,
    Unknown,
};

use super::bounds::MAX_SENDS;

/// Longest `tracestate` that is kept: the least that the W3C asks for.
const MAX_TRACE_STATE: usize = 512;

/// The format that this version writes. It reads this one and the one before.
pub const FORMAT: u32 = 1;

stored! {
    /// The record of one instance. The default is that of an instance never seen.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Record {
        /// The [`FORMAT`] it was written in.
        pub format: u32,
        /// The epoch of its partition at the last write; at another one, lock, queue and observation are void.
        pub epoch: String,
        /// The last revision given to any attachment.
        pub revision: Revision,
        /// The last fence given to any grant.
        pub fence: Fence,
        /// Who may touch the instance now.
        pub lock: Option<LockGrant> = optional,
        /// Who waits for it, first come first.
        pub queue: VecDeque<Waiter>,
        /// What the last describe of the instance showed.
        pub observation: Option<Observation> = optional,
        /// ENIs settled here, and when: they occupy until an observation sent later than that plus the lag.
        pub recently_confirmed: BTreeMap<InterfaceId, Timestamp>,
        /// A limit that ENS itself enforced.
        pub learned_limit: Option<LearnedLimit> = optional,
        /// The newest attempt of each ENI.
        pub attempts: BTreeMap<InterfaceId, Attempt>,
        /// The request ids that are remembered beside the record, each caller's oldest first.
        pub requests: BTreeMap<Caller, Vec<RequestId>> = optional,
    }
}

impl Record {
    /// About how many bytes it takes, as JSON as in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let occupied = self.observation.iter().flat_map(|observation| &observation.occupied);
        let enis = occupied
            .chain(self.recently_confirmed.keys())
            .map(|eni| 24 + eni.as_str().len());
        let requests = self
            .requests
            .iter()
            .map(|(caller, ids)| 4 + caller.0.len() + 39 * ids.len());
        let attempts = self.attempts.values().map(Attempt::size);
        let parts = enis.sum::<usize>() + requests.sum::<usize>() + attempts.sum::<usize>();
        500 + self.epoch.len() + 100 * self.queue.len() + parts + self.unknown.size()
    }

    /// When the describe was sent that says what is on the instance, if any does.
    #[must_use]
    pub fn observed_at(&self) -> Option<Timestamp> {
        let observation = self
            .observation
            .as_ref()
            .filter(|observation| !observation.is_invalidated());
        observation.map(|observation| observation.sent_at)
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            format: FORMAT,
            epoch: String::new(),
            revision: Revision::default(),
            fence: Fence::default(),
            lock: None,
            queue: VecDeque::new(),
            observation: None,
            recently_confirmed: BTreeMap::new(),
            learned_limit: None,
            attempts: BTreeMap::new(),
            requests: BTreeMap::new(),
            unknown: Unknown::default(),
        }
    }
}

stored! {
    /// The lock, held.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LockGrant {
        /// Whose it is.
        pub ticket: Ticket,
        /// Which grant it is.
        pub fence: Fence,
        /// When the lease ends; for a provisional grant, when it lapses.
        pub expires_at: Timestamp,
        /// Handed over, and not yet confirmed by the grantee's next poll.
        pub provisional: bool,
    }
}

stored! {
    /// A place in the queue.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Waiter {
        /// Whose it is.
        pub ticket: Ticket,
        /// When it is dead unless polled again.
        pub expires_at: Timestamp,
    }
}

stored! {
    /// What a describe of the instance showed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Observation {
        /// When the describe was sent.
        pub sent_at: Timestamp,
        /// The ENIs that occupied a slot.
        pub occupied: Vec<InterfaceId>,
        /// When it was recorded: an answer that took long is no older for that.
        pub recorded_at: Timestamp,
        /// How long it is good for, from then on.
        pub good_for: Duration,
    }
}

impl Observation {
    /// When it is too old to decide by.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.recorded_at + self.good_for
    }

    /// Whether it says nothing any more but this: what was asked before it, and arrives only now, is older still.
    #[must_use]
    pub fn is_invalidated(&self) -> bool {
        self.good_for.is_zero()
    }
}

stored! {
    /// A limit below the configured one, learnt from ENS's refusal.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LearnedLimit {
        /// How many ENIs the instance had when ENS refused one more.
        pub limit: usize,
        /// When that attach was sent.
        pub at: Timestamp,
        /// When it is forgotten.
        pub until: Timestamp,
    }
}

stored! {
    /// An attachment with what it takes to bring it to its end.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Attempt {
        /// As callers see it.
        pub attachment: Attachment,
        /// Whether it holds a slot beside what ENS shows.
        pub reserved: bool,
        /// Where it comes from.
        pub origin: Origin = open,
        /// Every send, written before it went out.
        pub sends: Vec<SendEntry>,
        /// When the newest describe that was recorded for it was sent.
        pub described_at: Option<Timestamp> = optional,
        /// When the newest describe that showed it free, at least one lag after the last send, was sent: it may be sent again.
        pub observed_free_at: Option<Timestamp> = optional,
        /// When the newest describe that showed the ENI on this instance was sent.
        pub observed_attached_at: Option<Timestamp> = optional,
        /// When the newest describe was sent that does not show an attached ENI in use here, while that may be the past.
        pub unconfirmed_since: Option<Timestamp> = optional,
        /// Whether the ENI was seen on this instance within one lag before the reserve: what shows it here may be old.
        pub was_recently_attached: bool = optional,
        /// What ENS said to a copy that it refused while another copy is unanswered, or while its status is re-read.
        pub refusal: Option<Failure> = optional,
        /// How often it was looked at since the last send.
        pub poll_count: u32,
        /// When its times started again because the epoch changed after it began: `created_at` may be by another clock.
        pub restarted_at: Option<Timestamp> = optional,
        /// When to look at it next; `None`: nothing is under way.
        pub due_at: Option<Timestamp> = optional,
        /// The trace of the RPC that began it.
        pub trace: Option<TraceContext> = optional,
        /// The request id that began it.
        pub request: Option<RequestKey> = optional,
        /// The ended attempt of the same ENI that it took the place of; back again if it is withdrawn.
        pub superseded: Option<Box<Attempt>> = optional,
    }
}

/// Where an attachment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A gateway sent the attach.
    Gateway,
    /// ENS showed it, and no gateway sent it.
    External,
    /// An origin that this version does not know.
    Unknown,
}

impl Open for Origin {
    const OTHER: Self = Self::Unknown;
}

impl Attempt {
    /// An attachment that others made: first seen by a describe sent at `seen_at`, with this `ens_status`. Its state is
    /// entered by whoever puts it into the record.
    #[must_use]
    pub fn external(
        instance: &InstanceId,
        eni: &InterfaceId,
        uid: Uid,
        ens_status: &str,
        seen_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let mut attempt = Self::new(instance, eni, uid, now);
        attempt.origin = Origin::External;
        attempt.reserved = false;
        attempt.described_at = Some(seen_at);
        attempt.observed_attached_at = Some(seen_at);
        attempt.attachment.show(ens_status, seen_at);
        attempt
    }

    /// An attempt of this gateway, with its slot reserved and nothing sent yet.
    #[must_use]
    pub fn new(instance: &InstanceId, eni: &InterfaceId, uid: Uid, now: Timestamp) -> Self {
        Self {
            attachment: Attachment {
                instance: instance.clone(),
                eni: eni.clone(),
                uid,
                state: State::Pending,
                ens_status: String::new(),
                observed_at: None,
                revision: Revision::default(),
                created_at: now,
                updated_at: now,
                ens_request_id: String::new(),
                error: None,
                transitions: Vec::new(),
                stuck: false,
                unknown: Unknown::default(),
            },
            reserved: true,
            origin: Origin::Gateway,
            sends: Vec::new(),
            described_at: None,
            observed_free_at: None,
            observed_attached_at: None,
            unconfirmed_since: None,
            was_recently_attached: false,
            refusal: None,
            poll_count: 0,
            restarted_at: None,
            due_at: None,
            trace: None,
            request: None,
            superseded: None,
            unknown: Unknown::default(),
        }
    }

    /// Cuts what others wrote into it to what a record has room for.
    pub fn trim(&mut self) {
        self.attachment.trim();
        self.refusal.iter_mut().for_each(Failure::trim);
        if let Some(trace) = self.trace.as_mut().filter(|trace| trace.state.len() > MAX_TRACE_STATE) {
            trace.state.clear();
        }
    }

    /// About how many bytes it takes, as JSON as in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let sends = self.sends.iter().map(|send| 50 + send.unknown.size()).sum::<usize>();
        let refusal = self.refusal.as_ref().map_or(0, Failure::size);
        let trace = self
            .trace
            .as_ref()
            .map_or(0, |trace| 40 + trace.parent.len() + trace.state.len());
        let request = self.request.as_ref().map_or(0, |key| 80 + key.caller.0.len());
        let former = self.superseded.as_ref().map_or(0, |former| former.size());
        200 + self.attachment.size() + sends + refusal + trace + request + former + self.unknown.size()
    }

    /// Whether a gateway sent it.
    #[must_use]
    pub fn is_from_gateway(&self) -> bool {
        self.origin == Origin::Gateway
    }

    /// Which attempt it is.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.attachment.uid
    }

    /// Whether it takes a slot beside what ENS shows. One in a state that this version does not know does.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.reserved || self.attachment.state == State::Unknown
    }

    /// When it began, by the ledger's present clock: from then on it counts until it is stuck.
    #[must_use]
    pub fn in_flight_since(&self) -> Timestamp {
        self.restarted_at.unwrap_or(self.attachment.created_at)
    }

    /// The last send, if any.
    #[must_use]
    pub fn last_send(&self) -> Option<&SendEntry> {
        self.sends.last()
    }

    /// Whether a send may still be applied for all that ENS answered.
    #[must_use]
    pub fn has_unanswered_send(&self) -> bool {
        self.sends.iter().any(|send| send.answered_at.is_none())
    }

    /// Whether ENS answered every copy, and refused the last one without proof that none was applied.
    #[must_use]
    pub fn has_status_conflict(&self) -> bool {
        self.refusal.is_some() && !self.has_unanswered_send()
    }

    /// Whether it went unanswered, ENS was asked since, and nothing forbids another send.
    #[must_use]
    pub fn may_be_resent(&self) -> bool {
        self.attachment.state == State::Verifying
            && self.observed_free_at.is_some()
            && self.refusal.is_none()
            && self.sends.len() < MAX_SENDS
    }
}

stored! {
    /// One `AttachNetworkInterface`, written before it went out.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SendEntry {
        /// Not before its `x-acs-date`.
        pub at: Timestamp,
        /// When ENS's answer, which settled this copy, was written: what came of it, came of it before.
        pub answered_at: Option<Timestamp> = optional,
        /// When its protective times started again, because the epoch changed after it: `at` may be by another clock.
        pub restarted_at: Option<Timestamp> = optional,
    }
}

impl SendEntry {
    /// One that is written at `at`, and not answered yet.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self {
            at,
            answered_at: None,
            restarted_at: None,
            unknown: Unknown::default(),
        }
    }

    /// The time from which its visibility lag and its validity count. `at` names the send, and stays.
    #[must_use]
    pub fn counts_from(&self) -> Timestamp {
        self.restarted_at.unwrap_or(self.at)
    }
}

stored! {
    /// W3C trace context, as it goes over the wire.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub struct TraceContext {
        /// `traceparent`, with its sampled flag.
        pub parent: String,
        /// `tracestate`; often empty.
        pub state: String = optional,
    }
}

stored! {
    /// A request id in its scope; the instance is the record's own.
    #[derive(Clone, Debug)]
    pub struct RequestKey {
        /// Who sent it.
        pub caller: Caller,
        /// The id.
        pub id: RequestId,
    }
}

impl RequestKey {
    /// The id `id` of `caller`.
    #[must_use]
    pub fn new(caller: Caller, id: RequestId) -> Self {
        let unknown = Unknown::default();
        Self { caller, id, unknown }
    }

    fn name(&self) -> (&Caller, RequestId) {
        (&self.caller, self.id)
    }
}

/// It is a name: what else a newer version wrote beside it tells no two apart.
impl PartialEq for RequestKey {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for RequestKey {}

impl PartialOrd for RequestKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RequestKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

stored! {
    /// What is remembered of a request id, for 24 hours.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RequestEntry {
        /// The ENI that it named.
        pub eni: InterfaceId,
        /// The attempt that it began.
        pub uid: Uid,
        /// The definite answer, once there is one: the attachment as accepted, or as refused (then with its `error`).
        pub answer: Option<Attachment> = optional,
    }
}

impl RequestEntry {
    /// What is remembered of the request id that began `attempt`, or ended so.
    #[must_use]
    pub fn new(attempt: &Attempt, answer: Option<Attachment>) -> Self {
        Self {
            eni: attempt.attachment.eni.clone(),
            uid: attempt.uid(),
            answer,
            unknown: Unknown::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A float that is read as its neighbour would wander off with each commit.
    #[test]
    fn what_a_newer_version_wrote_is_kept_to_the_last_digit() {
        let mut record = Record::default();
        record
            .unknown
            .insert("rate".to_owned(), serde_json::Value::from(1.700_000_000_000_000_1e44));
        let stored = serde_json::to_string(&record).expect("a record can be written");
        assert_eq!(serde_json::from_str::<Record>(&stored).expect("and read"), record);
    }

    /// How long a full instance's record takes to be written and read:
    /// `cargo nextest run --release --lib a_round_trip --run-ignored only --no-capture`.
    #[test]
    #[ignore = "a measurement"]
    fn a_round_trip() {
        let (instance, now) = (
            "i-5p67acfmxazb4p".parse().expect("an id"),
            Timestamp::from_micros(1_700_000_000_000_000),
        );
        let mut record = Record::default();
        for number in 0..20 {
            let eni = format!("eni-58z57orgmt6d{number}")
                .parse::<InterfaceId>()
                .expect("an id");
            let mut attempt = Attempt::new(&instance, &eni, Uid(uuid::Uuid::from_u128(number)), now);
            attempt.attachment.enter(State::Pending, Revision(1), now);
            attempt.attachment.enter(State::Attaching, Revision(2), now);
            attempt.attachment.enter(State::Failed, Revision(3), now);
            attempt.attachment.error =
                Some(Failure::new(crate::model::Reason::AttachFailed, "free again").about(&instance, &eni));
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
