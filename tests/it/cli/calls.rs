//! The commands' requests, and their output.

use std::io::Write as _;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceResponse, AttachmentError, InstanceCapacity, ListAttachmentsResponse,
};
use serde_json::json;

use super::fake::{Fake, Script, accepted, at, attachment, failed};
use super::{run, run_unread};

fn pages() -> Script {
    let first = ListAttachmentsResponse {
        attachments: vec![attachment("eni-1", State::Attached, 7)],
        next_page_token: "more".to_owned(),
        observe_time: at(2000),
        incomplete: false,
    };
    let second = ListAttachmentsResponse {
        attachments: vec![failed("eni-22", 9)],
        next_page_token: String::new(),
        observe_time: at(1000),
        incomplete: false,
    };
    Script { list: [first, second].into(), ..Script::default() }
}

#[tokio::test]
async fn attach_sends_its_arguments() {
    let fake = Fake::serve(Script {
        attach: [accepted(attachment("eni-1", State::Attaching, 7))].into(),
        ..Script::default()
    })
    .await;
    let mut token = tempfile::NamedTempFile::new().unwrap();
    writeln!(token, "s3cret").unwrap();
    let id = "0b0bd2a5-6a1f-4ef4-9d3c-1d7f6d2b9f10";
    let ran = run(&[
        "attach",
        "i-1",
        "eni-1",
        "--request-id",
        id,
        "--timeout",
        "20s",
        "--endpoint",
        &fake.endpoint,
        "--token-file",
        token.path().to_str().unwrap(),
    ])
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.attach[0].instance_id, "i-1");
    assert_eq!(asked.attach[0].network_interface_id, "eni-1");
    assert_eq!(asked.attach[0].request_id, id);
    assert_eq!(asked.metadata[0].get("authorization").unwrap(), "Bearer s3cret");
    assert_eq!(asked.metadata[0].get("grpc-timeout").unwrap(), "20000000u");
}

#[tokio::test]
async fn attach_prints_json_with_the_protos_names() {
    let fake = Fake::serve(Script {
        attach: [accepted(attachment("eni-1", State::Attached, 1_795_424_400_000_000))].into(),
        ..Script::default()
    })
    .await;
    let ran = run(&["attach", "i-1", "eni-1", "-o", "json", "--endpoint", &fake.endpoint]).await;
    assert_eq!(
        ran.json(),
        [json!({
            "instanceId": "i-1",
            "networkInterfaceId": "eni-1",
            "uid": "0199b2c4-0000-7000-8000-000000000001",
            "state": "STATE_ATTACHED",
            "ensStatus": "InUse",
            "observeTime": "2026-11-23T09:00:01.500Z",
            "revision": "1795424400000000",
            "createTime": "2026-11-23T09:00:00Z",
            "updateTime": "2026-11-23T09:00:01.500Z",
            "ensRequestId": "6C1A",
            "stuck": false,
            "transitions": [
                {"state": "STATE_PENDING", "time": "2026-11-23T09:00:00Z"},
                {"state": "STATE_ATTACHED", "time": "2026-11-23T09:00:01.500Z"},
            ],
        })]
    );
}

#[tokio::test]
async fn validate_only_says_what_was_checked() {
    let answer = AttachNetworkInterfaceResponse {
        checks: vec!["fields".to_owned(), "room".to_owned()],
        ..AttachNetworkInterfaceResponse::default()
    };
    let script = || Script { attach: [Ok(answer.clone())].into(), ..Script::default() };
    let fake = Fake::serve(script()).await;
    let ran =
        run(&["attach", "i-1", "eni-1", "--validate-only", "--endpoint", &fake.endpoint]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "the attach is possible; checked:\n  fields\n  room\n")
    );
    assert!(fake.asked.lock().unwrap().attach[0].validate_only);
    let fake = Fake::serve(script()).await;
    let ran = run(&[
        "attach",
        "i-1",
        "eni-1",
        "--validate-only",
        "-o",
        "json",
        "--endpoint",
        &fake.endpoint,
    ])
    .await;
    assert_eq!(ran.json(), [json!({"checks": ["fields", "room"]})]);
}

