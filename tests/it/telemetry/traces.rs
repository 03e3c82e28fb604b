//! One attach is one trace: real spans arrive at a collector with the right parents, links, times.

use std::time::Duration;

use eni_gateway::model::{
    Attachment, Failure, Reason, Revision, State, Timestamp, TraceContext, Transition, Uid, Unknown,
};
use eni_gateway::names::{attribute as name, span as span_name};
use eni_gateway::telemetry::context::{
    adopt_parent, current_trace, emit_attachment_span, emit_lock_wait_span, link_to, poll_span,
};
use eni_gateway::telemetry::init::build;
use eni_gateway::telemetry::{Settings, Telemetry};
use http::HeaderMap;
use tokio::net::TcpListener;
use tracing::info_span;
use tracing::subscriber::DefaultGuard;

use super::{JSON, Log, variables};
use crate::support::collector::{Collector, attribute};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";
const FLUSH: Duration = Duration::from_secs(60);

fn start(pairs: &[(&'static str, &str)]) -> (DefaultGuard, Telemetry) {
    let (subscriber, telemetry) =
        build(&variables(pairs), JSON, Log::default()).expect("it can be set up");
    (tracing::subscriber::set_default(subscriber), telemetry)
}

fn from_caller(flags: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let parent = format!("00-{TRACE_ID}-{CALLER_SPAN}-{flags}");
    headers.insert("traceparent", parent.parse().expect("it is a header"));
    headers.insert("tracestate", "vendor=1".parse().expect("it is a header"));
    headers
}

/// An RPC as the gateway traces it; what is kept of its trace in the attempt's record.
fn rpc(headers: &HeaderMap) -> Option<TraceContext> {
    let span = info_span!(target: "eni_gateway", "rpc", otel.kind = "server");
    adopt_parent(&span, headers);
    span.in_scope(|| {
        emit_lock_wait_span(Duration::from_secs(3));
        current_trace()
    })
}

fn attachment(error: Option<Failure>) -> Attachment {
    let at = |seconds: u64| Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000);
    let state = if error.is_some() { State::Failed } else { State::Attached };
    Attachment {
        instance: "i-1".parse().expect("it is an id"),
        eni: "eni-1".parse().expect("it is an id"),
        uid: Uid(uuid::Uuid::from_u128(7)),
        state,
        ens_status: "InUse".to_owned(),
        observed_at: None,
        revision: Revision(1),
        created_at: at(0),
        updated_at: at(42),
        ens_request_id: "REQUEST".to_owned(),
        error,
        transitions: vec![Transition::new(State::Pending, at(0)), Transition::new(state, at(42))],
        stuck: false,
        unknown: Unknown::default(),
    }
}

#[tokio::test]
async fn one_attach_is_one_trace_with_the_right_parents_links_and_times() {
    let collector = Collector::start().await;
    let (guard, telemetry) = start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]);
    telemetry.make_global();

    let trace = rpc(&from_caller("01")).expect("there is a trace");
    assert!(
        trace.parent.starts_with(&format!("00-{TRACE_ID}-")) && trace.parent.ends_with("-01"),
        "{trace:?}"
    );
    assert_eq!(trace.state, "vendor=1");

    let poll = poll_span(2);
    link_to(&poll, &trace);
    drop(poll);
    let refusal = Failure::new(Reason::AttachFailed, "ens showed the eni free again");
    emit_attachment_span(&trace, &attachment(Some(refusal)));
    drop(guard);
    telemetry.flush(FLUSH).await;

    let server = collector.span("rpc");
    assert_eq!(hex::encode(&server.trace_id), TRACE_ID);
    assert_eq!(hex::encode(&server.parent_span_id), CALLER_SPAN);
    let wait = collector.span(span_name::LOCK_WAIT);
    assert_eq!(wait.parent_span_id, server.span_id);
    assert_eq!(wait.end_time_unix_nano - wait.start_time_unix_nano, 3_000_000_000);

    let poll = collector.span(span_name::POLL);
    assert_ne!(
        poll.trace_id, server.trace_id,
        "a poll serves many attempts and is a trace of its own"
    );
    assert_eq!(poll.links.len(), 1);
    assert_eq!(
        (&poll.links[0].trace_id, &poll.links[0].span_id),
        (&server.trace_id, &server.span_id)
    );
    assert_eq!(attribute(&poll, name::BATCH_SIZE).as_deref(), Some("2"));

    let whole = collector.span(span_name::ATTACHMENT);
    assert_eq!((&whole.trace_id, &whole.parent_span_id), (&server.trace_id, &server.span_id));
    assert_eq!(whole.start_time_unix_nano, 1_700_000_000_000_000_000);
    assert_eq!(whole.end_time_unix_nano, 1_700_000_042_000_000_000);
    assert_eq!(whole.status.as_ref().map(|status| status.code), Some(2), "the status is error");
    for (key, value) in [
        (name::INSTANCE_ID, "i-1"),
        (name::INTERFACE_ID, "eni-1"),
        (name::ATTACHMENT_UID, "00000000-0000-0000-0000-000000000007"),
        (name::ATTACHMENT_STATE, "FAILED"),
        (name::ERROR_TYPE, "ATTACH_FAILED"),
        (name::ENS_REQUEST_ID, "REQUEST"),
    ] {
        assert_eq!(attribute(&whole, key).as_deref(), Some(value), "{key}");
    }
    let events: Vec<_> = whole
        .events
        .iter()
        .map(|event| (event.name.as_str(), event.time_unix_nano / 1_000_000_000))
        .collect();
    assert_eq!(events, [("PENDING", 1_700_000_000), ("FAILED", 1_700_000_042)]);

    let resource = collector.resources().remove(0).resource.expect("there is a resource");
    let service = resource.attributes.iter().find(|attribute| attribute.key == "service.name");
    assert!(format!("{service:?}").contains("eni-gateway"), "{service:?}");
}

