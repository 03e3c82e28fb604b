use rstest::rstest;
use serde_json::json;

use super::*;

fn reply(status: u16, body: &str) -> EnsReply {
    let body = body.as_bytes().to_vec();
    let response = Response { status, retry_after: None, date: None, body };
    super::response(&response, &Redaction::default())
}

fn error(code: &str) -> String {
    json!({"Code": code, "Message": "why", "RequestId": "R", "HostId": "ens.aliyuncs.com"})
        .to_string()
}

#[rstest]
#[case::empty(200, "", "unanswered")]
#[case::html(200, "<html>", "unanswered")]
#[case::bare(200, "{}", "unanswered")]
#[case::empty_id(200, r#"{"RequestId":""}"#, "unanswered")]
#[case::array(200, "[]", "unanswered")]
#[case::text(200, r#""R""#, "unanswered")]
#[case::accepted(200, r#"{"RequestId":"R"}"#, "ok")]
#[case::lower(200, r#"{"requestId":"R"}"#, "ok")]
#[case::code_0(200, r#"{"Code":0,"RequestId":"R"}"#, "ok")]
#[case::code_text(200, r#"{"Code":"0","RequestId":"R"}"#, "ok")]
#[case::error_in_200(200, r#"{"Code":"InstanceNotFound","RequestId":"R"}"#, "unanswered")]
#[case::redirect(307, r#"{"RequestId":"R"}"#, "unanswered")]
#[case::not_modified(304, "", "unanswered")]
#[case::gateway(502, "<html>bad gateway</html>", "unanswered")]
#[case::forbidden_html(403, "<html>", "unanswered")]
#[case::no_code(400, r#"{"RequestId":"R"}"#, "unanswered")]
#[case::number_code(403, r#"{"code":403,"message":"proxy"}"#, "unanswered")]
fn a_response_settles_only_what_it_proves(
    #[case] status: u16,
    #[case] body: &str,
    #[case] label: &str,
) {
    assert_eq!(reply(status, body).label(), label);
}

#[rstest]
#[case("InvalidEniId.NotFound", "refused")]
#[case("NoPermission", "denied")]
#[case("InvalidAccessKeyId.Inactive", "denied")]
#[case("InvalidParameter.InstanceId", "refused")]
#[case("SomethingNew", "refused")]
#[case("InternalErrorElsewhere", "refused")]
#[case("Throttling", "throttled")]
#[case("Throttling.User", "throttled")]
#[case("Rejected.Throttling", "throttled")]
#[case("ens.interface.error", "unanswered")]
#[case("Ens.Interface.Error", "unanswered")]
#[case("SignatureNonceUsed", "unanswered")]
#[case("ServiceUnavailable", "unanswered")]
#[case("InternalError", "unanswered")]
#[case("InternalError.Timeout", "unanswered")]
#[case("UnknownError", "unanswered")]
#[case("OperationConflict", "unanswered")]
#[case("TaskConflict", "unanswered")]
#[case("SystemBusy", "unanswered")]
#[case("LastTokenProcessing", "unanswered")]
#[case("InvalidOperation.TaskConflict", "unanswered")]
#[case("Operation.Conflict", "unanswered")]
#[case("InvalidOperation.Conflict", "unanswered")]
#[case("Operation_Conflict", "unanswered")]
#[case("operation-conflict.Eni", "unanswered")]
#[case("Task.Conflict", "unanswered")]
#[case("System.Busy", "unanswered")]
#[case("Operation.Blocking", "unanswered")]
#[case("OperationInProgress", "unanswered")]
#[case("Conflict", "unanswered")]
#[case("IpConflict", "refused")]
#[case("Ip.Conflict", "refused")]
#[case("Conflict.Ip", "refused")]
#[case("ProcessingNotAllowed", "refused")]
fn a_code_decides_at_any_4xx_and_nothing_at_5xx(#[case] code: &str, #[case] label: &str) {
    for status in [400, 403, 404, 429] {
        let expected = if status == 429 && ["refused", "denied"].contains(&label) {
            "throttled"
        } else {
            label
        };
        assert_eq!(reply(status, &error(code)).label(), expected, "{status}");
    }
    for status in [500, 502, 503, 504] {
        let got = reply(status, &error(code));
        assert_eq!(
            (got.label(), got.code(), got.request_id()),
            ("unanswered", Some(code), Some("R")),
            "{status}"
        );
    }
}

#[rstest]
#[case::throttling("Throttling.User", None, 400, "throttled")]
#[case::throttling_429("Throttling", None, 429, "throttled")]
#[case::proof("InstanceNotFound", None, 400, "refused")]
#[case::proof_of_the_account("NoPermission", None, 403, "refused")]
#[case::proof_by_a_pattern("InvalidParameter.InstanceId", None, 400, "refused")]
#[case::own_copy("InvalidOperation.InvalidEniStatus", None, 400, "conflict")]
#[case::unlisted("OperationDenied.Something", None, 400, "unproven")]
#[case::unlisted_404("SomethingNew", None, 404, "unproven")]
#[case::labelled("InstanceNotFound", None, 429, "unanswered")]
#[case::labelled_conflict("InvalidOperation.InvalidEniStatus", None, 429, "unanswered")]
#[case::with_a_delay("InstanceNotFound", Some(1), 400, "unanswered")]
#[case::unlisted_with_a_delay("Busy", Some(1), 400, "unanswered")]
#[case::catch_all("ens.interface.error", None, 400, "unanswered")]
fn only_a_known_code_that_nothing_contradicts_proves_that_nothing_was_applied(
    #[case] code: &str,
    #[case] retry_after: Option<u64>,
    #[case] status: u16,
    #[case] expected: &str,
) {
    let reply = response(
        &Response {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            date: None,
            body: error(code).into_bytes(),
        },
        &Redaction::default(),
    );
    let outcome = match reply.into_outcome() {
        Outcome::Accepted { .. } => "accepted",
        Outcome::Refused(_) => "refused",
        Outcome::Conflict(_) => "conflict",
        Outcome::Unproven(_) => "unproven",
        Outcome::Throttled { .. } => "throttled",
        Outcome::NotSent { .. } => "not_sent",
        Outcome::Unanswered { .. } => "unanswered",
    };
    assert_eq!(outcome, expected, "{status} {code}");
}

#[test]
fn throttling_is_reported_even_where_the_outcome_is_open() {
    assert_eq!(
        reply(503, &error("Throttling")).throttling(),
        Some(Throttling { retry_after: None })
    );
    assert_eq!(reply(503, &error("ServiceUnavailable")).throttling(), None);
}

#[test]
fn retry_after_makes_a_refusal_a_throttling() {
    let retry_after = Some(Duration::from_millis(700));
    let got = response(
        &Response { status: 400, retry_after, date: None, body: error("Busy").into_bytes() },
        &Redaction::default(),
    );
    assert_eq!(got.throttling(), Some(Throttling { retry_after }));
}

#[test]
fn an_unknown_id_is_distinguished() {
    let got = reply(400, &error("InvalidEniId.NotFound")).into_described();
    assert!(matches!(got, Err(DescribeError::UnknownId(_))), "{got:?}");
    let got = reply(400, &error("NoPermission")).into_described();
    assert!(matches!(got, Err(DescribeError::Refused(_))), "{got:?}");
}
