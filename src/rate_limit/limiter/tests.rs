use std::collections::VecDeque;
use std::sync::Mutex;

use super::super::HeldPermit;
use super::*;

/// A store that answers from a list, then grants, and records the requests.
#[derive(Clone, Default)]
struct Counter {
    answers: Arc<Mutex<VecDeque<RateLimitDecision>>>,
    asked: Arc<Mutex<Vec<RateLimitRequest>>>,
}

impl Counter {
    fn answering(answers: impl IntoIterator<Item = RateLimitDecision>) -> Self {
        let counter = Self::default();
        counter.answers.lock().unwrap().extend(answers);
        counter
    }

    fn limiter(&self) -> RateLimiter {
        let counter = self.clone();
        let source: StoreFunction = Arc::new(move |request| {
            counter.asked.lock().unwrap().push(request);
            let answer = match request {
                RateLimitRequest::Take(..) => counter.answers.lock().unwrap().pop_front(),
                _ => None,
            };
            Box::pin(async move { Ok(answer.unwrap_or(RateLimitDecision::Granted)) })
        });
        RateLimiter::new(source).with_random(Arc::new(|| 0.0))
    }

    fn reports(&self) -> Vec<RateLimitRequest> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.into_iter().filter(|request| !matches!(request, RateLimitRequest::Take(..))).collect()
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_waited_for_until_the_deadline_and_not_longer() {
    let counter = Counter::answering([
        RateLimitDecision::Wait(seconds(2)),
        RateLimitDecision::Granted,
        RateLimitDecision::Wait(seconds(9)),
    ]);
    let (limiter, start) = (counter.limiter(), Instant::now());
    let _ =
        limiter.permit(RateClass::Attach, start + seconds(5)).await.expect("a permit after 2 s");
    assert_eq!(start.elapsed(), seconds(2));
    let late = limiter.permit(RateClass::Attach, start + seconds(5)).await;
    assert_eq!(late.unwrap_err(), PermitError::DeadlineExceeded { wait: seconds(9) });
    assert_eq!(start.elapsed(), seconds(2), "it gives up at once");
    let known = limiter.permit(RateClass::Attach, start + seconds(5)).await;
    assert_eq!(
        known.unwrap_err(),
        PermitError::DeadlineExceeded { wait: seconds(9) },
        "without asking again"
    );
}

#[tokio::test(start_paused = true)]
async fn permits_come_in_the_order_of_arrival() {
    let counter = Counter::answering([RateLimitDecision::Wait(seconds(1))]);
    let (limiter, order, deadline) =
        (counter.limiter(), Mutex::new(Vec::new()), Instant::now() + seconds(60));
    let caller = |name: &'static str| {
        let (limiter, order) = (&limiter, &order);
        async move {
            let _permit = limiter.permit(RateClass::Attach, deadline).await.expect("a permit");
            order.lock().unwrap().push(name);
        }
    };
    let in_haste = async {
        tokio::task::yield_now().await;
        limiter.try_permit(RateClass::Attach).await
    };
    let (.., hasty) =
        tokio::join!(biased; caller("first"), caller("second"), caller("third"), in_haste);
    assert_eq!(*order.lock().unwrap(), ["first", "second", "third"]);
    assert_eq!(hasty.unwrap_err(), PermitError::DeadlineExceeded { wait: seconds(1) });
    let _ = limiter.try_permit(RateClass::Describe).await.expect("another class has its own queue");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_behind_others_gives_up_at_its_deadline() {
    let counter = Counter::answering([RateLimitDecision::Wait(seconds(3))]);
    let (limiter, start) = (counter.limiter(), Instant::now());
    let (first, second) = tokio::join!(
        biased;
        limiter.permit(RateClass::Attach, start + seconds(60)),
        limiter.permit(RateClass::Attach, start + seconds(1)),
    );
    let _ = first.expect("a permit");
    assert_eq!(second.unwrap_err(), PermitError::DeadlineExceeded { wait: seconds(3) });
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_take_the_token_that_others_wait_for() {
    let counter = Counter::answering([
        RateLimitDecision::Wait(seconds(3)),
        RateLimitDecision::Wait(seconds(3)),
    ]);
    let (limiter, start) = (counter.limiter(), Instant::now());
    let waits = limiter.permit(RateClass::Attach, start + seconds(60));
    let comes = async {
        // The token is due, and the waiter is about to receive the next wait.
        tokio::time::sleep(seconds(3) + Duration::from_millis(1)).await;
        limiter.try_permit(RateClass::Attach).await
    };
    let (first, newcomer) = tokio::join!(waits, comes);
    let _ = first.expect("a permit");
    assert!(matches!(newcomer, Err(PermitError::DeadlineExceeded { .. })), "{newcomer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_had_to_wait_comes_sooner_after_the_next_token_is_due() {
    let counter = Counter::answering([RateLimitDecision::Wait(seconds(1)); 3]);
    let (limiter, start) = (counter.limiter().with_random(Arc::new(|| 1.0)), Instant::now());
    let _ = limiter.permit(RateClass::Attach, start + seconds(60)).await.expect("a permit");
    let late = start.elapsed() - seconds(3);
    assert!(late > Duration::from_millis(130) && late < Duration::from_millis(140), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_used_up_before_the_counter_is_asked_again_for_a_while_and_not_after_a_throttling()
 {
    let counter = Counter::answering([RateLimitDecision::Chunk(2); 4]);
    let limiter = counter.limiter();
    let take = async || limiter.try_permit(RateClass::Attach).await.expect("a permit");
    let asked = || counter.asked.lock().unwrap().len();
    for expected in [1, 1, 1, 2] {
        let _ = take().await;
        assert_eq!(asked(), expected);
    }
    tokio::time::advance(CHUNK_LIFE).await;
    let permit = take().await;
    assert_eq!(asked(), 3, "the rest of the second one is too old");
    limiter.record_throttled(&permit, Some(seconds(1))).await;
    let _ = take().await;
    assert_eq!(asked(), 5, "a report, and a question");
}

#[tokio::test(start_paused = true)]
async fn an_unused_permit_returns_to_the_chunk_while_that_lasts() {
    let counter = Counter::answering([RateLimitDecision::Chunk(2)]);
    let limiter = counter.limiter();
    let take = async || limiter.try_permit(RateClass::Attach).await.expect("a permit");
    for _ in 0..5 {
        let permit = take().await;
        limiter.give_back(permit).await;
        drop(limiter.hold(take().await));
    }
    assert_eq!(counter.asked.lock().unwrap().len(), 1, "three tokens are enough");
    let permit = take().await;
    tokio::time::advance(CHUNK_LIFE).await;
    limiter.give_back(permit).await;
    let returned = RateLimitRequest::GiveBack { class: RateClass::Attach, probe: false };
    assert_eq!(counter.asked.lock().unwrap().last(), Some(&returned), "the chunk has expired");
}

#[tokio::test(start_paused = true)]
async fn a_successful_call_reports_nothing_unless_the_breaker_is_open() {
    let counter = Counter::default();
    let limiter = counter.limiter();
    let permit = limiter.try_permit(RateClass::Attach).await.expect("a permit");
    limiter.record_passed(&permit).await;
    assert_eq!(counter.reports(), []);

    limiter.record_throttled(&permit, Some(seconds(7))).await;
    assert_eq!(counter.reports(), [RateLimitRequest::Trip(RateClass::Attach, seconds(7))]);
    assert!(limiter.breaker_open());

    tokio::time::advance(seconds(7)).await;
    limiter.record_passed(&permit).await;
    assert_eq!(counter.reports(), [], "that call began before the breaker opened");
    let probe = limiter.try_permit(RateClass::Attach).await.expect("a permit");
    limiter.record_passed(&probe).await;
    limiter.record_passed(&probe).await;
    assert_eq!(counter.reports(), [RateLimitRequest::Close(RateClass::Attach)]);
    assert!(!limiter.breaker_open());
}

#[tokio::test(start_paused = true)]
async fn the_probe_closes_what_another_replica_opened() {
    let counter = Counter::answering([RateLimitDecision::Probe]);
    let limiter = counter.limiter();
    let probe = limiter.try_permit(RateClass::Attach).await.expect("a permit");
    assert!(limiter.breaker_open());
    limiter.record_passed(&probe).await;
    assert_eq!(counter.reports(), [RateLimitRequest::Close(RateClass::Attach)]);
}

#[tokio::test(start_paused = true)]
async fn throttling_without_a_time_backs_off_once_per_burst_and_longer_each_time() {
    let counter = Counter::default();
    let limiter = counter.limiter();
    for expected in [1, 2, 4, 8, 16, 30, 30] {
        let permit = limiter.try_permit(RateClass::Attach).await.expect("a permit");
        limiter.record_throttled(&permit, None).await;
        limiter.record_throttled(&permit, None).await;
        assert_eq!(
            counter.reports(),
            [RateLimitRequest::Trip(RateClass::Attach, seconds(expected))]
        );
        tokio::time::advance(seconds(expected)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_kinds_of_describe_stop_together_and_are_reported_once() {
    let counter = Counter::default();
    let limiter = counter.limiter();
    let permit = limiter.try_permit(RateClass::Track).await.expect("a permit");
    limiter.record_throttled(&permit, Some(seconds(1))).await;
    assert_eq!(counter.reports(), [RateLimitRequest::Trip(RateClass::Track, seconds(1))]);
    tokio::time::advance(seconds(1)).await;
    let permit = limiter.try_permit(RateClass::Describe).await.expect("a permit");
    limiter.record_passed(&permit).await;
    assert_eq!(counter.reports(), [RateLimitRequest::Close(RateClass::Describe)]);
    assert!(!limiter.breaker_open());
}

#[tokio::test(start_paused = true)]
async fn an_unused_permit_goes_back() {
    let counter = Counter::default();
    let limiter = counter.limiter();
    let permit = limiter.try_permit(RateClass::Describe).await.expect("a permit");
    limiter.give_back(permit).await;
    let give_back = |class, probe| RateLimitRequest::GiveBack { class, probe };
    assert_eq!(counter.reports(), [give_back(RateClass::Describe, false)]);

    let counter = Counter::answering([RateLimitDecision::Probe]);
    let limiter = counter.limiter();
    let permit = limiter.try_permit(RateClass::Track).await.expect("a permit");
    limiter.give_back(permit).await;
    assert_eq!(counter.reports(), [give_back(RateClass::Track, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_kept_permit_goes_back_by_itself_unless_it_is_spent() {
    let counter = Counter::default();
    let limiter = counter.limiter();
    let mut kept = Vec::new();
    for class in [RateClass::Attach, RateClass::Describe] {
        kept.push(limiter.hold(limiter.try_permit(class).await.expect("a permit")));
    }
    let spent = kept.pop().map(HeldPermit::spend);
    assert_eq!(spent.map(|permit| permit.class()), Some(RateClass::Describe));
    drop(kept);
    tokio::task::yield_now().await;
    let class = RateClass::Attach;
    assert_eq!(counter.reports(), [RateLimitRequest::GiveBack { class, probe: false }]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_when_its_caller_has_left_goes_back() {
    for (answer, probe) in [
        (RateLimitDecision::Granted, Some(false)),
        (RateLimitDecision::Probe, Some(true)),
        (RateLimitDecision::Wait(seconds(1)), None),
    ] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let limiter = RateLimiter::new(Arc::new(move |request| {
            noted.lock().unwrap().push(request);
            Box::pin(async move {
                sleep(seconds(1)).await;
                Ok(answer)
            })
        }));
        let late =
            limiter.permit(RateClass::Attach, Instant::now() + Duration::from_millis(500)).await;
        assert!(matches!(late, Err(PermitError::CounterUnreachable(_))), "{late:?}");
        sleep(seconds(2)).await;
        let given = asked.lock().unwrap().get(1).copied();
        let class = RateClass::Attach;
        assert_eq!(given, probe.map(|probe| RateLimitRequest::GiveBack { class, probe }));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_or_hanging_counter_is_reported() {
    let limiter =
        RateLimiter::new(Arc::new(|_| Box::pin(async { Err(Outage::just_now("redis is away")) })));
    let got = limiter.permit(RateClass::Attach, Instant::now() + seconds(5)).await;
    assert_eq!(
        got.unwrap_err(),
        PermitError::CounterUnreachable(Outage::just_now("redis is away"))
    );

    let (limiter, start) =
        (RateLimiter::new(Arc::new(|_| Box::pin(std::future::pending()))), Instant::now());
    let got = limiter.permit(RateClass::Attach, start + seconds(5)).await;
    assert!(matches!(got, Err(PermitError::CounterUnreachable(_))), "{got:?}");
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn an_absurd_wait_is_a_long_one() {
    let limiter = Counter::answering([RateLimitDecision::Wait(Duration::MAX)]).limiter();
    assert!(matches!(
        limiter.try_permit(RateClass::Attach).await,
        Err(PermitError::DeadlineExceeded { .. })
    ));
}
