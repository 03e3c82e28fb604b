//! The callers of one replica for one instance stand in line here, first come, first served; the replica as a whole stands
//! in the ledger's queue. Whoever is first takes the lock, and passes it on to those who already waited when it came, four
//! at most: then other replicas have their turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

use crate::ledger::BootInstant;
use crate::ledger::book::Answer;
use crate::ledger::command::{Hold, Lease, Reply};
use crate::model::{Failure, InstanceId, Reason, Ticket, random};

/// Most callers that one grant serves.
const MOST_PER_GRANT: usize = 4;

/// The lines of all instances that somebody waits for.
#[derive(Default)]
pub(super) struct Lines {
    lines: Mutex<BTreeMap<InstanceId, Weak<Line>>>,
}

impl Lines {
    pub(super) fn of(&self, instance: &InstanceId) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(instance).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line::default());
        lines.insert(instance.clone(), Arc::downgrade(&line));
        line
    }
}

/// The line of one instance.
#[derive(Default)]
pub(super) struct Line {
    turn: Arc<tokio::sync::Mutex<Baton>>,
    waiting: Mutex<Waiting>,
    /// What keeps the first in line, where it keeps everybody.
    reason: Mutex<Option<Failure>>,
    told: Notify,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    since: BTreeMap<u64, Instant>,
}

/// The place in the ledger's queue, or the lock.
#[derive(Default)]
pub(super) struct Baton {
    ticket: Option<Ticket>,
    standing: Standing,
}

/// What the ledger last said of this replica's ticket.
#[derive(Default)]
enum Standing {
    /// Nothing yet.
    #[default]
    Unknown,
    /// So many stand before it.
    Queued(usize),
    /// It has the lock.
    Granted(Held),
}

/// The lock, held by this replica.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) hold: Hold,
    /// When the lease ends, by this machine's clock.
    pub(super) ends: BootInstant,
    came: Instant,
    left: usize,
}

/// A turn at the head of the line.
pub(super) struct Turn {
    line: Arc<Line>,
    baton: OwnedMutexGuard<Baton>,
}

struct Waiter<'a> {
    line: &'a Line,
    place: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.line
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .since
            .remove(&self.place);
    }
}

impl Line {
    /// The turn, if nobody else has it.
    pub(super) fn try_turn(self: &Arc<Self>) -> Option<Turn> {
        let baton = self.turn.clone().try_lock_owned().ok()?;
        Some(Turn {
            line: self.clone(),
            baton,
        })
    }

    /// The turn, once everybody before has had theirs.
    pub(super) async fn turn(self: &Arc<Self>) -> Turn {
        let _waiter = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.last += 1;
            let place = waiting.last;
            waiting.since.insert(place, Instant::now());
            Waiter { line: self, place }
        };
        let baton = self.turn.clone().lock_owned().await;
        Turn {
            line: self.clone(),
            baton,
        }
    }

    /// Tells those in line what keeps the first one, or that it is nothing but the others.
    pub(super) fn tell(&self, why: &Failure) {
        let keeps_everybody = matches!(
            why.reason,
            Reason::CoordinationUnavailable | Reason::CoordinationRecovering | Reason::EnsThrottled
        );
        let reason = keeps_everybody.then(|| why.clone());
        let mut told = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != reason {
            *told = reason;
            self.told.notify_waiters();
        }
    }

    /// What keeps the first in line, where it keeps everybody, once that is another than is `known`.
    pub(super) async fn told(&self, known: Option<&Failure>) -> Option<Failure> {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // What changes between the look and the wait is not missed.
            told.as_mut().enable();
            let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if reason.as_ref() != known {
                return reason;
            }
            told.await;
        }
    }

    fn somebody_waits_since(&self, time: Instant) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.since.first_key_value().is_some_and(|(_, since)| *since <= time)
    }
}

impl Turn {
    /// The ticket to ask the ledger with: the same one until its grant is over.
    pub(super) fn ticket(&mut self) -> Ticket {
        *self.baton.ticket.get_or_insert_with(|| Ticket(random::uuid()))
    }

