//! What callers write into headers and fields: deadline, trace, ids. An input is lines of `name:
//! value`; the names of the fields are those of the API.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::Duration;

use eni_gateway::grpc::parse::{List, ListScope};
use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, BatchAttachNetworkInterfacesRequest, GetAttachmentRequest,
    ListAttachmentsRequest, WatchAttachmentRequest,
};
use eni_gateway::grpc::{deadline, page, parse};
use eni_gateway::model::{Failure, InstanceId, Reason, TraceContext};
use eni_gateway::telemetry::context;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;

fuzz_target!(
    init: subscribe(),
    |data: &[u8]| {
        let mut headers = HeaderMap::new();
        let mut fields = BTreeMap::new();
        for line in data.split(|byte| *byte == b'\n') {
            let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line[at..].strip_prefix(b":").unwrap_or_default().trim_ascii();
            let name = &line[..at];
            let pair = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = pair {
                headers.append(name, value);
            }
            let value = String::from_utf8_lossy(value).into_owned();
            fields.insert(String::from_utf8_lossy(name), value);
        }
        deadline(&headers);
        trace(&headers);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        attach(AttachNetworkInterfaceRequest {
            instance_id: field("instance_id"),
            network_interface_id: field("network_interface_id"),
            request_id: field("request_id"),
            validate_only: false,
        });
        attach_batch(BatchAttachNetworkInterfacesRequest {
            instance_id: field("instance_id"),
            network_interface_ids: field("network_interface_ids")
                .split_terminator(',')
                .map(str::to_owned)
                .collect(),
            request_id: field("request_id"),
            ..Default::default()
        });
        reads(field("instance_id"), field("network_interface_id"));
        list(ListAttachmentsRequest {
            instance_id: field("instance_id"),
            page_size: field("page_size").parse().unwrap_or_default(),
            page_token: field("page_token"),
            ..Default::default()
        });
    }
);

fn subscribe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tracer = SdkTracerProvider::builder().build().tracer("fuzz");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
            .expect("there is none yet");
    });
}

/// Never longer than the header says, never shorter, never an accepted header that is none.
fn deadline(headers: &HeaderMap) {
    let Some(text) = headers.get("grpc-timeout") else {
        assert_eq!(deadline::parse(headers).expect("there is nothing to refuse"), None);
        return;
    };
    let said = text.to_str().ok().and_then(nanoseconds);
    match (deadline::parse(headers), said) {
        (Ok(Some(timeout)), Some(said)) => assert_eq!(timeout.as_nanos(), said),
        (Ok(None), Some(said)) => assert!(said > Duration::from_secs(365 * 24 * 3600).as_nanos()),
        (Err(failure), None) => refused(&failure, &["grpc-timeout"]),
        (read, said) => panic!("{text:?} was read as {read:?}, and says {said:?}"),
    }
}

