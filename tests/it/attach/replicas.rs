//! Several replicas over one ledger and one ENS: the order of service, and the number of calls.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::admission::Peer;
use eni_gateway::attach::{Attacher, Request};
use eni_gateway::backends::Backends;
use eni_gateway::drain;
use eni_gateway::ens::{Ens, EnsRefusal, Outcome};
use eni_gateway::ledger::execute::LedgerEvent;
use eni_gateway::ledger::{Bounds, Ledger, LedgerStore};
use eni_gateway::model::{Attachment, Caller, Failure, Reason};
use eni_gateway::rate_limit::{RateClass, RateLimiter, Rates};
use eni_gateway::telemetry::Metrics;
use eni_gateway::tracker::Tracker;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::support::ens::FakeEns;
use crate::support::ledger::Faulty;
use crate::support::parts::Parts;

/// One trip to the ledger.
const TRIP: Duration = Duration::from_millis(1);

/// One replica: its callers, and its connection to the ledger.
pub(super) struct Replica {
    pub(super) store: Faulty,
    pub(super) attacher: Arc<Attacher<Faulty, FakeEns>>,
    pub(super) limiter: RateLimiter,
    tracker: Arc<Tracker<Faulty, FakeEns>>,
}

/// So many replicas over one ledger and this ENS.
pub(super) fn replicas<const N: usize>(rates: Rates, ens: &FakeEns) -> [Replica; N] {
    let shared = Faulty::with(rates).taking(TRIP);
    std::array::from_fn(|_| Replica::new(shared.replica(), ens))
}

impl Replica {
    fn new(store: Faulty, ens: &FakeEns) -> Self {
        let observer = Arc::new(|event: LedgerEvent<'_>| {
            assert!(matches!(event, LedgerEvent::Changed(_)), "{event:?}")
        });
        let ledger = Arc::new(Ledger::new(store.clone(), Bounds::default(), observer));
        let limiter = RateLimiter::over(ledger.clone());
        let backends = Backends {
            ledger,
            ens: Arc::new(ens.reporting_to(limiter.clone())),
            limiter: limiter.clone(),
            metrics: Metrics::new("0", "test").unwrap(),
        };
        let Parts { attacher, tracker, .. } = Parts::over(backends);
        Self { store, attacher, limiter, tracker }
    }

    /// Tracks and compares, as long as the test lasts.
    pub(super) fn track(&self) {
        TaskTracker::new().spawn(self.tracker.clone().run(drain::Watch::default()));
        TaskTracker::new().spawn(self.tracker.clone().reconcile(drain::Watch::default()));
    }

    /// An attach that waits for so long at most, on a task of its own; and when it was answered.
    pub(super) fn attach(
        &self,
        instance: &str,
        eni: &str,
        deadline: Duration,
    ) -> JoinHandle<(Instant, Result<Attachment, Failure>)> {
        let request = Request {
            instance: instance.parse().unwrap(),
            eni: eni.parse().unwrap(),
            request_id: None,
            caller: Caller::anonymous(),
            peer: Peer::LOCAL,
            deadline: Instant::now() + deadline,
        };
        let attacher = self.attacher.clone();
        TaskTracker::new().spawn(async move {
            let answer = attacher.attach(request).await;
            (Instant::now(), answer)
        })
    }
}

pub(super) fn accepted() -> Outcome {
    Outcome::Accepted { ens_request_id: "ENS-REQUEST-ID".to_owned() }
}

