//! The two seams, scripted: a ledger that shows what a test put in, and a cloud that refuses as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use eni_gateway::ens::{DescribeError, Ens, InstanceRow, Outcome, Permit, Prepared, Row};
use eni_gateway::ledger::record::Attempt;
use eni_gateway::ledger::{
    Due, Health, Ledger, Partition, Proposal, Record, RequestKey, Snapshot, TokenOrder, TokenReply, Unavailable,
    Verdict,
};
use eni_gateway::model::{Attachment, Failure, InstanceId, InterfaceId, Revision, State, Timestamp, Transition, Uid};
use tokio::sync::Semaphore;

/// Shows what was put in; changes nothing.
#[derive(Debug, Default)]
pub(super) struct FakeLedger {
    records: Mutex<BTreeMap<InstanceId, Record>>,
}

impl FakeLedger {
    /// Shows an attachment from now on.
    pub(super) fn put(&self, attachment: Attachment) {
        let mut records = self.records.lock().expect("no test panics in here");
        let record = records.entry(attachment.instance.clone()).or_default();
        record.revision = record.revision.max(attachment.revision);
        let attempt = Attempt {
            reserved: false,
            ours: true,
            owned_until: Timestamp::default(),
            sends: Vec::new(),
            described_at: None,
            attaching_seen_at: None,
            here_before: None,
            refusal: None,
            looks: 0,
            due_at: None,
            trace: None,
            request: None,
            former: None,
            attachment,
        };
        record.attempts.insert(attempt.attachment.eni.clone(), attempt);
    }

    fn snapshot(&self, instance: &InstanceId) -> Snapshot {
        let record = self
            .records
            .lock()
            .expect("no test panics in here")
            .get(instance)
            .cloned();
        Snapshot {
            version: u64::from(record.is_some()),
            record: record.unwrap_or_default(),
            request: None,
            partition: Partition::default(),
            now: self.now(),
        }
    }
}

impl Ledger for FakeLedger {
    async fn read(&self, instance: &InstanceId, _: Option<&RequestKey>) -> Result<Snapshot, Unavailable> {
        Ok(self.snapshot(instance))
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, Unavailable> {
        Ok(Verdict::Conflict(Box::new(self.snapshot(&proposal.instance))))
    }

    async fn claim(&self, _: usize, _: Duration) -> Result<Vec<Due>, Unavailable> {
        Ok(Vec::new())
    }

    async fn take(&self, _: TokenOrder) -> Result<TokenReply, Unavailable> {
        Ok(TokenReply::Granted)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000)
    }

    fn health(&self) -> Health {
        Health {
            up: true,
            reached: true,
            ..Health::default()
        }
    }
}

/// Fails each attach before it is sent, in the order of the script; then answers nothing any more.
#[derive(Debug)]
pub(super) struct FakeEns {
    waiting: Semaphore,
    script: Mutex<VecDeque<Failure>>,
}

impl Default for FakeEns {
    fn default() -> Self {
        Self {
            waiting: Semaphore::new(0),
            script: Mutex::default(),
        }
    }
}

impl FakeEns {
    /// Waits until an attach has come for which the script has no answer.
    pub(super) async fn left_waiting(&self) {
        self.waiting.acquire().await.expect("never closed").forget();
    }

    /// Fails the next attach with this.
    pub(super) fn refuse(&self, failure: Failure) {
        self.script.lock().expect("no test panics in here").push_back(failure);
    }
}

impl Ens for FakeEns {
    async fn prepare(&self) -> Result<Prepared, Failure> {
        let next = self.script.lock().expect("no test panics in here").pop_front();
        match next {
            Some(failure) => Err(failure),
            None => {
                self.waiting.add_permits(1);
                std::future::pending().await
            }
        }
    }

    async fn attach(&self, _: &Prepared, _: Permit, _: &InstanceId, _: &InterfaceId) -> Outcome {
        Outcome::NotSent {
            why: "nothing is sent in these tests".to_owned(),
        }
    }

    async fn interfaces(&self, _: Permit, _: &[InterfaceId]) -> Result<Vec<Row>, DescribeError> {
        Ok(Vec::new())
    }

    async fn interfaces_of(&self, _: Permit, _: &InstanceId) -> Result<Vec<Row>, DescribeError> {
        Ok(Vec::new())
    }

    async fn instance(&self, _: Permit, _: &InstanceId) -> Result<Option<InstanceRow>, DescribeError> {
        Ok(None)
    }
}

/// An attachment in a state.
pub(super) fn attachment(instance: &str, eni: &str, state: State, revision: u64) -> Attachment {
    let time = Timestamp::from_micros(1_800_000_000_000_000);
    Attachment {
        instance: instance.parse().expect("an id"),
        eni: eni.parse().expect("an id"),
        uid: Uid(uuid::Uuid::from_u128(u128::from(revision))),
        state,
        ens_status: "InUse".to_owned(),
        observed_at: Some(time),
        revision: Revision(revision),
        created_at: time,
        updated_at: time,
        ens_request_id: "ENS-REQUEST-ID".to_owned(),
        error: None,
        transitions: vec![Transition { state, time }],
        stuck: false,
    }
}