/// The grammar of `grpc-timeout`, once more.
fn nanoseconds(text: &str) -> Option<u128> {
    let unit = match text.chars().last()? {
        'H' => 3_600_000_000_000,
        'M' => 60_000_000_000,
        'S' => 1_000_000_000,
        'm' => 1_000_000,
        'u' => 1_000,
        'n' => 1,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain =
        (1..=8).contains(&digits.len()) && digits.chars().all(|digit| digit.is_ascii_digit());
    plain.then(|| {
        digits.bytes().fold(0, |number, digit| number * 10 + u128::from(digit - b'0')) * unit
    })
}

/// A caller's valid trace is continued, and ours is valid whatever the caller sent; what a record
/// keeps says the same.
fn trace(headers: &HeaderMap) {
    let ours = |headers: &HeaderMap| {
        let span = tracing::info_span!("call");
        context::adopt_parent(&span, headers);
        span.in_scope(|| context::current_trace().expect("a span is entered"))
    };
    let trace = ours(headers);
    let id = trace_id(&trace.parent).expect("what we write is valid");
    if let Some(theirs) =
        headers.get("traceparent").and_then(|text| text.to_str().ok()).and_then(trace_id)
    {
        assert_eq!(id, theirs, "the caller's trace is continued");
    }
    let onward = [("traceparent", &trace.parent), ("tracestate", &trace.state)];
    let onward = onward.into_iter().filter(|(_, value)| !value.is_empty());
    let next = ours(&onward.map(header).collect());
    assert_eq!((trace_id(&next.parent), &next.state), (Some(id), &trace.state));

    let stored =
        |name| headers.get(name).map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    let kept = TraceContext {
        parent: stored("traceparent").unwrap_or_default(),
        state: stored("tracestate").unwrap_or_default(),
        ..TraceContext::default()
    };
    context::link_to(&tracing::info_span!("later"), &kept);
}

fn header((name, value): (&'static str, &String)) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::try_from(value).expect("what we write is a header");
    (HeaderName::from_static(name), value)
}

/// The trace's id of a `traceparent` of version 00, read strictly.
fn trace_id(text: &str) -> Option<&str> {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts[..] else {
        return None;
    };
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |text: &str| text.bytes().any(|byte| byte != b'0');
    let valid = version == "00"
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && some(trace)
        && some(span);
    valid.then_some(trace)
}

fn attach(request: AttachNetworkInterfaceRequest) {
    match parse::attach(&request) {
        Ok(read) => {
            id(read.instance.as_str(), &request.instance_id);
            id(read.eni.as_str(), &request.network_interface_id);
            let key = read.request_id.map(|id| id.to_string()).unwrap_or_default();
            assert_eq!(key, request.request_id.to_ascii_lowercase());
        }
        Err(failure) => refused(&failure, &["instance_id", "network_interface_id", "request_id"]),
    }
}

fn attach_batch(request: BatchAttachNetworkInterfacesRequest) {
    match parse::attach_batch(&request) {
        Ok(read) => {
            id(read.instance.as_str(), &request.instance_id);
            assert!((1..=parse::MAX_BATCH).contains(&read.enis.len()));
            assert_eq!(read.enis.len(), request.network_interface_ids.len());
            for (eni, sent) in read.enis.iter().zip(&request.network_interface_ids) {
                id(eni.as_str(), sent);
                assert_eq!(read.enis.iter().filter(|other| *other == eni).count(), 1);
            }
        }
        Err(failure) => {
            assert_eq!(failure.reason, Reason::InvalidField);
            let list = |name: &str| name.starts_with("network_interface_ids");
            let of_request = |name: &str| ["instance_id", "request_id"].contains(&name);
            let is_known = |name: &str| list(name) || of_request(name);
            assert!(!failure.fields.is_empty());
            assert!(failure.fields.iter().all(|(name, _)| is_known(name)), "{failure:?}");
        }
    }
}

fn reads(instance_id: String, network_interface_id: String) {
    let get = GetAttachmentRequest { instance_id, network_interface_id };
    let watch = WatchAttachmentRequest {
        instance_id: get.instance_id.clone(),
        network_interface_id: get.network_interface_id.clone(),
        ..Default::default()
    };
    match (parse::get(&get), parse::watch(&watch)) {
        (Ok((instance, eni)), Ok(watch)) => {
            assert_eq!((watch.instance, watch.eni), (instance, Some(eni)))
        }
        (Err(failure), Ok(watch)) => {
            assert!(watch.eni.is_none() && get.network_interface_id.is_empty());
            refused(&failure, &["network_interface_id"]);
        }
        (Err(_), Err(failure)) => refused(&failure, &["instance_id", "network_interface_id"]),
        (Ok(_), Err(failure)) => panic!("one refuses what the other takes: {failure}"),
    }
}

fn list(request: ListAttachmentsRequest) {
    match parse::list(&request) {
        Ok(List { scope: ListScope::Fleet(from, size), .. }) => {
            assert_eq!(request.instance_id, page::ALL_INSTANCES);
            assert!((1..=page::MAX_SIZE).contains(&size));
            if !request.page_token.is_empty() {
                assert_eq!(page::fleet_token(&from), request.page_token.to_ascii_lowercase());
            }
        }
        Ok(List { scope: ListScope::Instance(instance, page), .. }) => {
            id(instance.as_str(), &request.instance_id);
            assert!((1..=page::MAX_SIZE).contains(&page.size));
            assert_eq!(page.after.is_none(), request.page_token.is_empty());
            let other: InstanceId = "another-instance".parse().expect("an id");
            if instance != other && page.after.is_some() {
                assert!(
                    page::read_token(&request.page_token, &other).is_err(),
                    "a token is bound to its instance"
                );
            }
        }
        Err(failure) => refused(&failure, &["instance_id", "page_size", "page_token"]),
    }
}

fn id(read: &str, sent: &str) {
    assert_eq!(read, sent);
    assert!(
        (1..=128).contains(&sent.len())
            && sent.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    );
}

fn refused(failure: &Failure, fields: &[&str]) {
    assert_eq!(failure.reason, Reason::InvalidField);
    assert!(!failure.fields.is_empty());
    assert!(failure.fields.iter().all(|(name, _)| fields.contains(&name.as_str())), "{failure:?}");
    assert!(failure.message.len() < 500, "what was sent is not repeated");
}
