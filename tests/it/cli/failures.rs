//! Failures: their message on stderr, and their exit code.

use tonic::{Code, Status};

use super::fake::{Fake, Script, accepted, failed, refusal};
use super::{Ran, run};

async fn attach_refused(status: Status, options: &[&str]) -> Ran {
    let fake = Fake::serve(Script { attach: [Err(status)].into(), ..Script::default() }).await;
    run(&[&["attach", "i-1", "eni-1", "--endpoint", &fake.endpoint], options].concat()).await
}

fn full() -> Status {
    let metadata = [("instanceId", "i-1"), ("limit", "10"), ("attached", "9"), ("inFlight", "1")];
    refusal(
        Code::ResourceExhausted,
        "ENI_LIMIT_EXCEEDED",
        "instance i-1 has 10 of 10 ENIs",
        &metadata,
    )
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do() {
    let ran = attach_refused(full(), &[]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(ran.stderr);
}

#[tokio::test]
async fn a_refusal_is_json_where_json_is_wanted() {
    let ran = attach_refused(full(), &["-o", "json"]).await;
    assert_eq!(ran.code, 1);
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&error).unwrap());
}

#[tokio::test]
async fn a_field_that_the_gateway_rejects_is_named() {
    let ran =
        attach_refused(refusal(Code::InvalidArgument, "INVALID_FIELD", "a field is bad", &[]), &[])
            .await;
    assert_eq!(ran.code, 64);
    assert!(ran.stderr.contains("field instance_id: must not be empty"), "{}", ran.stderr);
}

#[rstest::rstest]
#[case(Code::Unavailable, "COORDINATION_UNAVAILABLE", 75)]
#[case(Code::Unavailable, "ENS_THROTTLED", 75)]
#[case(Code::DeadlineExceeded, "LOCK_WAIT", 75)]
#[case(Code::PermissionDenied, "CALLER_FORBIDDEN", 77)]
#[case(Code::Unauthenticated, "CALLER_UNAUTHENTICATED", 77)]
#[case(Code::NotFound, "INSTANCE_NOT_FOUND", 1)]
#[case(Code::Internal, "ENS_PERMISSION_DENIED", 77)]
#[tokio::test]
async fn the_exit_code_says_what_kind_it_was(
    #[case] code: Code,
    #[case] reason: &str,
    #[case] exit: i32,
) {
    let ran = attach_refused(refusal(code, reason, "as reported", &[]), &[]).await;
    assert_eq!(ran.code, exit, "{ran:?}");
    assert!(ran.stderr.starts_with(&format!("error: {reason} (")), "{}", ran.stderr);
}

#[tokio::test]
async fn no_answer_in_time_is_an_unknown_outcome() {
    let fake = Fake::serve(Script::default()).await;
    let ran =
        run(&["attach", "i-1", "eni-1", "--timeout", "5s", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 75, "{ran:?}");
    insta::assert_snapshot!(ran.stderr);
}

#[tokio::test]
async fn an_attachment_that_came_back_failed_is_a_failure() {
    let fake =
        Fake::serve(Script { attach: [accepted(failed("eni-1", 7))].into(), ..Script::default() })
            .await;
    let ran = run(&["attach", "i-1", "eni-1", "--endpoint", &fake.endpoint]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("FAILED"), "{}", ran.stdout);
    assert!(ran.stderr.starts_with("error: ATTACH_FAILED (ABORTED): "), "{}", ran.stderr);
}

#[tokio::test]
async fn an_endpoint_holds_no_secret_and_shows_none_to_others() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "t0ken").unwrap();
    let token = token.path().to_str().unwrap();
    for (arguments, says) in [
        (&["--endpoint", "http://user:s3cr3t@127.0.0.1:1"][..], "has no user and no password"),
        (&["--endpoint", "http://127.0.0.1:1/path"], "without a path"),
        (
            &["--endpoint", "http://gateway.example:1", "--token-file", token],
            "readable on the network",
        ),
        (&["--timeout", "0s"], "longer than 0s"),
    ] {
        let ran = run(&[&["list", "i-1"], arguments].concat()).await;
        assert_eq!(ran.code, 64, "{}", ran.stderr);
        assert!(ran.stderr.contains(says) && !ran.stderr.contains("s3cr3t"), "{}", ran.stderr);
    }
}
