//! One attach is one trace: from the caller through the asynchronous wait to its end, on any
//! replica.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::support::collector::{Collector, attribute};
use crate::support::gateway::{Stage, attach, eventually, try_attach, watch, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_watched_to_its_end_elsewhere_is_one_trace() {
    let collector = Collector::start().await;
    let stage = Stage::new(&["i-1"], 1).await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let (first, second) = (stage.replica(&settings).await, stage.replica(&settings).await);
    let mut request = within(Duration::from_secs(100), attach("i-1", "eni-0001"));
    request
        .metadata_mut()
        .insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    try_attach(&first.client().await, request).await.unwrap();
    let end = watch(&second.client().await, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);

    let of_trace = || -> Vec<Span> {
        collector.spans().into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect()
    };
    eventually("the end was not traced", async || {
        of_trace().iter().any(|span| span.name == "attachment")
    })
    .await;
    let server =
        |spans: &[Span]| spans.iter().find(|span| hex(&span.parent_span_id) == CALLER).cloned();
    eventually("the call was not traced", async || server(&of_trace()).is_some()).await;
    let server = server(&of_trace()).unwrap();
    let method = "eni.gateway.v1.AttachmentService/AttachNetworkInterface";
    assert_eq!(attribute(&server, "rpc.method").as_deref(), Some(method));
    assert_eq!(attribute(&server, "rpc.response.status_code").as_deref(), Some("OK"));

    // What happened under the server's span. Spans are exported as they end, so that some may come
    // without those above them.
    let under_server = |wanted: &dyn Fn(&Span) -> bool| {
        let spans = of_trace();
        let is_under = |span: &Span| {
            let mut parent = span.parent_span_id.clone();
            while let Some(above) = spans.iter().find(|span| span.span_id == parent) {
                if above.span_id == server.span_id {
                    return true;
                }
                parent = above.parent_span_id.clone();
            }
            false
        };
        spans.iter().find(|span| wanted(span) && is_under(span)).cloned()
    };
    let ens = |span: &Span| span.name == "AttachNetworkInterface";
    eventually("the call of ENS is no part of it", async || under_server(&ens).is_some()).await;
    assert_eq!(
        attribute(&under_server(&ens).unwrap(), "eni_gateway.ens.request_id").as_deref(),
        Some(end.ens_request_id.as_str())
    );
    let wait = |span: &Span| span.name == "lock wait";
    eventually("the wait for the lock is no part of it", async || under_server(&wait).is_some())
        .await;
    let ledger = |span: &Span| attribute(span, "db.system.name").as_deref() == Some("redis");
    eventually("the ledger's calls are no part of it", async || under_server(&ledger).is_some())
        .await;

    let spans = of_trace();
    let attachment = spans.iter().find(|span| span.name == "attachment").unwrap();
    assert_eq!(attachment.parent_span_id, server.span_id);
    assert!(
        attachment.end_time_unix_nano > server.end_time_unix_nano,
        "it spans the asynchronous wait"
    );
    // The poll that saw the end is a trace of its own, and links to this one.
    let linked = |span: &Span| span.links.iter().any(|link| hex(&link.trace_id) == TRACE);
    eventually("no poll links to it", async || collector.spans().iter().any(linked)).await;
}