#[tokio::test]
async fn what_the_caller_does_not_sample_is_not_exported_but_passed_on() {
    let collector = Collector::start().await;
    let (guard, telemetry) = start(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.endpoint)]);
    telemetry.make_global();
    let trace = rpc(&from_caller("00")).expect("there is a trace");
    info_span!(target: "eni_gateway", "mark").in_scope(|| {});
    drop(guard);
    telemetry.flush(FLUSH).await;
    assert!(
        trace.parent.starts_with(&format!("00-{TRACE_ID}-")) && trace.parent.ends_with("-00"),
        "{trace:?}"
    );
    let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["mark"]);
}

#[tokio::test]
async fn a_caller_that_is_not_followed_decides_nothing() {
    let settings = Settings { follow_sampling: false, ..JSON };
    for (sampler, exported) in [("parentbased_always_on", 2), ("parentbased_always_off", 0)] {
        for flags in ["00", "01"] {
            let collector = Collector::start().await;
            let pairs = [
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.endpoint.as_str()),
                ("OTEL_TRACES_SAMPLER", sampler),
            ];
            let (subscriber, telemetry) =
                build(&variables(&pairs), settings, Log::default()).expect("it can be set up");
            telemetry.make_global();
            let trace = tracing::subscriber::with_default(subscriber, || rpc(&from_caller(flags)));
            telemetry.flush(FLUSH).await;
            let trace = trace.expect("there is a trace");
            assert!(trace.parent.contains(TRACE_ID) && trace.state == "vendor=1", "{trace:?}");
            let spans = collector.spans();
            let ours: Vec<_> =
                spans.iter().filter(|span| hex::encode(&span.trace_id) == TRACE_ID).collect();
            assert_eq!(ours.len(), exported, "{sampler} {flags}: {spans:?}");
        }
    }
}

#[tokio::test]
async fn a_long_tracestate_loses_its_oldest_members() {
    let (_guard, _telemetry) = start(&[]);
    let mut headers = from_caller("01");
    let members: Vec<_> = (0..30).map(|n| format!("v{n:02}={}", "x".repeat(95))).collect();
    headers.insert("tracestate", members.join(",").parse().expect("it is a header"));
    let trace = rpc(&headers).expect("there is a trace");
    assert_eq!(trace.state, members[..5].join(","));
    headers.insert("tracestate", "x".repeat(8000).parse().expect("it is a header"));
    assert_eq!(rpc(&headers).expect("there is a trace").state, "");
}

#[tokio::test]
async fn spans_of_libraries_and_a_quiet_log_do_not_change_traces() {
    let collector = Collector::start().await;
    let (guard, telemetry) =
        start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint), ("RUST_LOG", "error")]);
    telemetry.make_global();
    rpc(&HeaderMap::new());
    info_span!(target: "h2", "frame").in_scope(|| {});
    drop(guard);
    telemetry.flush(FLUSH).await;
    let mut names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["lock wait", "rpc"]);
}

#[tokio::test]
async fn without_an_endpoint_context_is_real_and_nothing_is_sent() {
    for pairs in [
        &[][..],
        &[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")][..],
    ] {
        let (_guard, telemetry) = start(pairs);
        let own = rpc(&HeaderMap::new()).expect("there is a trace");
        assert_eq!(own.parent.len(), 55);
        let continued = rpc(&from_caller("01")).expect("there is a trace");
        assert!(continued.parent.contains(TRACE_ID), "{continued:?}");
        let onward = info_span!(target: "eni_gateway", "client").in_scope(current_trace);
        let onward = onward.expect("there is a trace");
        assert!(!onward.parent.is_empty() && onward.state.is_empty(), "{onward:?}");
        telemetry.flush(FLUSH).await;
    }
}

#[tokio::test]
async fn a_damaged_context_is_no_context() {
    let (_guard, _telemetry) = start(&[]);
    for parent in [
        "",
        "00-0-0-01",
        "00-00000000000000000000000000000000-0000000000000000-01",
        "\u{fc}",
        &"x".repeat(10_000),
    ] {
        let trace = TraceContext {
            parent: parent.to_owned(),
            state: "=,=".to_owned(),
            ..TraceContext::default()
        };
        emit_attachment_span(&trace, &attachment(None));
        link_to(&info_span!(target: "eni_gateway", "poll"), &trace);
    }
    assert_eq!(current_trace(), None, "there is no span");
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_the_end_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("it is bound"));
    let (guard, telemetry) = start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    rpc(&HeaderMap::new());
    drop(guard);
    let begun = tokio::time::Instant::now();
    telemetry.flush(Duration::from_millis(300)).await;
    // By itself the exporter would wait for ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(9), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_encrypted_collector_can_be_named_and_a_missing_certificate_is_said() {
    let set_up = |pairs: &[(&'static str, &str)]| {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1");
        let pairs: Vec<_> = pairs.iter().copied().chain([endpoint]).collect();
        build(&variables(&pairs), JSON, Log::default()).map(|(_, telemetry)| telemetry)
    };
    assert!(set_up(&[]).is_ok());
    let missing = set_up(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")]);
    let error = missing.expect_err("there is no such file").to_string();
    assert!(error.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{error}");
}
