//! One step on one record, committed: read, apply, compare-and-set, again if somebody was faster.
//!
//! The last record seen of an instance is tried first, so that an uncontended step is one round trip. An answer that changes
//! nothing is never given from memory: it is verified against the ledger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{InstanceId, Timestamp, random};

use super::apply::{Context, apply};
use super::bounds::Bounds;
use super::command::{Change, Command, Reply};
use super::invariants::{self, Breach};
use super::record::Record;
use super::seen::Seen;
use super::{BootInstant, Ledger, Proposal, Snapshot, Unavailable, Verdict};

/// Tries of one step before the ledger counts as out of reach.
const MAX_TRIES: u32 = 50;

/// What a committed step means to others: metrics, spans, logs.
#[derive(Debug)]
pub enum Event<'a> {
    /// An attachment changed.
    Changed(&'a Change),
    /// A commit would break an invariant: a defect of the gateway, or of what it stands on.
    Broken(&'a InstanceId, Breach),
}

/// Who is told of every [`Event`].
pub type Observer = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// The ledger with its rules.
pub struct Book<L> {
    ledger: L,
    bounds: Bounds,
    seen: Mutex<Seen>,
    observer: Observer,
}

/// The answer to a command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What it came to.
    pub reply: Reply,
    /// The record after it.
    pub record: Arc<Record>,
    /// The ledger's clock when it was decided.
    pub now: Timestamp,
    /// This machine's clock before the deciding call: what is left of a lease counts down from here.
    pub asked: BootInstant,
}

impl Answer {
    /// When, by this machine's clock, something that the ledger ends at `expires_at` has ended at the latest.
    #[must_use]
    pub fn deadline(&self, expires_at: Timestamp) -> BootInstant {
        self.asked + expires_at.since(self.now)
    }
}

impl<L: Ledger> Book<L> {
    /// Keeps records in `ledger`, by these bounds.
    pub fn new(ledger: L, bounds: Bounds, observer: Observer) -> Self {
        Self {
            ledger,
            bounds,
            seen: Mutex::default(),
            observer,
        }
    }

    /// Where the records are kept.
    pub fn ledger(&self) -> &L {
        &self.ledger
    }

    /// The bounds of this replica.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The bounds in force for an instance, as far as this replica knows: the safer of its own and what other replicas share.
    pub fn bounds_of(&self, instance: &InstanceId) -> Bounds {
        self.bounds.among(self.ledger.partition(instance).shared)
    }

    /// Performs one command.
    ///
    /// # Errors
    /// The ledger cannot be reached. The command may have been applied all the same: tried again, it shows.
    pub async fn execute(&self, instance: &InstanceId, command: &Command) -> Result<Answer, Unavailable> {
        self.perform(instance, command, None).await
    }

    /// Performs one command, but not after this time, even if this process stands still meanwhile: what is then on its way to the
    /// ledger is turned back for its time.
    ///
    /// # Errors
    /// As [`Book::execute`]; nothing was applied if the time was over before.
    pub async fn execute_until(
        &self,
        instance: &InstanceId,
        command: &Command,
        until: Instant,
    ) -> Result<Answer, Unavailable> {
        self.perform(instance, command, Some(until)).await
    }

