//! Watches that resume.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use tokio::io::{AsyncBufReadExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::Code;

use super::fake::{Fake, Script, Step, accepted, attachment, failed, refusal};
use super::{Ran, eni_gateway, run};

const OFTEN: Duration = Duration::from_secs(15);

fn beat(revision: u64) -> Step {
    Step::Beat { revision, interval: OFTEN }
}

fn show(eni: &str, state: State, revision: u64) -> Step {
    Step::Show(attachment(eni, state, revision).into())
}

fn draining() -> Step {
    Step::Fail(refusal(Code::Unavailable, "DRAINING", "this replica is going away", &[]))
}

fn watched(streams: impl Into<std::collections::VecDeque<Vec<Step>>>) -> Script {
    Script { watch: streams.into(), ..Script::default() }
}

/// The states and revisions that were shown.
fn shown(ran: &Ran) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    ran.json().iter().map(|line| (text(&line["state"]), text(&line["revision"]))).collect()
}

fn asked_after(fake: &Fake) -> Vec<u64> {
    fake.asked.lock().unwrap().watch.iter().map(|request| request.after_revision).collect()
}

#[tokio::test]
async fn a_watch_shows_each_change_and_ends_with_the_stream() {
    let stream =
        vec![show("eni-1", State::Attaching, 3), beat(3), show("eni-1", State::Attached, 4)];
    let fake = Fake::serve(watched([stream])).await;
    let ran = run(&[
        "watch",
        "i-1",
        "eni-1",
        "--follow",
        "--after-revision",
        "2",
        "--endpoint",
        &fake.endpoint,
    ])
    .await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.watch[0].network_interface_id, "eni-1");
    assert_eq!(asked.watch[0].after_revision, 2);
    assert!(asked.watch[0].follow);
    assert!(asked.metadata[0].get("grpc-timeout").is_none());
}

#[tokio::test]
async fn a_watch_that_ends_well_without_attachments_says_so() {
    for (arguments, said) in [
        (
            &["watch", "i-1"][..],
            "no attachments on i-1\nENS was last asked for the whole instance ",
        ),
        (&["watch", "i-1", "--after-revision", "4"], "no further changes on i-1\nENS was last"),
        (&["watch", "i-1", "-o", "json"], ""),
    ] {
        let fake = Fake::serve(watched([vec![beat(4)]])).await;
        let ran = run(&[arguments, &["--endpoint", &fake.endpoint]].concat()).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
        let is_said =
            if said.is_empty() { ran.stderr.is_empty() } else { ran.stderr.starts_with(said) };
        assert!(is_said, "{ran:?}");
    }
}

#[tokio::test]
async fn a_drained_replica_is_left_and_nothing_shown_twice() {
    let fake = Fake::serve(watched([
        vec![show("eni-1", State::Attaching, 3), draining()],
        vec![show("eni-1", State::Attaching, 3), beat(3), draining()],
        vec![beat(3), show("eni-1", State::Attached, 5)],
    ]))
    .await;
    let ran = run(&["watch", "i-1", "eni-1", "-o", "json", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        shown(&ran),
        [("STATE_ATTACHING".into(), "3".into()), ("STATE_ATTACHED".into(), "5".into())]
    );
    assert_eq!(asked_after(&fake), [0, 0, 3], "a broken snapshot is asked for again");
    assert!(ran.stderr.contains("interrupted: DRAINING (UNAVAILABLE)"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let silent = vec![Step::Beat { revision: 2, interval: Duration::from_millis(100) }, Step::Hang];
    let fake =
        Fake::serve(watched([silent, vec![show("eni-1", State::Attached, 3), beat(3)]])).await;
    let ran = run(&["watch", "i-1", "-o", "json", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(asked_after(&fake), [0, 2]);
}

#[tokio::test]
async fn a_cut_connection_is_made_again() {
    let fake = Fake::serve(watched([
        vec![
            show("eni-1", State::Attaching, 3),
            beat(3),
            show("eni-1", State::Attaching, 4),
            Step::Hang,
        ],
        vec![beat(4), show("eni-1", State::Attached, 5)],
    ]))
    .await;
    let (endpoint, cut) = proxy(&fake).await;
    let mut child = eni_gateway(&["watch", "i-1", "eni-1", "-o", "json", "--endpoint", &endpoint])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert!(lines.next_line().await.unwrap().unwrap().contains("STATE_ATTACHING"));
    }
    cut.notify_one();
    assert!(lines.next_line().await.unwrap().unwrap().contains("STATE_ATTACHED"));
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert_eq!(asked_after(&fake), [0, 4]);
}

/// A way to the gateway that can be cut.
async fn proxy(fake: &Fake) -> (String, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let target = fake.endpoint.trim_start_matches("http://").to_owned();
    let cut = Arc::new(Notify::new());
    let cuts = cut.clone();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(&target).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                () = cuts.notified() => {}
            }
        }
    });
    (endpoint, cut)
}

