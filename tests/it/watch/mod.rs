//! Reads and watches over the memory ledger, in virtual time.

mod capacity;
mod crowd;
mod discover;
mod ends;
mod faults;
mod fleet;
mod fleet_faults;
mod fleet_pages;
mod fleet_slow;
mod follow;
mod random;
mod reads;
mod replicas;
mod stream;
mod times;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::admission::Peer;
use eni_gateway::backends::Backends;
use eni_gateway::drain;
use eni_gateway::ledger::command::{
    Acquire, Command, EniObservation, LockToken, Mode, ObservedStatus, Reply, SendResult,
};
use eni_gateway::ledger::execute::LedgerEvent;
use eni_gateway::ledger::record::Attempt;
use eni_gateway::ledger::{Bounds, Ledger, LedgerStore};
use eni_gateway::model::{
    Attachment, Failure, InstanceId, InterfaceId, Revision, State, Ticket, Uid,
};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimiter};
use eni_gateway::telemetry::Metrics;
use eni_gateway::watch::{Coverage, Event, Hub, ReadCall, Scope};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::ens::{Call, FakeEns};
use crate::support::ledger::Faulty;
use crate::support::parts::Parts;

type Messages = Pin<Box<dyn Stream<Item = Result<Event, Failure>> + Send>>;

fn instance(name: &str) -> InstanceId {
    name.parse().unwrap()
}

fn eni(name: &str) -> InterfaceId {
    name.parse().unwrap()
}

/// One ENI of `i-1`, to be sent once as a whole.
fn scope(name: &str) -> Scope {
    Scope { eni: Some(eni(name)), ..whole() }
}

/// All of `i-1`, to be sent once.
fn whole() -> Scope {
    Scope {
        instance: instance("i-1"),
        eni: None,
        after: Revision(0),
        follow: false,
        until: None,
        peer: Peer::LOCAL,
    }
}

/// A read with this deadline.
fn by(deadline: Instant) -> ReadCall {
    ReadCall { peer: Peer::LOCAL, deadline }
}

fn following(scope: Scope) -> Scope {
    Scope { follow: true, ..scope }
}

/// So long that nothing else is left to happen first.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn unlimited() -> RateLimiter {
    RateLimiter::new(Arc::new(|_: RateLimitRequest| {
        async { Ok(RateLimitDecision::Granted) }.boxed()
    }))
}

/// One replica.
struct Replica {
    store: Faulty,
    ens: FakeEns,
    ledger: Arc<Ledger<Faulty>>,
    hub: Arc<Hub<Faulty, FakeEns>>,
    metrics: Metrics,
    tasks: TaskTracker,
    drain: drain::Signal,
}

impl Replica {
    fn new() -> Self {
        Self::of(Faulty::new(), FakeEns::default())
    }

    fn of(store: Faulty, ens: FakeEns) -> Self {
        Self::within(unlimited(), store, ens)
    }

    /// One whose calls of ENS are bounded.
    fn within(limiter: RateLimiter, store: Faulty, ens: FakeEns) -> Self {
        Self::sharing(limiter, f64::MAX, store, ens)
    }