fn refusal() -> EnsRefusal {
    EnsRefusal {
        code: "InvalidOperation.InvalidEniType".to_owned(),
        message: "the type of eni does not support this operation".to_owned(),
        request_id: "ENS-REQUEST-ID".to_owned(),
    }
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_caller_behind_one_that_leaves_is_served_as_soon_as_the_lock_is_free() {
    // The one in front leaves at different moments of the first one's send, its end among them.
    for leaves in [0.5, 1.2, 1.5, 1.55, 1.59, 1.6, 1.65] {
        let ens = FakeEns::default();
        ens.accept();
        ens.answer(seconds(1.6), accepted());
        let [first, second, third, fourth] = replicas(Rates::new(1000.0, 1000.0).unwrap(), &ens);
        let began = Instant::now();
        let sends = first.attach("i-1", "eni-1", seconds(60.0));
        sleep(seconds(0.1)).await;
        let leaver = second.attach("i-1", "eni-2", seconds(leaves - 0.1));
        sleep(seconds(0.1)).await;
        let patient = third.attach("i-1", "eni-3", seconds(25.0));
        let (_, sent) = sends.await.unwrap();
        sent.unwrap();
        // It may have been served in the last moment.
        let _ = leaver.await.unwrap();
        let (served, answer) = patient.await.unwrap();
        answer.unwrap();
        let waited = served - began;
        assert!(waited < seconds(3.0), "left after {leaves} s: {waited:?}");
        let calls = third.store.calls();
        assert!(calls < 60, "left after {leaves} s: {calls} calls in {waited:?}");

        // No replica keeps the lock.
        let began = Instant::now();
        let (served, answer) = fourth.attach("i-1", "eni-4", seconds(25.0)).await.unwrap();
        answer.unwrap();
        assert!(served - began < seconds(0.1), "{:?}", served - began);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_mixed_deadlines_costs_few_calls_and_the_patient_are_served_in_time() {
    const SEND: Duration = Duration::from_millis(300);
    let ens = FakeEns::default();
    ens.accept();
    ens.take(SEND);
    let replicas: [Replica; 3] = replicas(Rates::new(1000.0, 1000.0).unwrap(), &ens);
    let (began, mut patient, mut hasty) = (Instant::now(), Vec::new(), Vec::new());
    for number in 0..40 {
        let attach = |deadline| {
            let instance = format!("i-{}", number % 4);
            replicas[number % 3].attach(&instance, &format!("eni-{number}"), deadline)
        };
        if number % 8 < 4 {
            hasty.push(attach(seconds(0.4) + seconds(0.1) * number as u32));
        } else {
            patient.push(attach(seconds(300.0)));
        }
        sleep(seconds(0.02)).await;
    }
    for caller in hasty {
        // Served or not, as far as time allowed.
        let _ = caller.await.unwrap();
    }
    for caller in patient {
        let (served, answer) = caller.await.unwrap();
        answer.unwrap();
        // Ten at each instance, a describe and a send for each, and a round of the queue to take
        // notice.
        let waited = served - began;
        assert!(waited < 10 * (2 * SEND + seconds(0.3)), "{waited:?}");
    }
    let (calls, sends) =
        (replicas.iter().map(|replica| replica.store.calls()).sum::<u64>(), ens.attaches());
    assert!(calls < 30 * sends as u64, "{calls} calls for {sends} sends");
}

#[tokio::test(start_paused = true)]
async fn the_probe_of_an_open_breaker_goes_to_who_has_a_use_for_it() {
    let ens = FakeEns::default();
    ens.accept();
    let replicas: [Replica; 3] = replicas(Rates::default(), &ens);
    replicas.iter().for_each(Replica::track);
    for (round, purpose) in
        [RateClass::Track, RateClass::Reconcile, RateClass::Read].into_iter().enumerate()
    {
        let limiter = &replicas[round].limiter;
        let throttle = async || {
            let permit = limiter.permit(purpose, Instant::now() + seconds(10.0)).await.unwrap();
            limiter.record_throttled(&permit, Some(seconds(1.0))).await;
        };
        let attach = async |instance: String| {
            let began = Instant::now();
            let attach = replicas[(round + 1) % 3].attach(&instance, "eni-1", seconds(25.0));
            let (served, answer) = attach.await.unwrap();
            answer.unwrap();
            served - began
        };
        throttle().await;
        // Loops tick meanwhile and afterwards, and have nothing to do.
        sleep(seconds(6.0)).await;
        let waited = attach(format!("i-{round}")).await;
        assert!(waited < seconds(0.5), "no other call needed the probe: {waited:?}");
        // What was attached is looked at to its end, and compared.
        sleep(seconds(2000.0)).await;

        throttle().await;
        let waited = attach(format!("i-1{round}")).await;
        assert!(waited < seconds(2.0), "a stop of one second: {waited:?}");
        sleep(seconds(2000.0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn readers_that_never_pause_do_not_keep_attaches_from_their_describes() {
    let ens = FakeEns::default();
    ens.accept();
    let [served, other]: [Replica; 2] = replicas(Rates::default(), &ens);
    for reader in 0..8 {
        let limiter = [&served, &other][reader % 2].limiter.clone();
        let ens = ens.reporting_to(limiter.clone());
        TaskTracker::new().spawn(async move {
            for number in 0.. {
                let permit =
                    limiter.permit(RateClass::Read, Instant::now() + seconds(10.0)).await.unwrap();
                let unasked = format!("i-{reader}-{number}").parse().unwrap();
                ens.interfaces_of(permit, &unasked).await.unwrap();
            }
        });
    }
    sleep(seconds(5.0)).await;
    let began = Instant::now();
    let attaches: Vec<_> = (0..8)
        .map(|number| served.attach(&format!("i-{number}"), "eni-1", seconds(10.0)))
        .collect();
    for attach in attaches {
        let (served, answer) = attach.await.unwrap();
        answer.unwrap();
        // Five attaches a second, and seven and a half describes of theirs.
        assert!(served - began < seconds(4.0), "{:?}", served - began);
    }
}

/// Each of them wants to know whether ENS still shows the ENI: one describe tells all.
#[tokio::test(start_paused = true)]
async fn callers_that_repeat_the_attach_of_an_attached_eni_do_not_keep_attaches_from_their_describes()
 {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(Rates::new(5.0, 10.0).unwrap(), &ens);
    replica.track();
    replica.attach("i-1", "eni-1", seconds(30.0)).await.unwrap().1.unwrap();
    sleep(seconds(60.0)).await;
    let replica = Arc::new(replica);
    let repeaters: Vec<_> = (0..200)
        .map(|_| {
            let replica = replica.clone();
            TaskTracker::new().spawn(async move {
                let until = Instant::now() + seconds(20.0);
                let mut answered = 0;
                while Instant::now() < until {
                    let (_, answer) = replica.attach("i-1", "eni-1", seconds(10.0)).await.unwrap();
                    answer.unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    sleep(seconds(2.0)).await;
    for number in 0..8 {
        let attach = replica.attach(
            &format!("i-{}", 10 + number),
            &format!("eni-{}", 10 + number),
            seconds(10.0),
        );
        attach.await.unwrap().1.unwrap();
    }
    for repeater in repeaters {
        assert!(repeater.await.unwrap() > 20, "each is answered again and again");
    }
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_for_a_describe_permit_under_the_lock() {
    let ens = FakeEns::default();
    ens.accept();
    let [one, other]: [Replica; 2] = replicas(Rates::default(), &ens);
    let lock = async || {
        let record = other.store.read(&"i-1".parse().unwrap(), None).await.unwrap().record;
        record.lock.clone()
    };
    one.attach("i-1", "eni-1", seconds(10.0)).await.unwrap().1.unwrap();
    one.track();
    sleep(seconds(120.0)).await;
    // Describes are throttled: both must ask ENS, the one for the instance, the other for what is
    // attached already.
    let permit =
        other.limiter.permit(RateClass::Read, Instant::now() + seconds(10.0)).await.unwrap();
    other.limiter.record_throttled(&permit, Some(seconds(10.0))).await;
    let began = Instant::now();
    let callers = [
        one.attach("i-1", "eni-1", seconds(60.0)),
        other.attach("i-1", "eni-2", seconds(60.0)),
        one.attach("i-1", "eni-3", seconds(60.0)),
    ];
    for _ in 0..18 {
        sleep(seconds(0.5)).await;
        assert_eq!(lock().await, None, "{:?}", began.elapsed());
    }
    for caller in callers {
        let (served, answer) = caller.await.unwrap();
        answer.unwrap();
        assert!(served - began < seconds(13.0), "{:?}", served - began);
    }
}

/// Of each replica only the first of an instance asks for a permit: over all of them the one that
/// has waited longest gets the next.
#[tokio::test(start_paused = true)]
async fn under_a_saturated_budget_callers_are_served_in_the_order_of_arrival() {
    let ens = FakeEns::default();
    ens.accept();
    ens.take(seconds(0.2));
    let replicas: [Replica; 3] = replicas(Rates::new(1.0, 100.0).unwrap(), &ens);
    for limiter in replicas.iter().map(|replica| &replica.limiter) {
        while limiter.try_permit(RateClass::Attach).await.is_ok() {}
    }
    let began = Instant::now();
    let mut callers = Vec::new();
    for number in 0..18 {
        // Three instances, each with callers on every replica.
        let (replica, instance) =
            (&replicas[(number + number / 3) % 3], format!("i-{}", number % 3));
        callers.push(replica.attach(&instance, &format!("eni-{number}"), seconds(300.0)));
        sleep(seconds(0.05)).await;
    }
    let mut served = Vec::new();
    for (number, caller) in callers.into_iter().enumerate() {
        let (time, answer) = caller.await.unwrap();
        answer.unwrap();
        served.push((time, number));
    }
    served.sort();
    for (place, (time, number)) in served.iter().enumerate() {
        let (waited, turns) = (*time - began, place as f64 + 2.0);
        assert!(waited < seconds(turns * 1.25), "{number}: {waited:?}");
    }
    let order: Vec<usize> = served.iter().map(|(_, number)| *number).collect();
    // The first nine are the first of their instance on their replica.
    assert_eq!(order[..9], (0..9).collect::<Vec<_>>(), "{order:?}");
}

/// The place in the budget is the instance's. A caller that leaves passes it to the one behind.
/// Otherwise each is the first for a moment, at the end of the line, and none is ever served.
#[tokio::test(start_paused = true)]
async fn callers_that_leave_pass_on_their_place_in_a_saturated_budget() {
    let ens = FakeEns::default();
    for _ in 0..500 {
        ens.answer(Duration::ZERO, Outcome::Refused(refusal()));
    }
    let [replica]: [Replica; 1] = replicas(Rates::new(4.0, 1000.0).unwrap(), &ens);
    let replica = Arc::new(replica);
    let others = TaskTracker::new();
    for number in 0..16 {
        let replica = replica.clone();
        others.spawn(async move {
            loop {
                let (instance, eni) = (format!("i-{number}"), format!("eni-{number}"));
                let _ = replica.attach(&instance, &eni, seconds(20.0)).await;
            }
        });
    }
    // A turn of all instances takes 4.25 s.
    let mut callers = Vec::new();
    for number in 0..60 {
        callers.push(replica.attach("i-crowd", &format!("eni-c{number}"), seconds(5.0)));
        sleep(seconds(0.8)).await;
    }
    let mut served = 0;
    for caller in callers {
        let (_, answer) = caller.await.unwrap();
        served += usize::from(answer.unwrap_err().reason == Reason::EniTypeNotSupported);
    }
    assert!(served >= 9, "{served} were served in 50 s");
}