#[tokio::test]
async fn what_the_first_call_is_refused_with_is_not_resumed() {
    for (step, code) in [
        (draining(), 75),
        (Step::Fail(refusal(Code::NotFound, "ATTACHMENT_NOT_FOUND", "no such attachment", &[])), 1),
    ] {
        let fake = Fake::serve(watched([vec![step]])).await;
        let ran = run(&["watch", "i-1", "eni-1", "--endpoint", &fake.endpoint]).await;
        assert_eq!((ran.code, asked_after(&fake).len()), (code, 1), "{ran:?}");
    }
}

#[tokio::test]
async fn a_watched_failure_is_a_failure() {
    let stream = || [vec![Step::Show(failed("eni-1", 4).into()), beat(4)]];
    let fake = Fake::serve(watched(stream())).await;
    let ran = run(&["watch", "i-1", "eni-1", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.starts_with("error: ATTACH_FAILED (ABORTED): "), "{ran:?}");
    let fake = Fake::serve(watched(stream())).await;
    let ran = run(&["watch", "i-1", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "of a whole instance only the watch itself counts: {ran:?}");
}

#[tokio::test]
async fn the_timeout_ends_a_watch_and_says_where() {
    let fake =
        Fake::serve(watched([vec![show("eni-1", State::Attaching, 3), beat(3), Step::Hang]])).await;
    let ran = run(&["watch", "i-1", "--timeout", "8s", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 75, "{ran:?}");
    assert!(ran.stderr.contains("--after-revision 3"), "{ran:?}");
}

#[tokio::test]
async fn attach_watches_to_the_end() {
    let fake = Fake::serve(Script {
        attach: [accepted(attachment("eni-1", State::Attaching, 3))].into(),
        watch: [vec![beat(3), show("eni-1", State::Attached, 4)]].into(),
        ..Script::default()
    })
    .await;
    let ran =
        run(&["attach", "i-1", "eni-1", "--watch", "-o", "json", "--endpoint", &fake.endpoint])
            .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        shown(&ran),
        [("STATE_ATTACHING".into(), "3".into()), ("STATE_ATTACHED".into(), "4".into())]
    );
    assert_eq!(asked_after(&fake), [3]);
}

#[tokio::test]
async fn attach_watches_on_where_the_outcome_is_unknown() {
    let unknown = refusal(Code::Unavailable, "OUTCOME_UNKNOWN", "ENS did not answer", &[]);
    let fake = Fake::serve(Script {
        attach: [Err(unknown)].into(),
        watch: [vec![
            show("eni-1", State::Verifying, 3),
            beat(3),
            Step::Show(failed("eni-1", 4).into()),
        ]]
        .into(),
        ..Script::default()
    })
    .await;
    let ran =
        run(&["attach", "i-1", "eni-1", "--watch", "-o", "json", "--endpoint", &fake.endpoint])
            .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(shown(&ran).len(), 2);
}

#[tokio::test]
async fn attach_never_reports_an_eni_that_no_watch_shows_as_a_success() {
    let unknown = || refusal(Code::Unavailable, "OUTCOME_UNKNOWN", "ENS did not answer", &[]);
    let not_found = refusal(Code::NotFound, "ATTACHMENT_NOT_FOUND", "no such attachment", &[]);
    let earlier = show("eni-1", State::Detached, 2);
    for stream in [vec![beat(3)], vec![earlier, beat(3)], vec![Step::Fail(not_found)]] {
        let script = Script { attach: [Err(unknown())].into(), ..watched([stream]) };
        let fake = Fake::serve(script).await;
        let ran = run(&["attach", "i-1", "eni-1", "--watch", "--endpoint", &fake.endpoint]).await;
        assert_eq!(ran.code, 75, "{ran:?}");
        assert!(ran.stderr.contains("OUTCOME_UNKNOWN (UNAVAILABLE)"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_watch_says_once_that_something_may_be_missing_and_once_that_it_no_longer_is() {
    let missing = || Step::BeatIncomplete { revision: 3, observe_time: None };
    let stream = vec![show("eni-1", State::Attached, 3), missing(), missing(), beat(4)];
    let fake = Fake::serve(watched([stream])).await;
    let ran = run(&["watch", "i-1", "--follow", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let said: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("incomplete: ENS was never asked for the whole instance"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("complete: ENS was last asked for the whole instance "),
        "{said:?}"
    );
}
