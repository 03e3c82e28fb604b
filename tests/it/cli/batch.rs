//! `attach` of several ENIs.

use eni_gateway::grpc::proto::attach_result::Result as Of;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::{AttachResult, AttachmentError};
use serde_json::json;
use tonic::Code;

use super::fake::{Fake, Script, Step, attachment, failed};
use super::run;

fn accepted(eni: &str, revision: u64) -> AttachResult {
    AttachResult {
        network_interface_id: eni.to_owned(),
        result: Some(Of::Attachment(attachment(eni, State::Attaching, revision))),
        checks: Vec::new(),
    }
}

fn refused(eni: &str, code: Code, reason: &str) -> AttachResult {
    let error = AttachmentError {
        code: code as i32,
        reason: reason.to_owned(),
        message: "why".to_owned(),
        retry_delay: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
        ..AttachmentError::default()
    };
    AttachResult {
        network_interface_id: eni.to_owned(),
        result: Some(Of::Error(error)),
        checks: Vec::new(),
    }
}

fn watched(batch: Vec<AttachResult>, watch: Vec<Step>) -> Script {
    Script { batch: [batch].into(), watch: [watch].into(), ..Script::default() }
}

fn show(attachment: eni_gateway::grpc::proto::Attachment) -> Step {
    Step::Show(attachment.into())
}

#[tokio::test]
async fn each_eni_has_its_line_and_a_failure_its_exit_code() {
    let results = vec![
        accepted("eni-1", 7),
        refused("eni-2", Code::DeadlineExceeded, "LOCK_WAIT"),
        refused("eni-3", Code::ResourceExhausted, "ENI_LIMIT_EXCEEDED"),
    ];
    let script = || Script { batch: [results.clone()].into(), ..Script::default() };
    let fake = Fake::serve(script()).await;
    let id = "0b0bd2a5-6a1f-4ef4-9d3c-1d7f6d2b9f10";
    let command = ["attach", "i-1", "eni-1", "eni-2", "eni-3", "--require-all", "--request-id", id];
    let ran = run(&[&command[..], &["--endpoint", &fake.endpoint]].concat()).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    insta::assert_snapshot!(format!("{}\n{}", ran.stdout, ran.stderr));
    let asked = fake.asked.lock().unwrap().batch[0].clone();
    assert_eq!(asked.network_interface_ids, ["eni-1", "eni-2", "eni-3"]);
    assert_eq!((asked.request_id.as_str(), asked.require_all), (id, true));

    let fake = Fake::serve(script()).await;
    let command = ["attach", "i-1", "eni-1", "eni-2", "eni-3", "-o", "json"];
    let ran = run(&[&command[..], &["--endpoint", &fake.endpoint]].concat()).await;
    let lines = ran.json();
    assert_eq!((ran.code, lines.len()), (1, 3), "{ran:?}");
    assert_eq!(lines[0]["attachment"]["state"], "STATE_ATTACHING");
    let expected = json!({
        "networkInterfaceId": "eni-2",
        "error": {
            "code": 4, "reason": "LOCK_WAIT", "message": "why", "ensCode": "", "ensRequestId": "",
            "metadata": {}, "retryDelay": "1.5s",
        },
    });
    assert_eq!(lines[1], expected);
    assert!(ran.stderr.contains("ENI_LIMIT_EXCEEDED"), "the lasting one: {}", ran.stderr);
}

#[tokio::test]
async fn a_watch_ends_when_nothing_is_in_flight_on_the_instance() {
    let results =
        vec![accepted("eni-1", 3), refused("eni-2", Code::DeadlineExceeded, "OUTCOME_UNKNOWN")];
    let stream = vec![
        show(attachment("eni-1", State::Attaching, 3)),
        show(attachment("eni-other", State::Attaching, 4)),
        Step::Beat { revision: 4, interval: std::time::Duration::from_secs(15) },
        show(attachment("eni-1", State::Attached, 5)),
        show(attachment("eni-2", State::Attached, 6)),
        show(attachment("eni-other", State::Attached, 7)),
    ];
    let fake = Fake::serve(watched(results.clone(), stream)).await;
    let command = ["attach", "i-1", "eni-1", "eni-2", "--watch", "--endpoint", &fake.endpoint];
    let ran = run(&command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(format!("{}\n{}", ran.stdout, ran.stderr));
    let asked = fake.asked.lock().unwrap().watch[0].clone();
    assert_eq!((asked.network_interface_id.as_str(), asked.follow), ("", false));

    let stream = vec![
        show(attachment("eni-1", State::Attached, 5)),
        show(failed("eni-2", 6)),
        Step::Beat { revision: 6, interval: std::time::Duration::from_secs(15) },
    ];
    let fake = Fake::serve(watched(results, stream)).await;
    let command = ["attach", "i-1", "eni-1", "eni-2", "--watch", "--endpoint", &fake.endpoint];
    let ran = run(&command).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("ATTACH_FAILED"), "{}", ran.stderr);
}

#[tokio::test]
async fn nothing_is_watched_if_nothing_was_sent() {
    let results = vec![
        refused("eni-1", Code::FailedPrecondition, "INSTANCE_NOT_STOPPED"),
        refused("eni-2", Code::FailedPrecondition, "INSTANCE_NOT_STOPPED"),
    ];
    let fake = Fake::serve(watched(results, Vec::new())).await;
    let command = ["attach", "i-1", "eni-1", "eni-2", "--watch", "--endpoint", &fake.endpoint];
    let ran = run(&command).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(fake.asked.lock().unwrap().watch.is_empty());
}

#[tokio::test]
async fn a_check_of_several_shows_the_checks_of_each() {
    let checked = AttachResult {
        network_interface_id: "eni-1".to_owned(),
        result: None,
        checks: vec!["fields".to_owned(), "slots".to_owned()],
    };
    let results = vec![checked, refused("eni-2", Code::NotFound, "ENI_NOT_FOUND")];
    let fake = Fake::serve(Script { batch: [results].into(), ..Script::default() }).await;
    let endpoint = fake.endpoint.as_str();
    let command = ["attach", "i-1", "eni-1", "eni-2", "--validate-only", "--endpoint", endpoint];
    let ran = run(&command).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let expected = "eni-1:\nthe attach is possible; checked:\n  fields\n  slots\n";
    assert_eq!(ran.stdout, expected);
    assert!(ran.stderr.starts_with("failed: eni-2: ENI_NOT_FOUND (NOT_FOUND): why\n"), "{ran:?}");
    assert!(fake.asked.lock().unwrap().batch[0].validate_only);
}
