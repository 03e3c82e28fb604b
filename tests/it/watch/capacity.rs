//! The free slots of instances, from the ledger and from as few calls of ENS as possible.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::ledger::LedgerStore as _;
use eni_gateway::ledger::Memory;
use eni_gateway::model::{InstanceId, Reason};
use eni_gateway::rate_limit::{RateLimitStore as _, RateLimiter, Rates, StoreFunction};
use eni_gateway::watch::{Capacity, ReadCall};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Replica, by, eni, instance, pass};
use crate::support::ens::{Call, FakeEns};
use crate::support::ledger::Faulty;

/// The default maximum age.
const MINUTE: Duration = Duration::from_secs(60);

fn soon() -> ReadCall {
    by(Instant::now() + Duration::from_secs(10))
}

fn names(count: usize) -> Vec<InstanceId> {
    (0..count).map(|number| instance(&format!("i-{number}"))).collect()
}

async fn one(replica: &Replica, name: &str) -> Capacity {
    replica.hub.capacity(&instance(name), MINUTE, soon()).await.expect("something is known")
}

fn slots(capacity: &Capacity) -> [Option<usize>; 3] {
    [capacity.attached, capacity.in_flight, capacity.free]
}

#[tokio::test(start_paused = true)]
async fn slots_are_counted_by_what_uses_them() {
    let replica = Replica::new();
    replica.ens.show(&instance("i-1"), &eni("eni-8"), "InUse");
    replica.ens.show(&instance("i-1"), &eni("eni-9"), "Detaching");
    let asked_at = replica.store.now(&instance("i-1"));
    let found = one(&replica, "i-1").await;
    assert_eq!(slots(&found), [Some(2), Some(0), Some(198)]);
    assert_eq!((found.limit, found.queue_length, found.observed_at), (200, 0, Some(asked_at)));
    assert_eq!((found.status.as_deref(), &found.problem), (Some("Stopped"), &None));
    replica.begin("eni-1").await;
    assert_eq!(slots(&one(&replica, "i-1").await), [Some(2), Some(1), Some(197)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_knows_costs_one_call_for_a_hundred_instances() {
    let replica = Replica::new();
    let names = names(100);
    let first = replica.hub.capacities(&names, MINUTE, soon()).await;
    assert!(first.iter().flatten().all(|found| found.free == Some(200)), "{first:?}");
    let before = replica.ens.calls().len();
    assert_eq!(before, 101, "the states at once, and each instance by itself");
    // The states are a minute old before the observations are.
    pass(MINUTE - Duration::from_millis(1)).await;
    replica.hub.capacities(&names, MINUTE, soon()).await;
    assert_eq!(replica.ens.calls().len(), before);
    let known = replica.hub.capacities(&names, MINUTE * 10, soon()).await;
    assert_eq!(replica.ens.calls().len(), before);
    pass(Duration::from_secs(1)).await;
    assert_eq!(replica.hub.capacities(&names, MINUTE * 10, soon()).await, known);
    assert_eq!(replica.ens.calls()[before..], [Call::Instances(names)]);
}

#[tokio::test(start_paused = true)]
async fn equal_questions_share_one_call() {
    let replica = Replica::new();
    replica.ens.take(Duration::from_millis(300));
    join_all((0..50).map(|_| one(&replica, "i-1"))).await;
    let asked = [Call::InterfacesOf(instance("i-1")), Call::Instances(vec![instance("i-1")])];
    assert_eq!(replica.ens.calls(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_caller_decides_how_old_the_answer_may_be() {
    let replica = Replica::new();
    one(&replica, "i-1").await;
    pass(Duration::from_secs(5)).await;
    let asked = async |max_age| {
        let before = replica.ens.calls().len();
        let found = replica.hub.capacity(&instance("i-1"), max_age, soon()).await;
        assert!(found.expect("it is known").problem.is_none());
        replica.ens.calls().len() - before
    };
    assert_eq!(asked(Duration::from_secs(6)).await, 0);
    assert_eq!(asked(Duration::from_secs(5)).await, 2);
    assert_eq!(asked(Duration::ZERO).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_instance_fails_no_other() {
    let replica = Replica::new();
    replica.ens.forget(&instance("i-1"));
    let found = replica.hub.capacities(&names(3), MINUTE, soon()).await;
    let [zero, one, two] = &found[..] else { panic!("{found:?}") };
    for known in [zero, two] {
        assert_eq!(known.as_ref().expect("it is known").free, Some(200));
    }
    let one = one.as_ref().expect("the ledger answers");
    assert_eq!((slots(one), one.status.as_deref()), ([None; 3], None));
    assert_eq!(one.problem.as_ref().expect("a reason").reason, Reason::InstanceNotFound);
    let asked = replica.hub.capacity(&instance("i-1"), MINUTE, soon()).await;
    assert_eq!(asked.expect_err("it does not exist").reason, Reason::InstanceNotFound);
}

/// ENS may fail a whole call for one id that it does not know.
#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_isolated() {
    let replica = Replica::new();
    let names = names(4);
    replica.ens.forget(&names[2]);
    replica.ens.fail_unknown();
    let found = replica.hub.capacities(&names, MINUTE, soon()).await;
    let states: Vec<_> =
        found.iter().map(|found| found.as_ref().expect("read").status.as_deref()).collect();
    assert_eq!(states, [Some("Stopped"), Some("Stopped"), None, Some("Stopped")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_zero() {
    let replica = Replica::new();
    let throttled = DescribeError::Throttled { refusal: EnsRefusal::default(), retry_after: None };
    replica.ens.fail(Some(throttled));
    let refused = replica.hub.capacity(&instance("i-1"), MINUTE, soon()).await;
    assert_eq!(refused.expect_err("nothing is known").reason, Reason::EnsThrottled);
    let found = replica.hub.capacities(&[instance("i-1")], MINUTE, soon()).await.remove(0);
    let found = found.expect("the ledger answers");
    assert_eq!(slots(&found), [None, Some(0), None]);
    assert_eq!(found.problem.expect("a reason").reason, Reason::EnsThrottled);

    // An older observation is better than none, and has its age.
    replica.ens.fail(None);
    let before = one(&replica, "i-1").await;
    pass(MINUTE).await;
    replica.ens.fail(Some(DescribeError::Unavailable("it is down".to_owned())));
    let found = one(&replica, "i-1").await;
    assert_eq!((slots(&found), found.observed_at), (slots(&before), before.observed_at));
    assert_eq!(found.status, None, "it may have changed since");
    assert_eq!(found.problem.expect("a reason").reason, Reason::EnsUnavailable);

    replica.store.down(true);
    let refused = replica.hub.capacity(&instance("i-1"), MINUTE, soon()).await;
    assert_eq!(refused.expect_err("nothing is read").reason, Reason::CoordinationUnavailable);
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_what_is_in_flight_is_not_known() {
    let replica = Replica::new();
    replica.ens.show(&instance("i-1"), &eni("eni-9"), "InUse");
    one(&replica, "i-1").await;
    replica.store.hold_down(Duration::from_secs(10));
    let found = one(&replica, "i-1").await;
    assert_eq!(slots(&found), [Some(1), None, None]);
    let problem = found.problem.expect("a reason");
    assert_eq!(problem.reason, Reason::CoordinationRecovering);
    assert_eq!(problem.retry_after, Some(Duration::from_secs(10)));
    // A describe before the end may be too early for a send that the ledger lost.
    pass(Duration::from_secs(10)).await;
    let before = replica.ens.calls().len();
    let found = one(&replica, "i-1").await;
    assert_eq!((slots(&found), found.problem), ([Some(1), Some(0), Some(199)], None));
    assert_eq!(replica.ens.calls()[before..], [Call::InterfacesOf(instance("i-1"))]);
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_stays_within_the_share_of_reads() {
    let budget = Memory::new(Rates::new(5.0, 16.0).expect("rates"));
    let source: StoreFunction = Arc::new(move |request| {
        let budget = budget.clone();
        async move { budget.take(request).await }.boxed()
    });
    let replica = Replica::within(RateLimiter::new(source), Faulty::new(), FakeEns::default());
    let found = one(&replica, "i-1").await;
    assert_eq!((found.free, found.status.as_deref()), (Some(200), Some("Stopped")));
    let names = names(40);
    let began = Instant::now();
    let mut rounds = 0;
    loop {
        let before = replica.ens.calls().len();
        let found = replica.hub.capacities(&names, Duration::from_secs(600), soon()).await;
        let known = found.iter().flatten().filter(|found| found.free.is_some()).count();
        let called = replica.ens.calls().len() - before;
        assert!(called <= 4, "two a second are for reads, and a second's come at once: {called}");
        for found in found.iter().flatten().filter(|found| found.free.is_none()) {
            let problem = found.problem.as_ref().expect("a reason");
            assert_eq!(problem.reason, Reason::EnsThrottled);
            assert!(problem.retry_after.is_some(), "{problem:?}");
        }
        rounds += 1;
        if known == names.len() {
            break;
        }
        assert!(rounds < 100, "{known} are known");
        pass(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(15), "{:?}", began.elapsed());
}
