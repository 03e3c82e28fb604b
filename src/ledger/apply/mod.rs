//! The rules of the ledger as one pure function: `apply(record, command, now) → (record', effects,
//! reply)`.
//!
//! Memory, Redis, model and simulation run the same code. It reads no clock and draws no random
//! number: tickets, uids and the time come with the call. A commit whose reply was lost can
//! therefore be repeated, and shows whether it was applied.

mod acquire;
mod capacity;
mod clock;
mod lock;
mod observe;
mod reconcile;
mod record_statuses;
mod remember;
mod send_result;
mod statuses;
mod transitions;

pub use capacity::{CapacityCheck, Slots};

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{InstanceId, InterfaceId, Revision, State, Timestamp};

use super::bounds::{
    Bounds, EMPTY_LIFE, ENDED_LIFE, IDLE_LIFE, LONGEST_PAUSE, MAX_ENDED, MAX_ENDED_SIZE,
};
use super::command::{Change, Command, Reply};
use super::record::{Attempt, Record, RequestEntry, RequestKey};
use super::safety_checks::SafetyCheck;
use super::{Effects, Partition};

/// The inputs of a step beside the record and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The configured bounds.
    pub bounds: &'a Bounds,
    /// The instance of the record.
    pub instance: &'a InstanceId,
    /// The state of its partition.
    pub partition: &'a Partition,
    /// The entry of the command's request id, if there is one.
    pub request: Option<&'a RequestEntry>,
    /// The time for which it is computed.
    pub now: Timestamp,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The new record.
    pub record: Record,
    /// Whether the record changed. If not, nothing need be stored.
    pub changed: bool,
    /// The changes beside the record.
    pub effects: Effects,
    /// The attachments that changed.
    pub changes: Vec<Change>,
    /// The reply.
    pub reply: Reply,
}

/// Applies one command to one record.
#[must_use]
pub fn apply(record: &Record, command: &Command, context: Context<'_>) -> Applied {
    let mut update = RecordUpdate::new(record, context);
    let reply = update.run(command);
    update.finish(record, reply)
}

/// One application of a command in progress.
struct RecordUpdate<'a> {
    context: Context<'a>,
    record: Record,
    changes: Vec<Change>,
    requests: Vec<(RequestKey, Option<RequestEntry>)>,
    /// ENIs whose place in the due queue caused this command.
    claimed: BTreeSet<InterfaceId>,
    handed_over: bool,
    compared: bool,
}

impl<'a> RecordUpdate<'a> {
    fn new(record: &Record, context: Context<'a>) -> Self {
        Self {
            context,
            record: record.clone(),
            changes: Vec::new(),
            requests: Vec::new(),
            claimed: BTreeSet::new(),
            handed_over: false,
            compared: false,
        }
    }
}

