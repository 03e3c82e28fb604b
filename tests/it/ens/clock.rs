//! A gateway whose clock is off sends nothing, and resumes when it is right again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use eni_gateway::ens::report::Action;
use eni_gateway::ens::{DescribeError, Ens, Outcome};
use eni_gateway::model::Reason;
use eni_gateway::rate_limit::RateClass;
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::client;
use super::server::{Act, Server, response};

/// A server whose clock is `ahead` seconds ahead, and that says so in this answer.
async fn server(ahead: Arc<AtomicI64>, status: u16, body: &'static str) -> Server {
    Server::start(move |_, _| {
        let now = Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst));
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
        Act::Raw(response(status, &format!("date: {date}\r\n"), body))
    })
    .await
}

#[rstest]
#[case::behind(60, "behind")]
#[case::ahead(-60, "ahead of")]
#[case::in_an_error(3600, "behind")]
#[tokio::test]
async fn nothing_is_sent_by_a_clock_that_is_off(#[case] seconds: i64, #[case] side: &str) {
    let (status, body) = match seconds {
        3600 => (400, r#"{"Code":"InvalidTimeStamp.Expired","Message":"m","RequestId":"R"}"#),
        _ => (200, r#"{"RequestId":"R","TotalCount":0}"#),
    };
    let ahead = Arc::new(AtomicI64::new(seconds));
    let server = server(ahead.clone(), status, body).await;
    let client = client(&server.url);
    // The first answer tells.
    client.attach().await;
    let failure = client.ens.prepare().await.err().expect("refused");
    assert_eq!(failure.reason, Reason::EnsCredentialsRejected);
    assert!(failure.message.contains(side) && failure.message.contains("ntp"), "{failure}");
    assert!(client.ens.clock_offset().is_some());
    let sent = server
        .requests()
        .iter()
        .filter(|request| request.header("x-acs-action") == Some("AttachNetworkInterface"))
        .count();
    assert_eq!(sent, 1);

    ahead.store(0, Ordering::SeqCst);
    let permit = client.permit(RateClass::Describe).await;
    let _ = client.ens.probe(permit, Action::DescribeNetworkInterfaces, SignedDuration::ZERO).await;
    assert_eq!(client.ens.clock_offset(), None);
    client.ens.prepare().await.expect("right again");
}

#[tokio::test]
async fn prepare_itself_asks_whether_the_clock_is_right_again() {
    let ahead = Arc::new(AtomicI64::new(60));
    let server = server(ahead.clone(), 200, r#"{"RequestId":"R","TotalCount":0}"#).await;
    let client = client(&server.url);
    client.attach().await;
    ahead.store(0, Ordering::SeqCst);
    client.ens.prepare().await.expect("it asked and found the clock right");
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_proxy_s_clock_is_not_believed() {
    let server = server(Arc::new(AtomicI64::new(3600)), 502, "<html>").await;
    let client = client(&server.url);
    assert!(matches!(client.attach().await, Outcome::Unanswered { .. }));
    assert_eq!(client.ens.clock_offset(), None);
}

#[tokio::test]
async fn a_read_can_be_dated_to_probe_the_window() {
    let server = Server::start(|_, number| match number {
        0 => Act::Json(200, r#"{"RequestId":"R","TotalCount":0}"#.into()),
        _ => Act::Json(
            400,
            r#"{"Code":"InvalidTimeStamp.Expired","Message":"m","RequestId":"R"}"#.into(),
        ),
    })
    .await;
    let client = client(&server.url);
    let before = Timestamp::now();
    for (offset, taken) in [(-890, true), (-910, false)] {
        let permit = client.permit(RateClass::Describe).await;
        let got = client
            .ens
            .probe(permit, Action::DescribeNetworkInterfaces, SignedDuration::from_secs(offset))
            .await;
        assert_eq!(got.is_ok(), taken, "{got:?}");
        if let Err(error) = got {
            assert!(
                matches!(&error, DescribeError::Refused(refusal) if refusal.code == "InvalidTimeStamp.Expired")
            );
        }
    }
    let date: Timestamp =
        server.requests()[1].header("x-acs-date").expect("a date").parse().expect("a date");
    let (back, second) = (SignedDuration::from_secs(910), SignedDuration::from_secs(1));
    assert!((before - back - second..=Timestamp::now() - back).contains(&date), "{date}");
}
