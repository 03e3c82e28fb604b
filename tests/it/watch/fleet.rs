//! Streams of all instances.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::drain::Phase;
use eni_gateway::ledger::record::{Attached, Attempt, AttemptState, InFlight};
use eni_gateway::ledger::{Effects, LedgerStore as _, Proposal, Verdict};
use eni_gateway::model::{Code, Failure, InstanceId, Reason, State, Uid, random};
use eni_gateway::watch::fleet::{
    AttachmentFilter, FleetEvent, FleetFilter, FleetScope, ResumeToken, ScopeDigest,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::Instant;

use super::{Replica, eni, instance, pass};
use crate::support::ens::FakeEns;
use crate::support::ledger::Faulty;

pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<FleetEvent, Failure>> + Send>>;

pub(super) fn filter() -> FleetFilter {
    FleetFilter {
        prefix: String::new(),
        attachments: AttachmentFilter::default(),
        may_show: Arc::new(|_| true),
    }
}

pub(super) fn all(after: Option<ResumeToken>) -> FleetScope {
    let digest = ScopeDigest::default();
    FleetScope { filter: filter(), digest, after, follow: true, until: None }
}

pub(super) async fn open(replica: &Replica, scope: FleetScope) -> Messages {
    Box::pin(replica.hub.watch_fleet(scope).await.unwrap())
}

/// Writes an attachment in this state.
pub(super) async fn put(store: &Faulty, instance: &str, name: &str, state: AttemptState) {
    change(store, instance, |attempts, attempt| {
        attempts.insert(eni(name), Attempt { state: state.clone(), ..attempt(name) });
    })
    .await;
}

/// Removes every attachment.
async fn withdraw(store: &Faulty, instance: &str) {
    change(store, instance, |attempts, _| {
        for eni in attempts.keys().cloned().collect::<Vec<_>>() {
            attempts.remove(&eni);
        }
    })
    .await;
}

async fn change(
    store: &Faulty,
    name: &str,
    change: impl Fn(&mut eni_gateway::ledger::record::Attempts, &dyn Fn(&str) -> Attempt),
) {
    let instance = instance(name);
    loop {
        let found = store.read(&instance, None).await.unwrap();
        let mut record = (*found.record).clone();
        record.revision = record.revision.next(found.now);
        let (revision, now) = (record.revision, found.now);
        let attempt = |eni_name: &str| {
            let uid = Uid(random::uuid());
            Attempt { revision, ..Attempt::new(&instance, &eni(eni_name), uid, now) }
        };
        change(&mut record.attempts, &attempt);
        let proposal = Proposal {
            instance: instance.clone(),
            version: found.version,
            partition: found.partition,
            now: found.now,
            record: Arc::new(record),
            request: None,
            effects: Effects { notify: true, ..Effects::default() },
        };
        if let Verdict::Committed { .. } = store.commit(&proposal).await.unwrap() {
            return;
        }
    }
}

pub(super) fn attached() -> AttemptState {
    AttemptState::Attached(Attached::default())
}

pub(super) fn attaching() -> AttemptState {
    AttemptState::Attaching(InFlight::default())
}

/// What a watcher holds of the fleet.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) instances: BTreeMap<InstanceId, (usize, Vec<(String, State)>)>,
    pub(super) token: Option<ResumeToken>,
    pub(super) resets: usize,
    /// What the last heartbeat says.
    pub(super) incomplete: bool,
}

impl Seen {
    pub(super) fn take(&mut self, event: FleetEvent) -> bool {
        match event {
            FleetEvent::Instance { instance, partition, attachments } => {
                let of = attachments.iter().map(|it| (it.eni.to_string(), it.state)).collect();
                self.instances.insert(instance, (partition.index(), of));
                false
            }
            FleetEvent::Reset(partition) => {
                self.instances.retain(|_, (of, _)| *of != partition.index());
                self.resets += 1;
                false
            }
            FleetEvent::Heartbeat { token, incomplete, .. } => {
                self.token = Some(token);
                self.incomplete = incomplete;
                true
            }
        }
    }

    /// Takes messages up to a heartbeat.
    pub(super) async fn up_to_heartbeat(&mut self, messages: &mut Messages) {
        while !self.take(messages.next().await.unwrap().unwrap()) {}
    }

