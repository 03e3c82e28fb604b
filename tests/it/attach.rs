//! Attempts and their owners, with ENS and the ledger under the test's control, in virtual time.

mod batch;
mod reasons;
mod replicas;

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::admission::Peer;
use eni_gateway::attach::{Attacher, Request};
use eni_gateway::backends::Backends;
use eni_gateway::drain;
use eni_gateway::ledger::command::{Command, EniObservation, ObservedEni, ObservedStatus};
use eni_gateway::ledger::execute::LedgerEvent;
use eni_gateway::ledger::{Bounds, Ledger, LedgerStore, Record};
use eni_gateway::model::{Caller, InstanceId, InterfaceId, Reason, State};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimiter};
use eni_gateway::telemetry::Metrics;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::support::ens::{Call, FakeEns};
use crate::support::ledger::Faulty;

struct Owner {
    ledger: Arc<Ledger<Faulty>>,
    attacher: Arc<Attacher<Faulty, FakeEns>>,
    instance: InstanceId,
    eni: InterfaceId,
}

impl Owner {
    fn new(ens: &FakeEns) -> Self {
        let observer = Arc::new(|event: LedgerEvent<'_>| {
            assert!(matches!(event, LedgerEvent::Changed(_)), "{event:?}")
        });
        let ledger = Arc::new(Ledger::new(Faulty::new(), Bounds::default(), observer));
        let backends = Backends {
            ledger: ledger.clone(),
            ens: Arc::new(ens.clone()),
            limiter: RateLimiter::new(Arc::new(|_: RateLimitRequest| {
                async { Ok(RateLimitDecision::Granted) }.boxed()
            })),
            metrics: Metrics::new("0", "test").unwrap(),
        };
        let (timeout, tasks) = (Duration::from_secs(8), TaskTracker::new());
        let attacher = Attacher::new(backends, timeout, tasks, drain::Watch::default());
        Self {
            ledger,
            attacher: Arc::new(attacher),
            instance: "i-1".parse().unwrap(),
            eni: "eni-1".parse().unwrap(),
        }
    }

    fn request(&self) -> Request {
        Request {
            instance: self.instance.clone(),
            eni: self.eni.clone(),
            request_id: None,
            caller: Caller::anonymous(),
            peer: Peer::LOCAL,
            deadline: Instant::now() + Duration::from_secs(300),
        }
    }

    async fn commit(&self, command: Command) -> Arc<Record> {
        self.ledger.execute(&self.instance, &command).await.unwrap().record
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_ended_before_it_was_taken_back_stays_ended_and_is_reported() {
    let ens = FakeEns::default();
    let owner = Owner::new(&ens);
    let now = || owner.ledger.store().now(&owner.instance);
    // Another ENI is on the instance, so that the ledger knows it and the send comes first.
    let other = ObservedEni {
        eni: "eni-9".parse().unwrap(),
        status: ObservedStatus::InUse,
        text: "InUse".to_owned(),
        primary: false,
    };
    owner.commit(Command::Observe { sent_at: now(), rows: vec![other], then: None }).await;
    // The owner waits in its send, which will be reported as never sent.
    ens.take(Duration::from_secs(60));
    let (outcome, ended) = tokio::join!(owner.attacher.attach(owner.request()), async {
        sleep(Duration::from_secs(45)).await;
        let observation = EniObservation::Elsewhere {
            instance: "i-2".parse().unwrap(),
            text: "InUse".to_owned(),
        };
        let settle = Command::RecordStatuses {
            sent_at: now(),
            observations: vec![(owner.eni.clone(), observation)],
        };
        owner.commit(settle).await.attempts[&owner.eni].attachment()
    });
    assert_eq!(ended.state, State::Failed);
    assert_eq!(outcome.unwrap_err().reason, Reason::EniNotAvailable);
    let record = owner.commit(Command::Read).await;
    let attachment = record.attempts[&owner.eni].attachment();
    assert_eq!((attachment.uid, attachment.state), (ended.uid, State::Failed));
    let sends = ens.calls().iter().filter(|call| matches!(call, Call::Attach(..))).count();
    assert_eq!(sends, 1, "nothing is sent again for what has ended");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_lock_takes_one_trip() {
    let ens = FakeEns::default();
    ens.accept();
    let owner = Owner::new(&ens);
    let sent_at = owner.ledger.store().now(&owner.instance);
    let row = |number| ObservedEni {
        eni: format!("eni-other-{number}").parse().unwrap(),
        status: ObservedStatus::InUse,
        text: "InUse".to_owned(),
        primary: false,
    };
    let rows = (0..9).map(row).collect();
    owner.commit(Command::Observe { sent_at, rows, then: None }).await;
    owner.attacher.attach(owner.request()).await.unwrap();

    let before = owner.ledger.store().calls();
    let joined = owner.attacher.attach(owner.request()).await.unwrap();
    assert_eq!(joined.state, State::Attaching);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(owner.ledger.store().calls() - before, 1, "the same pair is joined");
    let other = Request { eni: "eni-2".parse().unwrap(), ..owner.request() };
    let refused = owner.attacher.attach(other).await.unwrap_err();
    assert_eq!(refused.reason, Reason::EniLimitExceeded);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(owner.ledger.store().calls() - before, 2, "a full instance is refused");
    let sends = ens.calls().iter().filter(|call| matches!(call, Call::Attach(..))).count();
    assert_eq!(sends, 1);
}
