//! The commands for all instances.

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::watch_attachments_response::Event;
use eni_gateway::grpc::proto::{
    Attachment, FleetHeartbeat, InstanceAttachments, ListAttachmentsResponse, PartitionReset,
};
use tonic::Code;

use super::fake::{Fake, Script, attachment, refusal};
use super::run;

fn instance(partition: i32, attachments: Vec<Attachment>) -> Event {
    let instance_id = "i-1".to_owned();
    Event::Instance(InstanceAttachments { instance_id, partition, attachments })
}

fn beat(token: &str) -> Event {
    beat_with(token, false)
}

fn beat_with(token: &str, incomplete: bool) -> Event {
    let resume_token = token.to_owned();
    Event::Heartbeat(FleetHeartbeat { resume_token, interval: None, incomplete })
}

#[tokio::test]
async fn a_watch_of_all_resumes_and_shows_each_change_once() {
    let first = attachment("eni-1", State::Attaching, 3);
    let second = attachment("eni-2", State::Attached, 4);
    let draining = refusal(Code::Unavailable, "DRAINING", "this replica is going away", &[]);
    let streams = [
        vec![
            Ok(instance(7, vec![first.clone()])),
            Ok(beat("one")),
            Ok(instance(7, vec![first.clone(), second.clone()])),
            Err(draining),
        ],
        vec![
            Ok(instance(7, vec![first.clone(), second])),
            Ok(Event::Reset(PartitionReset { partition: 7 })),
            Ok(instance(7, vec![first])),
            Ok(beat("two")),
        ],
    ];
    let fake = Fake::serve(Script { fleet: streams.into(), ..Script::default() }).await;
    let arguments = ["--prefix", "i-", "--state", "attaching,Attached", "--follow"];
    let endpoint = ["--endpoint", &fake.endpoint];
    let ran = run(&[&["watch", "--all"][..], &arguments, &endpoint].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
    let asked = &fake.asked.lock().unwrap().fleet;
    assert_eq!(asked[0].instance_prefix, "i-");
    assert_eq!(asked[0].states, [State::Attaching as i32, State::Attached as i32]);
    assert!(asked[0].follow);
    let tokens: Vec<_> = asked.iter().map(|request| request.resume_token.as_str()).collect();
    assert_eq!(tokens, ["", "one"]);
}

#[tokio::test]
async fn a_list_of_all_reads_every_page_and_shows_the_newest() {
    let page = |attachments: Vec<Attachment>, token: &str| ListAttachmentsResponse {
        attachments,
        next_page_token: token.to_owned(),
        ..ListAttachmentsResponse::default()
    };
    let other =
        Attachment { instance_id: "i-2".to_owned(), ..attachment("eni-2", State::Attaching, 2) };
    let list = [
        page(vec![attachment("eni-1", State::Attaching, 3), other], "more"),
        page(vec![attachment("eni-1", State::Attached, 9)], ""),
    ];
    let fake = Fake::serve(Script { list: list.into(), ..Script::default() }).await;
    let ran = run(&["list", "--all", "--stuck", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
    let asked = &fake.asked.lock().unwrap().lists;
    assert!(asked.iter().all(|request| request.instance_id == "-" && request.stuck));
    assert_eq!(asked[1].page_token, "more");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let stream = vec![Ok(beat_with("one", true)), Ok(beat("two"))];
    let fake = Fake::serve(Script { fleet: [stream].into(), ..Script::default() }).await;
    let ran = run(&["watch", "--all", "--endpoint", &fake.endpoint]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let said: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(said.len(), 3, "{ran:?}");
    assert!(said[0].starts_with("incomplete:") && said[1].starts_with("complete:"), "{ran:?}");
    assert_eq!(said[2], "no attachments on any instance");

    let attachments = vec![attachment("eni-1", State::Attached, 3)];
    let page = ListAttachmentsResponse { attachments, incomplete: true, ..Default::default() };
    let list = [page.clone(), page].into();
    let fake = Fake::serve(Script { list, ..Script::default() }).await;
    for all in ["--all", "-"] {
        let ran = run(&["list", all, "--endpoint", &fake.endpoint]).await;
        assert_eq!(ran.code, 75, "{ran:?}");
        assert!(ran.stdout.contains("i-1/eni-1") && ran.stderr.contains("incomplete"), "{ran:?}");
    }
}

#[tokio::test]
async fn an_instance_or_all_must_be_named() {
    for arguments in [
        &["watch"][..],
        &["list"],
        &["list", "i-1", "--all"],
        &["watch", "i-1", "--prefix", "i"],
        &["watch", "--all", "--state", "none"],
    ] {
        let ran = run(arguments).await;
        assert_eq!(ran.code, 64, "{arguments:?}: {ran:?}");
    }
}
