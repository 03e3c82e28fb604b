//! The report of each RPC.

use std::io;
use std::sync::{Arc, Mutex};

use eni_gateway::drain::Phase;
use eni_gateway::model::State;
use serde_json::Value;
use tokio_stream::StreamExt;

use super::fakes::attachment;
use super::gateway::{Gateway, attach, get, watch};

#[tokio::test]
async fn every_rpc_is_reported_once_by_its_own_status() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 3)).await;
    gateway.ens.show(&"i-1".parse().unwrap(), &"eni-1".parse().unwrap(), "InUse");
    let mut client = gateway.client().await;
    client.attach_network_interface(attach("i-1", "eni-1")).await.expect("attached");
    client.attach_network_interface(attach("", "")).await.expect_err("bad fields");
    let seen = gateway.reported(2).await;
    let statuses: Vec<_> =
        seen.iter().map(|report| (report.method, report.status, report.error_type)).collect();
    let method = "eni.gateway.v1.AttachmentService/AttachNetworkInterface";
    assert_eq!(statuses, [(method, "OK", None), (method, "INVALID_ARGUMENT", None)]);
}

#[tokio::test]
async fn a_stream_is_reported_when_it_ends() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut stream =
        client.watch_attachment(watch("i-1", "eni-1", true)).await.expect("a stream").into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    assert!(gateway.reports.lock().expect("no test panics in here").is_empty());
    gateway.drain.enter(Phase::Draining);
    while stream.next().await.is_some_and(|message| message.is_ok()) {}
    let seen = gateway.reported(1).await;
    assert_eq!((seen[0].status, seen[0].error_type), ("UNAVAILABLE", Some("UNAVAILABLE")));
}

#[tokio::test]
async fn who_hangs_up_is_reported_as_cancelled() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut stream =
        client.watch_attachment(watch("i-1", "eni-1", true)).await.expect("a stream").into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    drop(stream);
    assert_eq!(gateway.reported(1).await[0].status, "CANCELLED");
}

#[tokio::test]
async fn an_unknown_method_becomes_no_label() {
    let gateway = Gateway::start().await;
    let mut grpc = tonic::client::Grpc::new(gateway.channel().await);
    grpc.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/eni.gateway.v1.AttachmentService/Detach");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let status =
        grpc.unary(tonic::Request::new(()), path, codec).await.expect_err("no such method");
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert_eq!(gateway.reported(1).await[0].method, "_OTHER");
}

/// A log, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics in here").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn one_line_is_logged_with_the_span_by_the_conventions() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    // The runtime has one thread: the server's tasks run under this subscriber too.
    let _default = tracing::subscriber::set_default(subscriber);
    let gateway = Gateway::start().await;
    gateway.client().await.get_attachment(get("i-1", "eni-1")).await.expect_err("nothing is there");
    gateway.reported(1).await;

    let bytes = log.0.lock().expect("no test panics in here").clone();
    let lines: Vec<Value> = String::from_utf8(bytes)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .filter(|line: &Value| line["fields"]["message"] == "rpc")
        .collect();
    let [line] = lines.as_slice() else { panic!("not one line: {lines:#?}") };
    assert_eq!(line["level"], "INFO", "not found is no fault of the server");
    assert_eq!(line["fields"]["status"], "NOT_FOUND");
    assert_eq!(line["fields"]["reason"], "ATTACHMENT_NOT_FOUND");
    let span = &line["span"];
    for (field, value) in [
        ("otel.kind", "server"),
        ("rpc.system.name", "grpc"),
        ("rpc.method", "eni.gateway.v1.AttachmentService/GetAttachment"),
        ("rpc.response.status_code", "NOT_FOUND"),
        ("network.peer.address", "127.0.0.1"),
        ("eni_gateway.instance.id", "i-1"),
        ("eni_gateway.interface.id", "eni-1"),
    ] {
        assert_eq!(span[field], value, "{field}: {span:#}");
    }
    assert!(span.get("error.type").is_none());
}