impl RecordUpdate<'_> {
    fn run(&mut self, command: &Command) -> Reply {
        if *command == Command::Read {
            return Reply::Ok;
        }
        self.expire_stale_state();
        self.perform(command)
    }

    fn perform(&mut self, command: &Command) -> Reply {
        match command {
            Command::Read => Reply::Ok,
            Command::Acquire(wanted) => self.acquire_slot(wanted),
            Command::Resend { ticket, uid, eni } => self.resend(*ticket, *uid, eni),
            Command::Observe { sent_at, rows, then } => {
                self.observe(*sent_at, rows);
                then.as_ref().map_or(Reply::Ok, |then| self.perform(then))
            }
            Command::RecordSendResult { attempt, token, result, release } => {
                let reply = self.record_send_result(attempt, result);
                if *release {
                    self.release(token.ticket);
                }
                reply
            }
            Command::RecordStatuses { sent_at, observations } => {
                self.record_statuses(*sent_at, observations)
            }
            Command::Reconcile => Reply::Reconciled(self.reconcile()),
            Command::Release { ticket } => {
                self.release_place(*ticket);
                Reply::Ok
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.context.now
    }

    fn enabled(&self, check: SafetyCheck) -> bool {
        self.context.bounds.enabled(check)
    }

    fn next_revision(&mut self) -> Revision {
        self.record.revision = self.record.revision.next(self.context.now);
        self.record.revision
    }

    /// Writes an attempt as changed, with a new revision.
    fn put(&mut self, mut attempt: Attempt) {
        attempt.trim();
        let revision = self.next_revision();
        attempt.stamp(revision, self.context.now);
        let before = self.record.attempts.get(&attempt.eni);
        let before = before.filter(|before| before.uid == attempt.uid);
        let was_stuck = before.is_some_and(|before| before.state.is_stuck());
        let attempt = Arc::new(attempt);
        self.changes.push(Change {
            turned_stuck: attempt.state.is_stuck() && !was_stuck,
            attempt: attempt.clone(),
            from: before.map(|before| before.state.kind()),
        });
        self.keep(attempt);
    }

    fn finish(mut self, before: &Record, reply: Reply) -> Applied {
        let due = self.due_changes(before);
        // Nothing is stored for an instance of which nothing is known.
        let is_same = self.record == *before || (before.is_blank() && self.record.is_blank());
        if is_same && self.requests.is_empty() && due.is_empty() {
            return Applied {
                record: self.record,
                changed: false,
                effects: Effects::default(),
                changes: Vec::new(),
                reply,
            };
        }
        self.prune();
        let effects = Effects {
            due,
            reconcile: self.next_reconciliation(before),
            notify: self.handed_over
                || self.record.revision != before.revision
                || !unconfirmed(before).eq(unconfirmed(&self.record)),
            expire_after: self.life(),
            requests: std::mem::take(&mut self.requests),
        };
        Applied { record: self.record, changed: true, effects, changes: self.changes, reply }
    }

    fn is_live(&self) -> bool {
        self.record
            .attempts
            .values()
            .any(|attempt| attempt.is_reserved() || attempt.state.due_at().is_some())
    }

    /// How long the record is kept after this commit. `None` means without limit. A record without
    /// attempts has nothing that ENS and the clock do not show as well: revisions and fences are
    /// times.
    fn life(&self) -> Option<Duration> {
        if self.is_live() {
            return None;
        }
        let empty = EMPTY_LIFE.max(self.context.bounds.recovery_hold_down());
        let attempts = || self.record.attempts.values();
        if !attempts().all(has_ended) {
            return Some(IDLE_LIFE);
        }
        if attempts().all(Attempt::found_no_instance) {
            return Some(empty);
        }
        let last = attempts().map(|attempt| attempt.updated_at).max();
        let ended = last.map_or(Duration::ZERO, |last| (last + ENDED_LIFE).since(self.now()));
        Some(ended.clamp(empty, ENDED_LIFE.max(empty)))
    }

    /// The changes of the due queue. A claimed member that is not due by this record has lost its
    /// attempt or its record. It is removed, or it would be claimed again and again.
    fn due_changes(&self, before: &Record) -> BTreeMap<InterfaceId, Option<Timestamp>> {
        let due = |record: &Record, eni: &InterfaceId| {
            record.attempts.get(eni).and_then(|attempt| attempt.state.due_at())
        };
        let after = &self.record;
        let changed = before
            .attempts
            .keys()
            .chain(after.attempts.keys())
            .filter(|eni| due(before, eni) != due(after, eni));
        // Only a newer version knows when an attempt in an unknown state is due.
        let is_unknown = |eni: &InterfaceId| {
            let attempt = after.attempts.get(eni);
            attempt.is_some_and(|attempt| attempt.state.kind() == State::Unknown)
        };
        let lost = self.claimed.iter().filter(|eni| due(after, eni).is_none() && !is_unknown(eni));
        changed.chain(lost).map(|eni| (eni.clone(), due(after, eni))).collect()
    }

    /// Removes attempts that ended long ago, and all but the newest that fit.
    fn prune(&mut self) {
        let ended = self.record.attempts.values().filter(|attempt| has_ended(attempt));
        let mut ended: Vec<_> = ended
            .map(|attempt| (Reverse(attempt.updated_at), attempt.eni.clone(), attempt.size()))
            .collect();
        ended.sort_unstable();
        let oldest = self.now() - ENDED_LIFE;
        let mut total = 0;
        for (place, (Reverse(at), eni, size)) in ended.into_iter().enumerate() {
            total += size;
            let fits = place == 0 || total <= MAX_ENDED_SIZE;
            if at < oldest || place >= MAX_ENDED || !fits {
                self.record.attempts.remove(&eni);
            }
        }
    }
}

/// The attached ENIs that the last Describe call did not show in use here.
fn unconfirmed(record: &Record) -> impl Iterator<Item = &InterfaceId> {
    record.attempts.values().filter(|it| it.state.is_unconfirmed()).map(|it| &it.eni)
}

/// Whether only history is left of it.
fn has_ended(attempt: &Attempt) -> bool {
    matches!(attempt.state.kind(), State::Failed | State::Detached)
}

/// The time of the next poll. Rounded to whole seconds, so that polls coincide and fill the
/// batches.
fn on_the_second(time: Timestamp) -> Timestamp {
    const SECOND: u64 = 1_000_000;
    Timestamp::from_micros(time.as_micros().div_ceil(SECOND) * SECOND)
}

/// The pause before the next poll, after `polls` of them.
fn pause_after(polls: u32, stuck: bool) -> Duration {
    match polls {
        _ if stuck => LONGEST_PAUSE,
        0 | 1 => Duration::from_secs(1),
        2..=4 => Duration::from_secs(2),
        5..=9 => Duration::from_secs(3),
        10..=19 => Duration::from_secs(5),
        _ => Duration::from_secs(10),
    }
}
