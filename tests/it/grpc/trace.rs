//! What is reported of each RPC.

use eni_gateway::model::State;
use tokio_stream::StreamExt;

use super::fakes::attachment;
use super::gateway::{Gateway, attach, watch};

#[tokio::test]
async fn every_rpc_is_reported_once_by_its_own_status() {
    let gateway = Gateway::start().await;
    gateway.ledger.put(attachment("i-1", "eni-1", State::Attached, 3));
    let mut client = gateway.client().await;
    client
        .attach_network_interface(attach("i-1", "eni-1"))
        .await
        .expect("attached");
    client
        .attach_network_interface(attach("", ""))
        .await
        .expect_err("bad fields");
    let seen = gateway.reported(2).await;
    let statuses: Vec<_> = seen
        .iter()
        .map(|report| (report.method, report.status, report.error_type))
        .collect();
    let method = "eni.gateway.v1.AttachmentService/AttachNetworkInterface";
    assert_eq!(statuses, [(method, "OK", None), (method, "INVALID_ARGUMENT", None)]);
}

#[tokio::test]
async fn a_stream_is_reported_when_it_ends() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut stream = client
        .watch_attachment(watch("i-1", "eni-1", true))
        .await
        .expect("a stream")
        .into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    assert!(gateway.reports.lock().expect("no test panics in here").is_empty());
    gateway.admission.drain();
    while stream.next().await.is_some_and(|message| message.is_ok()) {}
    let seen = gateway.reported(1).await;
    assert_eq!(
        (seen[0].status, seen[0].error_type),
        ("UNAVAILABLE", Some("UNAVAILABLE"))
    );
}

#[tokio::test]
async fn who_hangs_up_is_reported_as_cancelled() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut stream = client
        .watch_attachment(watch("i-1", "eni-1", true))
        .await
        .expect("a stream")
        .into_inner();
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
    let status = grpc
        .unary(tonic::Request::new(()), path, codec)
        .await
        .expect_err("no such method");
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert_eq!(gateway.reported(1).await[0].method, "_OTHER");
}
