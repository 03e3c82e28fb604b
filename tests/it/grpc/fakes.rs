//! What stands behind the edge: a ledger that holds what a test puts in, and a cloud that refuses as it is told.

use std::collections::VecDeque;
use std::sync::Mutex;

use eni_gateway::ens::{DescribeError, EniStatus, Ens, InstanceRow, Outcome, Prepared, Row};
use eni_gateway::ledger::record::Attempt;
use eni_gateway::ledger::{Effects, LedgerStore, Memory, Proposal, Snapshot, Verdict};
use eni_gateway::model::{
    Attachment, Failure, InstanceId, InterfaceId, Revision, State, Timestamp, Transition, Uid, Unknown,
};
use eni_gateway::rate_limit::Permit;
use tokio::sync::Semaphore;

/// Puts an attachment into a ledger: seen just now.
pub(super) async fn put(store: &Memory, attachment: Attachment) {
    let instance = attachment.instance.clone();
    let Snapshot {
        mut record,
        version,
        partition,
        now,
        ..
    } = store.read(&instance, None).await.unwrap();
    record.revision = record.revision.max(attachment.revision);
    // As of a ledger that lost nothing.
    record.epoch.clone_from(&partition.epoch);
    let attempt = Attempt {
        described_at: Some(now),
        reserved: false,
        attachment: attachment.clone(),
        ..Attempt::new(&instance, &attachment.eni, attachment.uid, now)
    };
    // The cloud of these tests shows nothing: what was settled just now need not show yet.
    record.recently_confirmed.insert(attachment.eni.clone(), now);
    record.attempts.insert(attachment.eni, attempt);
    let proposal = Proposal {
        instance,
        version,
        partition,
        now,
        record,
        request: None,
        effects: Effects {
            notify: true,
            ..Effects::default()
        },
    };
    let verdict = store.commit(&proposal).await.unwrap();
    assert!(matches!(verdict, Verdict::Committed { .. }), "{verdict:?}");
}

/// Fails each attach before it is sent, in the order of the script; then answers nothing any more.
/// Shows no ENI on any instance, but those of [`FakeEns::show_attached`].
#[derive(Debug)]
pub(super) struct FakeEns {
    waiting: Semaphore,
    script: Mutex<VecDeque<Failure>>,
    unseen: Mutex<Option<DescribeError>>,
    attached: Mutex<Vec<Row>>,
}

impl Default for FakeEns {
    fn default() -> Self {
        Self {
            waiting: Semaphore::new(0),
            script: Mutex::default(),
            unseen: Mutex::default(),
            attached: Mutex::default(),
        }
    }
}

impl FakeEns {
    /// Waits until an attach has come for which the script has no answer.
    pub(super) async fn left_waiting(&self) {
        self.waiting.acquire().await.expect("never closed").forget();
    }

    /// Fails every describe from now on with this, or none.
    pub(super) fn show_nothing(&self, error: Option<DescribeError>) {
        *self.unseen.lock().expect("no test panics in here") = error;
    }

    /// Shows an ENI in use on an instance from now on.
    pub(super) fn show_attached(&self, instance: &str, eni: &str) {
        let row = Row {
            eni: eni.parse().expect("an id"),
            status: EniStatus::InUse,
            status_text: "InUse".to_owned(),
            instance: Some(instance.parse().expect("an id")),
            primary: false,
            network: String::new(),
        };
        self.attached.lock().expect("no test panics in here").push(row);
    }

    fn rows(&self) -> Result<Vec<Row>, DescribeError> {
        let unseen = self.unseen.lock().expect("no test panics in here");
        let attached = self.attached.lock().expect("no test panics in here");
        unseen.clone().map_or_else(|| Ok(attached.clone()), Err)
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
        self.rows()
    }

    async fn interfaces_of(&self, _: Permit, _: &InstanceId) -> Result<Vec<Row>, DescribeError> {
        self.rows()
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
        transitions: vec![Transition::new(state, time)],
        stuck: false,
        unknown: Unknown::default(),
    }
}