    /// One that leaves so many describes a second to the reads of a peer.
    fn sharing(limiter: RateLimiter, describes: f64, store: Faulty, ens: FakeEns) -> Self {
        let bounds = Bounds { limit: 200, ..Bounds::default() };
        let observer = Arc::new(|event: LedgerEvent<'_>| {
            assert!(matches!(event, LedgerEvent::Changed(_)), "{event:?}")
        });
        let ledger = Arc::new(Ledger::new(store.clone(), bounds, observer));
        let metrics = Metrics::new("0", "test").unwrap();
        let backends = Backends {
            ledger: ledger.clone(),
            ens: Arc::new(ens.clone()),
            limiter,
            metrics: metrics.clone(),
        };
        let Parts { hub, tasks, drain, .. } = Parts::sharing(backends, describes);
        Self { store, ens, ledger, hub, metrics, tasks, drain }
    }

    async fn watch(&self, scope: Scope) -> Messages {
        Box::pin(self.hub.watch(scope).await.unwrap())
    }

    async fn refused(&self, scope: Scope) -> Failure {
        match self.hub.watch(scope).await {
            Ok(_) => panic!("there is something to watch"),
            Err(failure) => failure,
        }
    }

    async fn execute(&self, command: Command) -> Reply {
        // The next one comes later, by the ledger's clock too, and after the readers have read.
        let reply = self.ledger.execute(&instance("i-1"), &command).await.unwrap().reply;
        pass(Duration::from_millis(1)).await;
        reply
    }

    /// Has the ledger show the whole instance as known, so that no call describes it.
    async fn observe(&self) {
        let sent_at = self.store.now(&instance("i-1"));
        self.execute(Command::Observe { sent_at, rows: Vec::new(), then: None }).await;
    }

    /// An attempt with its send written.
    async fn begin(&self, name: &str) -> Begun {
        let enter = Command::Acquire(Acquire {
            ticket: Ticket(eni_gateway::model::random::uuid()),
            uid: Uid(eni_gateway::model::random::uuid()),
            eni: eni(name),
            request: None,
            caller: None,
            trace: None,
            mode: Mode::Reserve,
            confirmed_since: eni_gateway::model::Timestamp::default(),
        });
        let mut command = enter.clone();
        loop {
            match self.execute(command).await {
                Reply::Reserved { grant, attempt, .. } => {
                    return Begun { attempt, token: grant.token };
                }
                Reply::Granted { stale: true, .. } => {
                    let sent_at = self.store.now(&instance("i-1"));
                    let rows = self.occupied().await;
                    command =
                        Command::Observe { sent_at, rows, then: Some(Box::new(enter.clone())) };
                }
                other => panic!("{name} cannot begin: {other:?}"),
            }
        }
    }

    /// What a describe of the instance would show of what the ledger has there.
    async fn occupied(&self) -> Vec<eni_gateway::ledger::command::ObservedEni> {
        let record = self.ledger.read(&instance("i-1")).await.unwrap().record;
        let here =
            record.attempts.values().filter(|attempt| attempt.state.kind() == State::Attached);
        here.map(|attempt| eni_gateway::ledger::command::ObservedEni {
            eni: attempt.eni.clone(),
            status: ObservedStatus::InUse,
            text: attempt.ens_status.clone(),
            primary: false,
        })
        .collect()
    }

    async fn answer(&self, begun: &Begun, answer: SendResult) {
        let Begun { attempt, token } = begun;
        self.execute(Command::RecordSendResult {
            attempt: attempt.clone(),
            token: *token,
            result: answer,
            release: true,
        })
        .await;
    }

    async fn accept(&self, begun: &Begun) {
        self.answer(begun, SendResult::Accepted { ens_request_id: "R-1".to_owned() }).await;
    }

    async fn settle(&self, name: &str, observation: EniObservation) {
        pass(Duration::from_millis(1)).await;
        let sent_at = self.store.now(&instance("i-1"));
        self.execute(Command::RecordStatuses {
            sent_at,
            observations: vec![(eni(name), observation)],
        })
        .await;
    }

    /// Begun, accepted, and shown InUse by ENS.
    async fn attach(&self, name: &str) {
        let begun = self.begin(name).await;
        self.accept(&begun).await;
        self.ens.show(&instance("i-1"), &eni(name), "InUse");
        self.settle(name, here(ObservedStatus::InUse, "InUse")).await;
    }

    /// Free again, and long enough after it was attached for ENS to be believed.
    async fn detach(&self, name: &str) {
        pass(Duration::from_secs(11)).await;
        self.ens.show(&instance("i-1"), &eni(name), "Available");
        self.settle(name, EniObservation::Available { text: "Available".to_owned() }).await;
    }

    async fn revision(&self) -> Revision {
        self.ledger.read(&instance("i-1")).await.unwrap().record.revision
    }

    /// How often ENS was asked for everything on an instance.
    fn describes(&self) -> usize {
        self.ens.calls().iter().filter(|call| matches!(call, Call::InterfacesOf(_))).count()
    }
}

/// An attempt under way.
struct Begun {
    attempt: Arc<Attempt>,
    token: LockToken,
}

fn here(status: ObservedStatus, text: &str) -> EniObservation {
    EniObservation::Here { status, text: text.to_owned() }
}

/// The next attachment; heartbeats before it are passed over.
async fn attachment(messages: &mut Messages) -> Arc<Attachment> {
    loop {
        match messages.next().await {
            Some(Ok(Event::Attachment(attachment))) => return attachment,
            Some(Ok(Event::Heartbeat { .. })) => {}
            other => panic!("no attachment came, but {other:?}"),
        }
    }
}

/// The next message, which must be an attachment.
async fn at_once(messages: &mut Messages) -> Arc<Attachment> {
    match messages.next().await {
        Some(Ok(Event::Attachment(attachment))) => attachment,
        other => panic!("no attachment came, but {other:?}"),
    }
}

/// The revision of the next message, which must be a heartbeat.
async fn heartbeat(messages: &mut Messages) -> Revision {
    beat(messages).await.0
}

/// What the next message says, which must be a heartbeat.
async fn beat(messages: &mut Messages) -> (Revision, Coverage) {
    match messages.next().await {
        Some(Ok(Event::Heartbeat { revision, coverage, .. })) => (revision, coverage),
        other => panic!("no heartbeat came, but {other:?}"),
    }
}

/// The end of a stream: every message before it, and why it ended if not well.
async fn end(messages: &mut Messages) -> (Vec<Arc<Attachment>>, Option<Failure>) {
    let mut seen = Vec::new();
    loop {
        match messages.next().await {
            Some(Ok(Event::Attachment(attachment))) => seen.push(attachment),
            Some(Ok(Event::Heartbeat { .. })) => {}
            Some(Err(failure)) => {
                assert!(messages.next().await.is_none(), "a failure is the last message");
                return (seen, Some(failure));
            }
            None => return (seen, None),
        }
    }
}

/// What has come by now, without waiting.
fn pending(messages: &mut Messages) -> Option<Option<Result<Event, Failure>>> {
    messages.next().now_or_never()
}

fn states(attachment: &Attachment) -> Vec<State> {
    attachment.transitions.iter().map(|transition| transition.state).collect()
}