#[tokio::test]
async fn get_shows_the_history() {
    let fake =
        Fake::serve(Script { get: [Ok(failed("eni-1", 7))].into(), ..Script::default() }).await;
    let ran = run(&["get", "i-1", "eni-1", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
}

#[tokio::test]
async fn list_reads_every_page() {
    let fake = Fake::serve(pages()).await;
    let ran = run(&["list", "i-1", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
    assert_eq!(
        fake.asked
            .lock()
            .unwrap()
            .lists
            .iter()
            .map(|list| list.page_token.as_str())
            .collect::<Vec<_>>(),
        ["", "more"]
    );
    let (said, when) = ran.stderr.split_once(" ago ").unwrap();
    assert!(said.starts_with("ENS was last asked for the whole instance "), "{said}");
    assert_eq!(when, "(2026-11-23T09:00:01Z)\n", "the older of the two");
}

#[tokio::test]
async fn a_list_that_may_be_incomplete_is_printed_and_is_no_success() {
    for (observe_time, said) in [
        (at(1000), "ENS was last asked for the whole instance "),
        (None, "ENS was never asked for the whole instance"),
    ] {
        for attachments in [vec![attachment("eni-1", State::Attached, 7)], Vec::new()] {
            let page = ListAttachmentsResponse {
                attachments: attachments.clone(),
                observe_time,
                incomplete: true,
                ..ListAttachmentsResponse::default()
            };
            let list = [page.clone(), page].into();
            let fake = Fake::serve(Script { list, ..Script::default() }).await;
            let ran = run(&["list", "i-1", "--endpoint", &fake.endpoint]).await;
            assert_eq!(ran.code, 75, "{ran:?}");
            assert_eq!(ran.stdout.contains("eni-1"), !attachments.is_empty(), "{ran:?}");
            assert!(
                ran.stderr.contains("may be incomplete") && ran.stderr.contains(said),
                "{ran:?}"
            );
            let ran = run(&["list", "i-1", "-o", "json", "--endpoint", &fake.endpoint]).await;
            assert_eq!((ran.code, ran.json().len()), (75, attachments.len()), "{ran:?}");
            let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
            assert_eq!(error["error"]["incomplete"], true, "{error}");
            let observed = observe_time.map(|_| "2026-11-23T09:00:01Z");
            assert_eq!(error["error"]["observeTime"].as_str(), observed, "{error}");
        }
    }
}

#[tokio::test]
async fn list_prints_one_object_a_line() {
    let fake = Fake::serve(pages()).await;
    let ran = run(&["list", "i-1", "-o", "json", "--endpoint", &fake.endpoint]).await;
    let lines = ran.json();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["error"]["reason"], "ATTACH_FAILED");
    assert_eq!(lines[1]["error"]["code"], 10);
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_failure() {
    for format in ["table", "json"] {
        let fake = Fake::serve(pages()).await;
        let ran = run_unread(&["list", "i-1", "-o", format, "--endpoint", &fake.endpoint]).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{format}");
    }
}

fn capacities() -> Vec<InstanceCapacity> {
    let known = InstanceCapacity {
        instance_id: "i-1".to_owned(),
        limit: Some(10),
        attached: Some(3),
        in_flight: Some(1),
        free: Some(6),
        queue_length: Some(0),
        instance_status: Some("Stopped".to_owned()),
        observe_time: at(1500),
        error: None,
    };
    let error = AttachmentError {
        code: tonic::Code::Unavailable as i32,
        reason: "ENS_THROTTLED".to_owned(),
        message: "the budget is used up".to_owned(),
        ..AttachmentError::default()
    };
    let unknown = InstanceCapacity {
        instance_id: "i-22".to_owned(),
        limit: Some(10),
        in_flight: Some(0),
        queue_length: Some(2),
        error: Some(error),
        ..InstanceCapacity::default()
    };
    vec![known, unknown]
}

#[tokio::test]
async fn capacity_shows_what_is_known() {
    let script = Script { capacities: [capacities()].into(), ..Script::default() };
    let fake = Fake::serve(script).await;
    let command = ["capacity", "i-1", "i-22", "--max-age", "5s", "--endpoint", &fake.endpoint];
    let ran = run(&command).await;
    assert_eq!(ran.code, 75, "{ran:?}");
    // The age depends on this machine's clock.
    let seen = ran.stdout.lines().map(|line| match (line.find(" ago"), line.find("Stopped  ")) {
        (Some(ago), Some(at)) => format!("{}SOME TIME{}", &line[..at + 9], &line[ago..]),
        _ => line.split_whitespace().collect::<Vec<_>>().join(" "),
    });
    insta::assert_snapshot!(seen.collect::<Vec<_>>().join("\n"));
    assert!(ran.stderr.contains("ENS_THROTTLED (UNAVAILABLE)"), "{ran:?}");
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.capacities[0].instance_ids, ["i-1", "i-22"]);
    assert_eq!(asked.capacities[0].max_age.map(|age| age.seconds), Some(5));
}

#[tokio::test]
async fn capacity_in_json_leaves_out_what_is_not_known() {
    let one = capacities()[..1].to_vec();
    let script = Script { capacities: [one, capacities()].into(), ..Script::default() };
    let fake = Fake::serve(script).await;
    let ran = run(&["capacity", "i-1", "-o", "json", "--endpoint", &fake.endpoint]).await;
    let known = json!({
        "instanceId": "i-1", "limit": 10, "attached": 3, "inFlight": 1, "free": 6,
        "queueLength": 0, "instanceStatus": "Stopped", "observeTime": "2026-11-23T09:00:01.500Z",
    });
    assert_eq!((ran.code, ran.json()), (0, vec![known.clone()]));
    assert_eq!(fake.asked.lock().unwrap().capacities[0].max_age, None);
    let ran = run(&["capacity", "i-1", "i-22", "-o", "json", "--endpoint", &fake.endpoint]).await;
    let unknown = json!({
        "instanceId": "i-22", "limit": 10, "inFlight": 0, "queueLength": 2,
        "error": {
            "code": 14, "reason": "ENS_THROTTLED", "message": "the budget is used up",
            "ensCode": "", "ensRequestId": "", "metadata": {},
        },
    });
    assert_eq!((ran.code, ran.json()), (75, vec![known, unknown]));
}