    async fn perform(
        &self,
        instance: &InstanceId,
        command: &Command,
        until: Option<Instant>,
    ) -> Result<Answer, Unavailable> {
        let mut asked = BootInstant::now();
        // Whether a request id came before is not remembered here.
        let mut verified = command.request().is_some();
        let mut snapshot = if verified {
            self.ledger.read(instance, command.request()).await?
        } else {
            self.remembered(instance)
        };
        for tries in 0..MAX_TRIES {
            let now = self.ledger.now(instance).max(snapshot.now);
            // After `now` is taken: a standstill between the two shows here, and one after this makes `now` too old to be taken.
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Unavailable::before("the time for it was over"));
            }
            let context = Context {
                bounds: &self.bounds.among(snapshot.partition.shared),
                instance,
                partition: &snapshot.partition,
                request: snapshot.request.as_ref(),
                now,
            };
            let step = apply(&snapshot.record, command, context);
            if !step.changed {
                if verified {
                    let record = Arc::new(step.record);
                    self.remember(instance, snapshot);
                    return Ok(Answer {
                        reply: step.reply,
                        record,
                        now,
                        asked,
                    });
                }
                asked = BootInstant::now();
                snapshot = self.ledger.read(instance, command.request()).await?;
                verified = true;
                continue;
            }
            let changes = step.changes;
            let proposal = Proposal {
                instance: instance.clone(),
                version: snapshot.version,
                partition: snapshot.partition.clone(),
                now,
                record: step.record,
                request: command.request().cloned(),
                effects: step.effects,
            };
            asked = BootInstant::now();
            match self.ledger.commit(&proposal).await? {
                Verdict::Committed { version, now } => {
                    self.tell(&snapshot.record, &proposal.record, &context, &changes);
                    let record = proposal.record;
                    let partition = snapshot.partition;
                    let seen = Snapshot {
                        record: record.clone(),
                        version,
                        request: None,
                        partition,
                        now,
                    };
                    self.remember(instance, seen);
                    return Ok(Answer {
                        reply: step.reply,
                        record: Arc::new(record),
                        now,
                        asked,
                    });
                }
                Verdict::Conflict(current) => {
                    snapshot = *current;
                    verified = true;
                }
            }
            if tries > 2 {
                let pause = random::between(0..5 * u64::from(tries));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        Err(Unavailable::before(format!(
            "the record of {instance} changed {MAX_TRIES} times in a row while a step was tried"
        )))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The ledger cannot be reached.
    pub async fn read(&self, instance: &InstanceId) -> Result<Snapshot, Unavailable> {
        self.ledger.read(instance, None).await
    }

    /// Reports a commit that was computed under `context`.
    fn tell(&self, before: &Record, after: &Record, context: &Context<'_>, changes: &[Change]) {
        for breach in invariants::check(before, after, context) {
            (self.observer)(Event::Broken(context.instance, breach));
        }
        for change in changes {
            (self.observer)(Event::Changed(change));
        }
    }

    fn remembered(&self, instance: &InstanceId) -> Snapshot {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = seen.get(instance).unwrap_or_default();
        Snapshot {
            partition: self.ledger.partition(instance),
            ..snapshot
        }
    }

    fn remember(&self, instance: &InstanceId, snapshot: Snapshot) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.put(
            instance,
            Snapshot {
                request: None,
                ..snapshot
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::boot::suspend;
    use crate::ledger::command::{Enter, Reach};
    use crate::ledger::{Memory, Rates};
    use crate::model::{Ticket, Uid};

    /// Its deadline is compared with no other clock: the types do not allow it.
    #[tokio::test(start_paused = true)]
    async fn a_lease_goes_on_ending_while_the_machine_is_suspended() {
        let bounds = Bounds::default();
        let lease = bounds.lease;
        let book = Book::new(Memory::new(Rates::default()), bounds, Arc::new(|_| {}));
        let enter = Command::Enter(Enter {
            ticket: Ticket(Uuid::nil()),
            uid: Uid(Uuid::nil()),
            eni: "eni-1".parse().unwrap(),
            request: None,
            trace: None,
            reach: Reach::Queue,
            affirmed_since: crate::model::Timestamp::default(),
        });
        let instance = "i-1".parse().unwrap();
        let answer = book.execute(&instance, &enter).await.unwrap();
        let Reply::Granted { grant, .. } = answer.reply else {
            panic!()
        };
        let left = || answer.deadline(grant.expires_at).since(BootInstant::now());
        assert_eq!(left(), lease);
        tokio::time::advance(Duration::from_secs(4)).await;
        suspend(Duration::from_secs(5));
        assert_eq!(left(), lease - Duration::from_secs(9));
        suspend(lease);
        assert_eq!(left(), Duration::ZERO);
        let again = book.execute(&instance, &enter).await.unwrap();
        let Reply::Granted { grant: next, .. } = again.reply else {
            panic!()
        };
        assert!(
            next.hold.fence > grant.hold.fence,
            "another grant: the ledger's clock went on too"
        );
    }
}
