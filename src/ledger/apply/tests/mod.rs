//! Scenario tests of the rules. `Desk` is an instance's record with a clock that the test sets.

mod capacity;
mod clocks;
mod locks;
mod open_sends;
mod properties;
mod reconcile;
mod send_results;
mod sizes;
mod statuses;
mod versions;

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::ledger::command::{
    Acquire, EniObservation, LeaseGrant, LockToken, Mode, ObservedEni, ObservedStatus, SendResult,
};
use crate::ledger::invariants;
use crate::model::{Attachment, Caller, RequestId, Ticket, Uid};

#[derive(Clone)]
pub(super) struct Desk {
    pub bounds: Bounds,
    pub instance: InstanceId,
    pub partition: Partition,
    pub record: Record,
    pub requests: std::collections::BTreeMap<RequestKey, RequestEntry>,
    pub now: Timestamp,
    pub last: Option<Applied>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            bounds: Bounds::default(),
            instance: "i-1".parse().unwrap(),
            partition: Partition {
                epoch: "a".into(),
                hold_down_until: Timestamp::default(),
                shared: None,
                freeze: None,
            },
            record: Record::default(),
            requests: std::collections::BTreeMap::new(),
            now: Timestamp::from_micros(1_000_000_000_000_000),
            last: None,
        }
    }

    pub(super) fn run(&mut self, command: &Command) -> Reply {
        let request = command.request().and_then(|key| self.requests.get(key));
        let context = Context {
            bounds: &self.bounds,
            instance: &self.instance,
            partition: &self.partition,
            request,
            now: self.now,
        };
        let step = apply(&self.record, command, context);
        assert_eq!(invariants::check(&self.record, &step.record, &context), [], "{command:?}");
        let text = serde_json::to_string(&step.record).unwrap();
        assert_eq!(
            serde_json::from_str::<Record>(&text).unwrap(),
            step.record,
            "survives being stored"
        );
        self.record = step.record.clone();
        for (key, entry) in step.effects.requests.iter().cloned() {
            match entry {
                Some(entry) => self.requests.insert(key, entry),
                None => self.requests.remove(&key),
            };
        }
        let reply = step.reply.clone();
        self.last = Some(step);
        reply
    }

    /// The partition has another epoch, and recovers until then.
    pub(super) fn begin_epoch(&mut self, hold_down_until: Timestamp) {
        self.partition =
            Partition { epoch: "b".into(), hold_down_until, shared: None, freeze: None };
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub(super) fn enter(&mut self, who: u128, eni: &str, reach: Mode) -> Reply {
        self.run(&enter(who, eni, reach, None))
    }

    /// Records an observation of these ENIs on the instance, all in use.
    pub(super) fn observe(&mut self, enis: &[&str]) -> Reply {
        let rows = enis.iter().map(|eni| sight(eni, ObservedStatus::InUse)).collect();
        self.run(&Command::Observe { sent_at: self.now, rows, then: None })
    }

    /// Takes the lock, describes the instance and reserves a slot.
    pub(super) fn reserve(&mut self, who: u128, eni: &str) -> (LeaseGrant, Attempt) {
        loop {
            match self.enter(who, eni, Mode::Reserve) {
                Reply::Reserved { grant, attempt, .. } => return (grant, Attempt::clone(&attempt)),
                Reply::Granted { stale: true, .. } => {
                    let known: Vec<String> =
                        self.attached().iter().map(ToString::to_string).collect();
                    self.observe(&known.iter().map(String::as_str).collect::<Vec<_>>());
                    self.pass(Duration::from_millis(1));
                }
                other => panic!("not reserved: {other:?}"),
            }
        }
    }

    fn attached(&self) -> Vec<InterfaceId> {
        let attached = |a: &&Attempt| a.state.kind() == State::Attached;
        self.record.attempts.values().filter(attached).map(|a| a.eni.clone()).collect()
    }

    pub(super) fn answer(
        &mut self,
        (grant, attempt): &(LeaseGrant, Attempt),
        result: SendResult,
    ) -> Reply {
        let (attempt, token) = (attempt.clone().into(), grant.token);
        self.run(&Command::RecordSendResult { attempt, token, result, release: true })
    }

    /// Reserves, sends, and records ENS's acceptance.
    pub(super) fn accept(&mut self, who: u128, eni: &str) -> (LeaseGrant, Attempt) {
        let sent = self.reserve(who, eni);
        self.answer(&sent, SendResult::Accepted { ens_request_id: "E-1".to_owned() });
        sent
    }

    /// Takes the right to another send, after a Describe call for the instance if there was none
    /// recently.
    pub(super) fn resend(&mut self, who: u128, uid: Uid, eni: &str) -> Reply {
        let (ticket, eni) = (ticket(who), id(eni));
        let resend = Command::Resend { ticket, uid, eni };
        match self.run(&resend) {
            Reply::Granted { stale: true, .. } => self.run(&Command::Observe {
                sent_at: self.now,
                rows: Vec::new(),
                then: Some(Box::new(resend)),
            }),
            reply => reply,
        }
    }

    /// Loses the response of a send, observes the ENI free after the lag, and sends again.
    pub(super) fn send_again(&mut self, sent: &(LeaseGrant, Attempt)) -> (LeaseGrant, Attempt) {
        self.answer(sent, SendResult::NoResponse);
        self.pass(11 * SECOND);
        let (uid, eni) = (sent.1.uid, sent.1.eni.as_str());
        self.settle(eni, free());
        match self.resend(1, uid, eni) {
            Reply::Reserved { grant, attempt, .. } => (grant, Attempt::clone(&attempt)),
            other => panic!("not sent again: {other:?}"),
        }
    }

    pub(super) fn settle(&mut self, eni: &str, observation: EniObservation) -> Attempt {
        self.settle_as_of(self.now, eni, observation)
    }

    pub(super) fn settle_as_of(
        &mut self,
        sent_at: Timestamp,
        eni: &str,
        observation: EniObservation,
    ) -> Attempt {
        self.run(&Command::RecordStatuses { sent_at, observations: vec![(id(eni), observation)] });
        self.attempt(eni)
    }

    pub(super) fn attempt(&self, eni: &str) -> Attempt {
        self.record.attempts.get(&id(eni)).cloned().expect("the attempt is there")
    }

    pub(super) fn state(&self, eni: &str) -> State {
        self.attempt(eni).state.kind()
    }

    pub(super) fn error(&self, eni: &str) -> crate::model::Reason {
        self.attempt(eni).state.error().expect("it failed").reason
    }
}

pub(super) fn enter(who: u128, eni: &str, reach: Mode, request: Option<RequestKey>) -> Command {
    Command::Acquire(Acquire {
        ticket: ticket(who),
        uid: Uid(Uuid::from_u128(who)),
        eni: id(eni),
        request,
        caller: None,
        trace: None,
        mode: reach,
        confirmed_since: Timestamp::default(),
    })
}

pub(super) fn ticket(who: u128) -> Ticket {
    Ticket(Uuid::from_u128(who))
}

pub(super) fn id(eni: &str) -> InterfaceId {
    eni.parse().unwrap()
}

pub(super) fn request(id: u128) -> RequestKey {
    RequestKey::new(Caller::anonymous(), RequestId(Uuid::from_u128(id)))
}

pub(super) fn sight(eni: &str, status: ObservedStatus) -> ObservedEni {
    ObservedEni { eni: id(eni), status, text: format!("{status:?}"), primary: false }
}

pub(super) fn here(status: ObservedStatus) -> EniObservation {
    EniObservation::Here { status, text: format!("{status:?}") }
}

pub(super) fn free() -> EniObservation {
    EniObservation::Available { text: "Available".to_owned() }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
