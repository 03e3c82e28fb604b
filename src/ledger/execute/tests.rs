//! Tests of steps: leases of a suspended machine, and records of another server.

use uuid::Uuid;

use super::*;
use crate::ledger::boot::suspend;
use crate::ledger::command::{Acquire, Mode, ObservedEni, ObservedStatus};
use crate::ledger::keys::PartitionId;
use crate::ledger::{
    ChangeNotifier, ChangedInstances, Due, LedgerHealth, Memory, Partition, RequestKey,
};
use crate::model::{InterfaceId, Position, Ticket, Uid};
use crate::rate_limit::Rates;

fn enter(who: u128) -> Command {
    Command::Acquire(Acquire {
        ticket: Ticket(Uuid::from_u128(who)),
        uid: Uid(Uuid::from_u128(who)),
        eni: "eni-1".parse().unwrap(),
        request: None,
        caller: None,
        trace: None,
        mode: Mode::Enqueue,
        confirmed_since: Timestamp::default(),
    })
}

/// Its deadline is compared with no other clock: the types do not allow it.
#[tokio::test(start_paused = true)]
async fn a_lease_ends_while_the_machine_is_suspended() {
    let bounds = Bounds::default();
    let lease = bounds.lease;
    let ledger = Ledger::new(Memory::new(Rates::default()), bounds, Arc::new(|_| {}));
    let enter = enter(1);
    let instance = "i-1".parse().unwrap();
    let answer = ledger.execute(&instance, &enter).await.unwrap();
    let Reply::Granted { grant, .. } = answer.reply else { panic!() };
    let left = || answer.deadline(grant.expires_at).since(BootInstant::now());
    assert_eq!(left(), lease);
    tokio::time::advance(Duration::from_secs(4)).await;
    suspend(Duration::from_secs(5));
    assert_eq!(left(), lease - Duration::from_secs(9));
    suspend(lease);
    assert_eq!(left(), Duration::ZERO);
    let again = ledger.execute(&instance, &enter).await.unwrap();
    let Reply::Granted { grant: next, .. } = again.reply else { panic!() };
    assert!(
        next.token.fencing_token > grant.token.fencing_token,
        "another grant: the ledger's clock went on too"
    );
}

/// A describe that shows these ENIs, sent later than one that shows fewer.
fn shows(enis: &[&str]) -> Command {
    let row = |eni: &&str| ObservedEni {
        eni: eni.parse().unwrap(),
        status: ObservedStatus::InUse,
        text: "InUse".to_owned(),
        primary: false,
    };
    let sent_at = Timestamp::from_micros(enis.len() as u64);
    Command::Observe { sent_at, rows: enis.iter().map(row).collect(), then: None }
}

/// Two servers, each with its own epoch. A failover replaces one by the other.
struct Failover {
    servers: [Memory; 2],
    changes: ChangeNotifier,
    primary: Mutex<usize>,
    loses: Mutex<Loses>,
}

/// What is lost on the way to and from the server.
#[derive(Clone, Copy, PartialEq)]
enum Loses {
    Nothing,
    Commits,
    RepliesToCommits,
    Reads,
}

impl Failover {
    fn new(servers: [Memory; 2]) -> Self {
        let (primary, loses) = (Mutex::new(0), Mutex::new(Loses::Nothing));
        Self { servers, changes: ChangeNotifier::default(), primary, loses }
    }

    fn lose(&self, what: Loses) {
        *self.loses.lock().unwrap() = what;
    }

    fn loses(&self, what: Loses) -> Result<(), LedgerError> {
        let loses = *self.loses.lock().unwrap() == what;
        if loses { Err(LedgerError::outcome_unknown("lost")) } else { Ok(()) }
    }

    fn primary(&self) -> (&Memory, Partition) {
        let primary = *self.primary.lock().unwrap();
        let epoch = format!("epoch {primary}").into();
        (&self.servers[primary], Partition { epoch, ..Partition::default() })
    }
}

impl RateLimitStore for Failover {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, Outage> {
        self.primary().0.take(request).await
    }
}

