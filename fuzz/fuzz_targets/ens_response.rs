//! Whatever comes back from ENS or from a proxy on the way: what is said of an attach is no more
//! than the answer proves.
//!
//! An input is an HTTP answer as people write it: the status, headers, an empty line, the body.
#![no_main]

use std::time::Duration;

use eni_gateway::ens::classify::{self, EnsReply};
use eni_gateway::ens::redaction::Redaction;
use eni_gateway::ens::transport::Response;
use eni_gateway::ens::{EnsRefusal, Outcome, wire};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Most characters of ENS's texts that are kept.
const MOST: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some(response) = response(data) else {
        return;
    };
    assert!(
        response.retry_after.is_none_or(|wait| !wait.is_zero() && wait <= Duration::from_secs(120))
    );

    let reply = classify::response(&response, &Redaction::default());
    attach(&response, reply.clone());
    describe(reply);
});

fn response(data: &[u8]) -> Option<Response> {
    let (status, mut rest) = line(data);
    let status = std::str::from_utf8(status).ok()?.trim().parse().ok()?;
    let mut headers = HeaderMap::new();
    loop {
        let (header, after) = line(rest);
        rest = after;
        if header.is_empty() {
            return Some(Response::new(status, &headers, rest.to_vec()));
        }
        let at = header.iter().position(|byte| *byte == b':').unwrap_or(header.len());
        let (name, value) = header.split_at(at);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
}

fn line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

fn attach(response: &Response, reply: EnsReply) {
    let status = response.status;
    let json = serde_json::from_slice::<Value>(&response.body).ok().filter(Value::is_object);
    match reply.into_outcome() {
        Outcome::Accepted { ens_request_id } => {
            let body = json.expect("only JSON is an acceptance");
            assert!((200..300).contains(&status) && !ens_request_id.is_empty(), "{status}");
            let code = wire::refusal(&body).code.to_ascii_lowercase();
            assert!(matches!(code.as_str(), "" | "0" | "200" | "ok" | "success"), "{code}");
        }
        Outcome::Conflict(refusal) | Outcome::Unproven(refusal) => {
            assert!(!refusal.code.is_empty(), "ens gives a reason");
            bounded(&refusal);
        }
        Outcome::Refused(refusal) | Outcome::Throttled { refusal, .. } => {
            assert!(
                (400..500).contains(&status) && json.is_some(),
                "{status} proves that nothing was applied"
            );
            assert!(!refusal.code.is_empty(), "ens gives a reason");
            bounded(&refusal);
        }
        Outcome::Unanswered { refusal, .. } => refusal.iter().for_each(bounded),
        Outcome::NotSent { why } => panic!("it was answered, and so it was sent: {why}"),
    }
}

fn describe(reply: EnsReply) {
    let label = reply.label();
    let Ok(body) = reply.into_described() else {
        return;
    };
    assert_eq!(label, "ok", "an error holds no rows");
    match wire::interfaces(body.clone()) {
        Ok(page) => {
            for row in page.rows {
                assert_eq!(row.eni.as_str().parse(), Ok(row.eni));
                text(&row.status_text);
                text(&row.network);
            }
        }
        Err(problem) => assert!(problem.to_string().chars().count() < MOST + 100, "{problem}"),
    }
    for row in wire::instances(body).into_iter().flatten() {
        assert_eq!(row.instance.as_str().parse(), Ok(row.instance));
        text(&row.status);
        text(&row.network);
    }
}

fn bounded(refusal: &EnsRefusal) {
    text(&refusal.code);
    text(&refusal.message);
    text(&refusal.request_id);
}

/// It goes into records, errors and logs.
fn text(text: &str) {
    assert!(text.chars().count() <= MOST && !text.contains(char::is_control), "{text:?}");
}