    /// The line that it is the head of.
    pub(super) fn line(&self) -> Arc<Line> {
        self.line.clone()
    }

    /// What the ledger's answer says of the lock and the places before.
    pub(super) fn hears(&mut self, answer: &Answer) {
        match answer.reply {
            Reply::Granted { grant, room, .. } => self.granted(grant, answer.deadline(grant.expires_at), room),
            Reply::Reserved { grant, room, .. } => self.granted(grant, answer.deadline(grant.expires_at), room + 1),
            Reply::Queued { ahead } => self.baton.standing = Standing::Queued(ahead),
            Reply::Full(_) => {
                self.over();
            }
            _ => {}
        }
    }

    /// The ledger granted the lock, with so many slots free.
    fn granted(&mut self, lease: Lease, ends: BootInstant, room: usize) {
        match &mut self.baton.standing {
            Standing::Granted(held) if held.hold == lease.hold => held.ends = held.ends.min(ends),
            standing => {
                *standing = Standing::Granted(Held {
                    hold: lease.hold,
                    ends,
                    came: Instant::now(),
                    left: room.clamp(1, MOST_PER_GRANT),
                });
            }
        }
    }

    /// The lock, if it is held.
    pub(super) fn held(&self) -> Option<Held> {
        match self.baton.standing {
            Standing::Granted(held) => Some(held),
            Standing::Unknown | Standing::Queued(_) => None,
        }
    }

    /// Counts one send under this grant, and says whether another caller may have its turn under it, with so much of the lease
    /// needed.
    pub(super) fn passes_on(&mut self, needed: std::time::Duration) -> bool {
        let Standing::Granted(held) = &mut self.baton.standing else {
            return false;
        };
        held.left = held.left.saturating_sub(1);
        held.left > 0 && BootInstant::now() + needed < held.ends && self.line.somebody_waits_since(held.came)
    }

    /// Whether nobody is left for whom the lock, or the place in the queue, would be kept.
    pub(super) fn is_last(&self) -> bool {
        let came = self.held().map_or_else(Instant::now, |held| held.came);
        !self.line.somebody_waits_since(came)
    }

    /// Whether no other ticket is known to come before this one.
    pub(super) fn is_next(&self) -> bool {
        !matches!(self.baton.standing, Standing::Queued(1..))
    }

    /// The grant is over, or the place given up: the next one asks with a new ticket. The old one, if the ledger may know it.
    pub(super) fn over(&mut self) -> Option<Ticket> {
        std::mem::take(&mut *self.baton).ticket
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::ledger::Record;
    use crate::model::{Fence, Timestamp};

    use super::*;

    fn answer(reply: Reply) -> Answer {
        Answer {
            reply,
            record: Arc::new(Record::default()),
            now: Timestamp::default(),
            asked: BootInstant::now(),
        }
    }

    fn granted(ticket: Ticket) -> Answer {
        let hold = Hold {
            ticket,
            fence: Fence::default().next(Timestamp::default()),
        };
        let expires_at = Timestamp::default() + std::time::Duration::from_secs(15);
        answer(Reply::Granted {
            grant: Lease { hold, expires_at },
            stale: true,
            room: 10,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_the_place_in_the_queue() {
        let mut turn = Arc::new(Line::default()).try_turn().expect("the line is empty");
        let ticket = turn.ticket();
        assert!(turn.is_next(), "nothing is known yet");
        turn.hears(&answer(Reply::Queued { ahead: 1 }));
        assert!(!turn.is_next());
        // The one in front left.
        turn.hears(&granted(ticket));
        assert!(turn.is_next() && turn.held().is_some());
        turn.hears(&answer(Reply::Queued { ahead: 2 }));
        assert!(!turn.is_next() && turn.held().is_none(), "the lease ended");
        turn.hears(&answer(Reply::Queued { ahead: 0 }));
        assert!(turn.is_next() && turn.held().is_none());
        turn.hears(&granted(ticket));
        assert_eq!(turn.over(), Some(ticket));
        assert!(turn.is_next() && turn.held().is_none() && turn.over().is_none());
    }
}
