//! One step on one record, committed: read, apply, compare-and-set, again if somebody was faster.
//!
//! The last record seen of an instance is tried first, so that an uncontended step is one round trip. An answer that changes
//! nothing is never given from memory: it is verified against the ledger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{InstanceId, Timestamp, random};
use crate::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore, StoreUnreachable};

use super::apply::{Context, apply};
use super::bounds::Bounds;
use super::command::{Change, Command, Reply};
use super::invariants::{self, Violation};
use super::record::Record;
use super::seen::Seen;
use super::{BootInstant, LedgerError, LedgerStore, Proposal, Snapshot, Verdict};

/// Tries of one step before the ledger counts as out of reach.
const MAX_TRIES: u32 = 50;

/// What a committed step means to others: metrics, spans, logs.
#[derive(Debug)]
pub enum LedgerEvent<'a> {
    /// An attachment changed.
    Changed(&'a Change),
    /// A commit would break an invariant: a defect of the gateway, or of what it stands on.
    InvariantViolated(&'a InstanceId, Violation),
}

/// Who is told of every [`LedgerEvent`].
pub type Observer = Arc<dyn Fn(LedgerEvent<'_>) + Send + Sync>;

/// The ledger with its rules.
pub struct Ledger<L> {
    store: L,
    bounds: Bounds,
    seen: Mutex<Seen>,
    observer: Observer,
}

/// The answer to a command.
#[derive(Debug, Clone)]
pub struct CommandOutcome {
    /// What it came to.
    pub reply: Reply,
    /// The record after it.
    pub record: Arc<Record>,
    /// The ledger's clock when it was decided.
    pub now: Timestamp,
    /// This machine's clock before the deciding call: what is left of a lease counts down from here.
    pub requested_at: BootInstant,
}

impl CommandOutcome {
    /// When, by this machine's clock, something that the ledger ends at `expires_at` has ended at the latest.
    #[must_use]
    pub fn deadline(&self, expires_at: Timestamp) -> BootInstant {
        self.requested_at + expires_at.since(self.now)
    }
}

impl<L: LedgerStore> Ledger<L> {
    /// Keeps records in `ledger`, by these bounds.
    pub fn new(ledger: L, bounds: Bounds, observer: Observer) -> Self {
        Self {
            store: ledger,
            bounds,
            seen: Mutex::default(),
            observer,
        }
    }

    /// Where the records are kept.
    pub fn store(&self) -> &L {
        &self.store
    }

    /// The bounds of this replica.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The bounds in force for an instance, as far as this replica knows: the safer of its own and what other replicas share.
    pub fn bounds_of(&self, instance: &InstanceId) -> Bounds {
        self.bounds.among(self.store.partition(instance).shared)
    }

    /// Performs one command.
    ///
    /// # Errors
    /// The ledger cannot be reached. The command may have been applied all the same: tried again, it shows.
    pub async fn execute(&self, instance: &InstanceId, command: &Command) -> Result<CommandOutcome, LedgerError> {
        self.perform(instance, command, None).await
    }

    /// Performs one command, but not after this time, even if this process stands still meanwhile: what is then on its way to the
    /// ledger is turned back for its time.
    ///
    /// # Errors
    /// As [`Ledger::execute`]; nothing was applied if the time was over before.
    pub async fn execute_until(
        &self,
        instance: &InstanceId,
        command: &Command,
        until: Instant,
    ) -> Result<CommandOutcome, LedgerError> {
        self.perform(instance, command, Some(until)).await
    }

    async fn perform(
        &self,
        instance: &InstanceId,
        command: &Command,
        until: Option<Instant>,
    ) -> Result<CommandOutcome, LedgerError> {
        let mut asked = BootInstant::now();
        // Whether a request id came before is not remembered here.
        let mut verified = command.request().is_some();
        let mut snapshot = if verified {
            self.store.read(instance, command.request()).await?
        } else {
            self.remembered(instance)
        };
        for tries in 0..MAX_TRIES {
            let now = self.store.now(instance).max(snapshot.now);
            // After `now` is taken: a standstill between the two shows here, and one after this makes `now` too old to be taken.
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(LedgerError::not_applied("the time for it was over"));
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
                    return Ok(CommandOutcome {
                        reply: step.reply,
                        record,
                        now,
                        requested_at: asked,
                    });
                }
                asked = BootInstant::now();
                snapshot = self.store.read(instance, command.request()).await?;
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
            match self.store.commit(&proposal).await? {
                Verdict::Committed { version, now } => {
                    self.notify_observer(&snapshot.record, &proposal.record, &context, &changes);
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
                    return Ok(CommandOutcome {
                        reply: step.reply,
                        record: Arc::new(record),
                        now,
                        requested_at: asked,
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
        Err(LedgerError::not_applied(format!(
            "the record of {instance} changed {MAX_TRIES} times in a row while a step was tried"
        )))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The ledger cannot be reached.
    pub async fn read(&self, instance: &InstanceId) -> Result<Snapshot, LedgerError> {
        self.store.read(instance, None).await
    }

    /// Reports a commit that was computed under `context`.
    fn notify_observer(&self, before: &Record, after: &Record, context: &Context<'_>, changes: &[Change]) {
        for violation in invariants::check(before, after, context) {
            (self.observer)(LedgerEvent::InvariantViolated(context.instance, violation));
        }
        for change in changes {
            (self.observer)(LedgerEvent::Changed(change));
        }
    }

    fn remembered(&self, instance: &InstanceId) -> Snapshot {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = seen.get(instance).unwrap_or_default();
        Snapshot {
            partition: self.store.partition(instance),
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

impl<L: LedgerStore> RateLimitStore for Ledger<L> {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, StoreUnreachable> {
        self.store.take(request).await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::Memory;
    use crate::ledger::boot::suspend;
    use crate::ledger::command::{Acquire, Mode};
    use crate::model::{Ticket, Uid};

    /// Its deadline is compared with no other clock: the types do not allow it.
    #[tokio::test(start_paused = true)]
    async fn a_lease_goes_on_ending_while_the_machine_is_suspended() {
        let bounds = Bounds::default();
        let lease = bounds.lease;
        let ledger = Ledger::new(
            Memory::new(crate::rate_limit::Rates::default()),
            bounds,
            Arc::new(|_| {}),
        );
        let enter = Command::Acquire(Acquire {
            ticket: Ticket(Uuid::nil()),
            uid: Uid(Uuid::nil()),
            eni: "eni-1".parse().unwrap(),
            request: None,
            trace: None,
            mode: Mode::Enqueue,
            confirmed_since: crate::model::Timestamp::default(),
        });
        let instance = "i-1".parse().unwrap();
        let answer = ledger.execute(&instance, &enter).await.unwrap();
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
        let again = ledger.execute(&instance, &enter).await.unwrap();
        let Reply::Granted { grant: next, .. } = again.reply else {
            panic!()
        };
        assert!(
            next.token.fence > grant.token.fence,
            "another grant: the ledger's clock went on too"
        );
    }
}
