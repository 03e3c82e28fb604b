//! In any order of events, a watcher's revisions rise, and it receives the last one.

use std::collections::BTreeMap;
use std::time::Duration;

use eni_gateway::ledger::LedgerStore;
use eni_gateway::ledger::command::{EniObservation, ObservedStatus, SendResult};
use eni_gateway::model::{InterfaceId, Reason, Revision};
use eni_gateway::watch::{Event, Scope};
use futures_util::StreamExt;
use proptest::prelude::*;

use super::{Begun, Messages, Replica, eni, here, instance, pass, pending, whole};

const ENIS: [&str; 3] = ["eni-1", "eni-2", "eni-3"];

#[derive(Debug, Clone)]
enum Op {
    Begin(usize),
    Accept(usize),
    Withdraw(usize),
    Unanswered(usize),
    Settle(usize, EniObservation),
    Open { eni: Option<usize>, follow: bool, replica: usize },
    Read { watcher: usize, messages: usize },
    Resume { watcher: usize, replica: usize },
    Pass(u64),
    Down { replica: usize, down: bool },
}

fn observation() -> impl Strategy<Value = EniObservation> {
    prop_oneof![
        Just(here(ObservedStatus::Attaching, "Attaching")),
        Just(here(ObservedStatus::InUse, "InUse")),
        Just(here(ObservedStatus::InUse, "InUse")),
        Just(here(ObservedStatus::Detaching, "Detaching")),
        Just(EniObservation::Available { text: "Available".to_owned() }),
        Just(EniObservation::Missing),
        Just(EniObservation::Unclear { text: "Odd".to_owned() }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..ENIS.len();
    prop_oneof![
        2 => which.clone().prop_map(Op::Begin),
        2 => which.clone().prop_map(Op::Accept),
        1 => which.clone().prop_map(Op::Withdraw),
        1 => which.clone().prop_map(Op::Unanswered),
        4 => (which.clone(), observation()).prop_map(|(eni, observation)| Op::Settle(eni, observation)),
        2 => (proptest::option::of(which), any::<bool>(), 0..2usize)
            .prop_map(|(eni, follow, replica)| Op::Open { eni, follow, replica }),
        4 => (0..8usize, 1..4usize).prop_map(|(watcher, messages)| Op::Read { watcher, messages }),
        1 => (0..8usize, 0..2usize).prop_map(|(watcher, replica)| Op::Resume { watcher, replica }),
        2 => (1..20_000u64).prop_map(Op::Pass),
        1 => (0..2usize, proptest::bool::weighted(0.3)).prop_map(|(replica, down)| Op::Down { replica, down }),
    ]
}

/// A watcher that comes back wherever it can, and remembers what it saw.
struct Watcher {
    scope: Scope,
    messages: Option<Messages>,
    /// The last revision within this stream.
    last: Revision,
    seen: BTreeMap<InterfaceId, Revision>,
}

impl Watcher {
    async fn open(&mut self, replica: &Replica) {
        self.messages = None;
        self.last = self.scope.after;
        if let Ok(messages) = replica.hub.watch(self.scope.clone()).await {
            self.messages = Some(Box::pin(messages));
        }
    }

    fn take(&mut self, message: Option<Result<Event, eni_gateway::model::Failure>>) {
        match message {
            Some(Ok(Event::Attachment(shown))) => {
                assert!(
                    shown.revision > self.last,
                    "{:?} came after {:?}",
                    shown.revision,
                    self.last
                );
                assert!(self.scope.eni.as_ref().is_none_or(|eni| *eni == shown.eni));
                self.last = shown.revision;
                self.scope.after = shown.revision;
                self.seen.insert(shown.eni.clone(), shown.revision);
            }
            Some(Ok(Event::Heartbeat { revision, .. })) => {
                assert!(revision >= self.last);
                self.last = revision;
                self.scope.after = revision;
            }
            Some(Err(failure)) => {
                assert_eq!(
                    failure.reason,
                    Reason::AttachmentNotFound,
                    "nothing was lost: {failure}"
                );
                self.messages = None;
            }
            None => self.messages = None,
        }
    }

    /// Reads until everything up to `revision` was sent.
    async fn read_up_to(&mut self, revision: Revision) {
        while self.scope.after < revision {
            let message = self.messages.as_mut().unwrap().next().await;
            self.take(message);
        }
    }
}

struct Run {
    replicas: [Replica; 2],
    begun: BTreeMap<usize, Begun>,
    watchers: Vec<Watcher>,
}

impl Run {
    fn new() -> Self {
        let one = Replica::new();
        let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
        Self { replicas: [one, other], begun: BTreeMap::new(), watchers: Vec::new() }
    }

    /// The replica that acts: one whose ledger is there.
    fn actor(&self) -> &Replica {
        &self.replicas[0]
    }

    async fn answer(&mut self, which: usize, answer: SendResult) {
        if let Some(begun) = self.begun.remove(&which) {
            self.actor().answer(&begun, answer).await;
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Begin(which) => {
                let record = self.actor().ledger.read(&instance("i-1")).await.unwrap().record;
                let there = record.attempts.get(&eni(ENIS[which]));
                let ended = there.is_none_or(|attempt| {
                    let state = attempt.state.kind();
                    state.is_terminal() && state != eni_gateway::model::State::Attached
                });
                if ended
                    && record.lock.as_ref().is_none_or(|lock| {
                        lock.expires_at < self.actor().store.now(&instance("i-1"))
                    })
                {
                    let begun = self.actor().begin(ENIS[which]).await;
                    self.begun.insert(which, begun);
                }
            }
            Op::Accept(which) => {
                self.answer(which, SendResult::Accepted { ens_request_id: "R".to_owned() }).await;
            }
            Op::Withdraw(which) => self.answer(which, SendResult::NoEffect).await,
            Op::Unanswered(which) => self.answer(which, SendResult::NoResponse).await,
            Op::Settle(which, observation) => self.actor().settle(ENIS[which], observation).await,
            Op::Open { eni: which, follow, replica } => {
                let eni = which.map(|which| eni(ENIS[which]));
                let scope = Scope { eni, follow, ..whole() };
                let mut watcher =
                    Watcher { scope, messages: None, last: Revision(0), seen: BTreeMap::new() };
                watcher.open(&self.replicas[replica]).await;
                self.watchers.push(watcher);
            }
            Op::Read { watcher, messages } => {
                for _ in 0..messages {
                    let Some(watcher) = self.watchers.get_mut(watcher) else {
                        return;
                    };
                    let Some(Some(message)) = watcher.messages.as_mut().map(pending) else {
                        return;
                    };
                    watcher.take(message);
                }
            }
            Op::Resume { watcher, replica } => {
                if let Some(watcher) = self.watchers.get_mut(watcher) {
                    watcher.open(&self.replicas[replica]).await;
                }
            }
            Op::Pass(millis) => pass(Duration::from_millis(millis)).await,
            // The one that acts is always there.
            Op::Down { replica, down } => self.replicas[replica].store.down(down && replica == 1),
        }
    }

    /// At the end everybody comes to see the last of everything.
    async fn settle(&mut self) {
        self.replicas[1].store.down(false);
        for (place, watcher) in self.watchers.iter_mut().enumerate() {
            if watcher.messages.is_none() || !watcher.scope.follow {
                watcher.scope.follow = true;
                watcher.open(&self.replicas[place % 2]).await;
            }
        }
        // What follows is described meanwhile, and that may change the record.
        let record = loop {
            let record = self.actor().ledger.read(&instance("i-1")).await.unwrap().record;
            for watcher in &mut self.watchers {
                watcher.read_up_to(record.revision).await;
            }
            let after = self.actor().ledger.read(&instance("i-1")).await.unwrap().record;
            if after.revision == record.revision {
                break record;
            }
        };
        for watcher in &self.watchers {
            for (eni, attempt) in record.attempts.iter() {
                if watcher.scope.eni.as_ref().is_none_or(|scope| scope == eni) {
                    let last = Some(&attempt.revision);
                    assert_eq!(watcher.seen.get(eni), last, "the last of {eni}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_watcher_sees_rising_revisions_and_the_last_one(ops in proptest::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            run.actor().observe().await;
            for op in ops {
                run.step(op).await;
            }
            run.settle().await;
        });
    }
}