impl LedgerStore for Failover {
    async fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        self.loses(Loses::Reads)?;
        let (memory, partition) = self.primary();
        let stored = Snapshot { partition, ..memory.read(instance, request).await? };
        Ok(stored.or_known(known))
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        self.loses(Loses::Commits)?;
        let (memory, partition) = self.primary();
        let current = proposal.partition.epoch == partition.epoch;
        let version = if current { proposal.version } else { u64::MAX };
        let own = memory.partition(&proposal.instance);
        let proposal = Proposal { version, partition: own, ..proposal.clone() };
        let verdict = memory.commit(&proposal).await?;
        self.loses(Loses::RepliesToCommits)?;
        Ok(match verdict {
            Verdict::Conflict(found) => {
                Verdict::Conflict(Box::new(Snapshot { partition, ..*found }))
            }
            committed @ Verdict::Committed { .. } => committed,
        })
    }

    async fn confirm(&self, _: &InstanceId, _: &str) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn due(&self, _: usize) -> Result<Vec<Due>, LedgerError> {
        Ok(Vec::new())
    }

    async fn claim(&self, due: Vec<Due>, _: Duration) -> Result<Vec<Due>, LedgerError> {
        Ok(due)
    }

    async fn due_reconciliations(&self, _: usize) -> Result<Vec<InstanceId>, LedgerError> {
        Ok(Vec::new())
    }

    async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        _: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        Ok(due)
    }

    async fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> Result<ChangedInstances, LedgerError> {
        let (memory, state) = self.primary();
        let changed = memory.changed_since(partition, after, most).await?;
        Ok(ChangedInstances { partition: state, ..changed })
    }

    fn changes(&self) -> &ChangeNotifier {
        &self.changes
    }

    fn now(&self, instance: &InstanceId) -> Timestamp {
        self.primary().0.now(instance)
    }

    fn partition(&self, _: &InstanceId) -> Partition {
        self.primary().1
    }

    fn health(&self) -> LedgerHealth {
        self.primary().0.health()
    }
}

/// While the clock is behind the versions, they count. Two histories then have the same ones.
#[tokio::test(start_paused = true)]
async fn a_record_that_a_failover_lost_replaces_no_other_of_the_same_version() {
    let instance = "i-1".parse().unwrap();
    let first = Memory::new(Rates::default());
    let ledger = |memory: &Memory| Ledger::new(memory.clone(), Bounds::default(), Arc::new(|_| {}));
    ledger(&first).execute(&instance, &shows(&["eni-1"])).await.unwrap();
    let mut servers = [first.clone(), first.fork()];
    servers.iter_mut().for_each(|server| server.step_clock(-3_600_000_000));
    let second = ledger(&servers[1]);
    let ledger = Ledger::new(Failover::new(servers), Bounds::default(), Arc::new(|_| {}));
    ledger.execute(&instance, &shows(&["eni-1", "eni-2"])).await.unwrap();
    second.execute(&instance, &shows(&["eni-1", "eni-3"])).await.unwrap();

    *ledger.store().primary.lock().unwrap() = 1;
    let after = ledger.execute(&instance, &enter(1)).await.unwrap().record;
    let known: Vec<_> = after.attempts.keys().map(InterfaceId::as_str).collect();
    assert_eq!(known, ["eni-1", "eni-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_reply_was_lost_is_reported_when_a_read_shows_it() {
    let instance = "i-1".parse().unwrap();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let reported = reported.clone();
        move |event: LedgerEvent<'_>| {
            if let LedgerEvent::Changed(change) = event {
                reported.lock().unwrap().push(change.attempt.eni.to_string());
            }
        }
    };
    let servers = [Memory::new(Rates::default()), Memory::new(Rates::default())];
    let ledger = Ledger::new(Failover::new(servers), Bounds::default(), Arc::new(observer));
    let fails = async |loses, enis: &[&str]| {
        ledger.store().lose(loses);
        ledger.execute(&instance, &shows(enis)).await.unwrap_err();
        tokio::time::advance(Duration::from_millis(1)).await;
    };
    fails(Loses::Commits, &["eni-1"]).await;
    fails(Loses::RepliesToCommits, &["eni-1", "eni-2"]).await;
    ledger.store().lose(Loses::Reads);
    ledger.report_unreported().await;
    assert_eq!(*reported.lock().unwrap(), [""; 0], "it is not known");
    ledger.store().lose(Loses::Nothing);
    for _ in 0..2 {
        ledger.report_unreported().await;
        assert_eq!(*reported.lock().unwrap(), ["eni-1", "eni-2"], "each once");
    }
}
