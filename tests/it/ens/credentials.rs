//! Refresh of credentials: in the background, used until expiry, fetched once for concurrent
//! callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use eni_gateway::ens::clock::WallClock;
use eni_gateway::ens::credentials::Provider;
use eni_gateway::ens::{Ens, Outcome};
use eni_gateway::rate_limit::RateClass;
use jiff::{SignedDuration, Timestamp};

use super::server::{Act, Request, Server};
use super::sources::{session, surroundings};
use super::{client_with, eni, instance, settings};

/// A source of one-hour sessions that can fail, and a clock that can be put forward.
struct Rig {
    source: Server,
    provider: Provider,
    failing: Arc<AtomicBool>,
    minutes: Arc<AtomicI64>,
}

impl Rig {
    async fn start() -> Self {
        let (failing, minutes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (fails, ahead) = (failing.clone(), minutes.clone());
        let source = Server::start(move |_, number| {
            if fails.load(Ordering::SeqCst) {
                Act::Json(500, String::new())
            } else {
                Act::Json(200, session(number, 60 + ahead.load(Ordering::SeqCst)).to_string())
            }
        })
        .await;
        let ahead = minutes.clone();
        let clock = WallClock::new(move || {
            Timestamp::now() + SignedDuration::from_mins(ahead.load(Ordering::SeqCst))
        });
        let surroundings =
            surroundings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &source.url)]).with_clock(clock);
        let provider = Provider::discover(&surroundings).await.expect("a source");
        Self { source, provider, failing, minutes }
    }

    async fn id(&self) -> String {
        self.provider.get().await.expect("credentials").access_key_id().to_owned()
    }

    fn at_minute(&self, minute: i64) {
        self.minutes.store(minute, Ordering::SeqCst);
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("the condition never came true");
}

#[tokio::test]
async fn all_who_wait_share_one_fetch() {
    let rig = Rig::start().await;
    let ids = futures_util::future::join_all((0..20).map(|_| rig.id())).await;
    assert!(ids.iter().all(|id| id == "STS.0"), "{ids:?}");
    assert_eq!(rig.source.count(), 1);
}

#[tokio::test]
async fn all_who_wait_share_one_failure_and_the_next_one_tries_again() {
    let rig = Rig::start().await;
    rig.failing.store(true, Ordering::SeqCst);
    let got = futures_util::future::join_all((0..20).map(|_| rig.provider.get())).await;
    assert!(got.iter().all(Result::is_err));
    let tries = rig.source.count();
    assert_eq!(tries, 5, "one fetch, which waits out a short outage");
    rig.failing.store(false, Ordering::SeqCst);
    assert_eq!(rig.id().await, format!("STS.{tries}"));
}

#[tokio::test]
async fn they_are_refreshed_beside_the_calls_a_quarter_of_an_hour_before_their_end() {
    let rig = Rig::start().await;
    assert_eq!(rig.id().await, "STS.0");
    rig.at_minute(44);
    assert_eq!(rig.id().await, "STS.0");
    assert_eq!(rig.source.count(), 1);
    rig.at_minute(46);
    assert_eq!(rig.id().await, "STS.0", "no call waits for the new ones");
    until(|| rig.source.count() == 2).await;
    while rig.id().await != "STS.1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.source.count(), 2);
}

#[tokio::test]
async fn old_ones_are_used_until_they_end_while_the_source_is_down() {
    let rig = Rig::start().await;
    assert_eq!(rig.id().await, "STS.0");
    rig.failing.store(true, Ordering::SeqCst);
    for minute in 46..59 {
        rig.at_minute(minute);
        assert_eq!(rig.id().await, "STS.0");
        // A fetch that is still on its way is not begun again: that the source is asked is seen at
        // the first one.
        until(|| rig.source.count() > 1).await;
    }
    rig.at_minute(60);
    let error = rig.provider.get().await.expect_err("they ended").to_string();
    assert!(error.contains("500"), "{error}");
    rig.failing.store(false, Ordering::SeqCst);
    assert!(rig.id().await.starts_with("STS."));
}

#[tokio::test]
async fn a_failing_source_is_not_asked_at_every_call() {
    let rig = Rig::start().await;
    rig.id().await;
    rig.failing.store(true, Ordering::SeqCst);
    rig.at_minute(50);
    rig.id().await;
    until(|| rig.source.count() == 2).await;
    // The failure is recorded a moment after the request arrived; single flight covers that moment.
    for _ in 0..50 {
        rig.id().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.source.count(), 2);
}

#[tokio::test]
async fn rejected_ones_are_replaced_once() {
    let rig = Rig::start().await;
    let first = rig.provider.get().await.expect("credentials");
    rig.provider.reject(&first);
    assert_eq!(rig.id().await, "STS.0", "they are too new for other ones to be better");
    rig.at_minute(1);
    rig.provider.reject(&first);
    rig.provider.reject(&first);
    assert_eq!(rig.id().await, "STS.1");
    rig.at_minute(2);
    rig.provider.reject(&first);
    assert_eq!(rig.id().await, "STS.1", "it is not these that were rejected");
}

/// An ENS that no longer takes the first session.
async fn ens() -> Server {
    Server::start(|request: &Request, _| match request.header("x-acs-security-token") {
        Some("token-0") => Act::Json(
            400,
            r#"{"Code":"InvalidSecurityToken.Expired","Message":"m","RequestId":"R"}"#.into(),
        ),
        _ => Act::Json(200, r#"{"RequestId":"R","TotalCount":0}"#.into()),
    })
    .await
}

#[tokio::test]
async fn a_describe_whose_session_ended_is_repeated_with_a_fresh_one_and_a_permit_of_its_own() {
    let (rig, ens) = (Rig::start().await, ens().await);
    rig.id().await;
    rig.at_minute(1);
    let client = client_with(settings(&ens.url), rig.provider.clone());
    let permit = client.permit(RateClass::Track).await;
    assert_eq!(client.ens.interfaces(permit, &[eni("eni-1")]).await, Ok(vec![]));
    assert_eq!((ens.count(), client.taken(), rig.source.count()), (2, 2, 2));
    let fresh = &ens.requests()[1];
    assert_eq!(fresh.header("x-acs-accesskey-id"), Some("STS.1"));
    let authorization = fresh.header("authorization").expect("signed");
    assert!(
        authorization.contains("x-acs-accesskey-id;")
            && authorization.contains(";x-acs-security-token;")
    );
}

#[tokio::test]
async fn an_attach_whose_session_ended_is_refused_and_the_next_one_has_a_fresh_one() {
    let (rig, ens) = (Rig::start().await, ens().await);
    rig.id().await;
    rig.at_minute(1);
    let client = client_with(settings(&ens.url), rig.provider.clone());
    let prepared = client.ens.prepare().await.expect("ready");
    let permit = client.permit(RateClass::Attach).await;
    let outcome = client.ens.attach(&prepared, permit, &instance("i-1"), &eni("eni-1")).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(ens.count(), 1);
    assert!(matches!(client.attach().await, Outcome::Accepted { .. }));
}