    /// The attachments, as `instance/eni STATE`.
    pub(super) fn shown(&self) -> Vec<String> {
        let instances = self.instances.iter();
        let each = instances.flat_map(|(instance, (_, attachments))| {
            attachments.iter().map(move |(eni, state)| format!("{instance}/{eni} {}", state.name()))
        });
        each.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_present_state_comes_first_and_then_each_change() {
    let replica = Replica::new();
    put(&replica.store, "i-1", "eni-1", attached()).await;
    put(&replica.store, "i-2", "eni-2", attaching()).await;
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!(seen.shown(), ["i-1/eni-1 ATTACHED", "i-2/eni-2 ATTACHING"]);
    assert!(!seen.incomplete && seen.resets == 0);

    let began = Instant::now();
    put(&replica.store, "i-2", "eni-2", attached()).await;
    put(&replica.store, "i-3", "eni-3", attaching()).await;
    let expected = ["i-1/eni-1 ATTACHED", "i-2/eni-2 ATTACHED", "i-3/eni-3 ATTACHING"];
    while seen.shown() != expected {
        assert!(!seen.take(messages.next().await.unwrap().unwrap()), "{:?}", seen.shown());
    }
    assert!(began.elapsed() <= Duration::from_millis(300), "{:?}", began.elapsed());

    withdraw(&replica.store, "i-3").await;
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!(seen.shown(), expected[..2], "the withdrawn one is gone");
    assert_eq!(replica.ens.calls().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_stream_has_heartbeats() {
    let replica = Replica::new();
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    let (began, mut changes) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(40) {
        put(&replica.store, "i-1", &format!("eni-{}", changes % 5), attached()).await;
        pass(Duration::from_millis(200)).await;
        changes += 1;
    }
    let mut beats = 0;
    while let Some(Some(message)) = messages.next().now_or_never() {
        beats += usize::from(seen.take(message.unwrap()));
    }
    seen.up_to_heartbeat(&mut messages).await;
    assert!(began.elapsed() <= Duration::from_secs(56), "{:?} {beats}", began.elapsed());
    assert_eq!(seen.shown().len(), 5, "coalesced: {:?}", seen.shown());
}

#[tokio::test(start_paused = true)]
async fn a_token_resumes_on_another_replica_without_repeats() {
    let one = Replica::new();
    let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
    for number in 0..20 {
        put(&one.store, &format!("i-{number}"), "eni-1", attached()).await;
    }
    let (mut messages, mut seen) = (open(&one, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!(seen.shown().len(), 20);
    put(&one.store, "i-7", "eni-2", attaching()).await;
    drop(messages);

    let text = seen.token.clone().unwrap().to_string();
    let mut messages = open(&other, all(Some(text.parse().unwrap()))).await;
    let first = messages.next().await.unwrap().unwrap();
    assert!(matches!(&first, FleetEvent::Instance { instance, .. } if instance.as_str() == "i-7"));
    seen.take(first);
    assert!(matches!(messages.next().await.unwrap().unwrap(), FleetEvent::Heartbeat { .. }));
    assert_eq!(seen.shown().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_lost_writes_is_sent_again() {
    let replica = Replica::new();
    for name in ["i-1", "i-2", "i-3"] {
        put(&replica.store, name, "eni-1", attached()).await;
    }
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    let token = seen.token.clone();
    pass(Duration::from_secs(1)).await;
    replica.store.wipe();
    put(&replica.store, "i-2", "eni-9", attached()).await;
    while seen.shown() != ["i-2/eni-9 ATTACHED"] {
        seen.take(messages.next().await.unwrap().unwrap());
    }
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!(seen.resets, 64);
    // So does a stream that resumes from before the loss.
    let mut messages = open(&replica, all(token)).await;
    let mut late = Seen::default();
    late.up_to_heartbeat(&mut messages).await;
    assert_eq!((late.resets, late.shown()), (64, seen.shown()));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_scope_is_void() {
    let replica = Replica::new();
    put(&replica.store, "i-1", "eni-1", attached()).await;
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    let digest = ScopeDigest::of([b"other".as_slice()]);
    let mut messages = open(&replica, FleetScope { digest, ..all(seen.token.clone()) }).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!((seen.resets, seen.shown()), (64, vec!["i-1/eni-1 ATTACHED".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_scope_is_sent() {
    let replica = Replica::new();
    for name in ["a-1", "a-2", "a-3", "b-1"] {
        put(&replica.store, name, "eni-1", attached()).await;
        put(&replica.store, name, "eni-2", attaching()).await;
    }
    let may_show = Arc::new(|instance: &InstanceId| instance.as_str() != "a-2");
    let attachments = AttachmentFilter { states: vec![State::Attaching], stuck: false };
    let filter = FleetFilter { prefix: "a-".to_owned(), attachments, may_show };
    let scope = FleetScope { filter, ..all(None) };
    let (mut messages, mut seen) = (open(&replica, scope).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!(seen.shown(), ["a-1/eni-2 ATTACHING", "a-3/eni-2 ATTACHING"]);
    put(&replica.store, "a-1", "eni-2", attached()).await;
    put(&replica.store, "a-2", "eni-3", attaching()).await;
    put(&replica.store, "b-1", "eni-3", attaching()).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!(seen.shown(), ["a-3/eni-2 ATTACHING"], "it left the scope");
}

#[tokio::test(start_paused = true)]
async fn without_follow_it_ends_when_nothing_in_scope_is_in_flight() {
    let replica = Replica::new();
    put(&replica.store, "i-1", "eni-1", attaching()).await;
    put(&replica.store, "i-2", "eni-1", attached()).await;
    let scope = FleetScope { follow: false, ..all(None) };
    let (mut messages, mut seen) = (open(&replica, scope.clone()).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    assert!(messages.next().now_or_never().is_none(), "i-1 is in flight");
    put(&replica.store, "i-1", "eni-1", attached()).await;
    seen.take(messages.next().await.unwrap().unwrap());
    assert!(messages.next().await.is_none());
    assert_eq!(seen.shown(), ["i-1/eni-1 ATTACHED", "i-2/eni-1 ATTACHED"]);

    let mut messages = open(&replica, scope).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert!(messages.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_ledger_refuses_a_stream_and_interrupts_none() {
    let replica = Replica::new();
    put(&replica.store, "i-1", "eni-1", attached()).await;
    replica.store.down(true);
    let refused = replica.hub.watch_fleet(all(None)).await.map(drop).unwrap_err();
    assert_eq!(refused.reason, Reason::CoordinationUnavailable);
    replica.store.down(false);
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    assert!(!seen.incomplete);
    replica.store.down(true);
    pass(Duration::from_secs(6)).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert!(seen.incomplete, "it cannot be read");
    replica.store.down(false);
    put(&replica.store, "i-1", "eni-1", attaching()).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!((seen.incomplete, seen.shown()), (false, vec!["i-1/eni-1 ATTACHING".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn streams_end_for_a_drain_a_deadline_and_their_age() {
    let replica = Replica::new();
    let until = Some(Instant::now() + Duration::from_secs(5));
    let mut brief = open(&replica, FleetScope { until, ..all(None) }).await;
    let mut long = open(&replica, all(None)).await;
    let end = async |messages: &mut Messages| loop {
        match messages.next().await {
            Some(Ok(_)) => {}
            Some(Err(failure)) => return (failure.reason, failure.code, messages.next().await),
            None => panic!("it ended well"),
        }
    };
    let (reason, code, rest) = end(&mut brief).await;
    assert_eq!((reason, code), (Reason::StreamTooOld, Code::DeadlineExceeded));
    assert!(rest.is_none());
    assert_eq!(end(&mut long).await.0, Reason::StreamTooOld);
    let mut last = open(&replica, all(None)).await;
    replica.drain.enter(Phase::Draining);
    assert_eq!(end(&mut last).await.0, Reason::Draining);
    let refused = replica.hub.watch_fleet(all(None)).await.map(drop).unwrap_err();
    assert_eq!(refused.reason, Reason::Draining);
}

#[tokio::test(start_paused = true)]
async fn any_number_of_streams_share_one_reader_and_never_ask_ens() {
    let replica = Replica::of(Faulty::new(), FakeEns::default());
    for number in 0..50 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attached()).await;
    }
    let mut streams = Vec::new();
    for _ in 0..30 {
        let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
        seen.up_to_heartbeat(&mut messages).await;
        assert_eq!(seen.shown().len(), 50);
        streams.push((messages, seen));
    }
    let (reads, calls) = (replica.store.reads(), replica.store.calls());
    put(&replica.store, "i-7", "eni-2", attached()).await;
    let own = (replica.store.reads() - reads, replica.store.calls() - calls);
    for (messages, seen) in &mut streams {
        while seen.shown().len() < 51 {
            seen.take(messages.next().await.unwrap().unwrap());
        }
    }
    let (reads, calls) =
        (replica.store.reads() - reads - own.0, replica.store.calls() - calls - own.1);
    assert!(reads <= 1 && calls <= 70, "{reads} reads and {calls} calls for thirty streams");
    assert_eq!(replica.ens.calls().len(), 0);
}
