//! The server stops in time, whatever its clients do.

use std::time::Duration;

use eni_gateway::grpc::server::Settings;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::gateway::{Gateway, Options, attach, watch};
use super::reason;

/// Longer than any stop here that nothing delays.
const LONG: Duration = Duration::from_secs(60);

/// A gateway whose stops nothing but their own end would end in time.
async fn patient() -> Gateway {
    let settings = Settings { drain_timeout: LONG * 2, ..Settings::default() };
    Gateway::with(Options { settings, ..Options::default() }).await
}

async fn stop(gateway: &mut Gateway) {
    gateway.stop();
    timeout(LONG, &mut gateway.serving)
        .await
        .expect("the stop is bounded")
        .expect("no panic")
        .expect("a clean stop");
}

#[tokio::test]
async fn an_open_watch_does_not_hold_up_a_stop() {
    let mut gateway = patient().await;
    let mut client = gateway.client().await;
    let mut stream =
        client.watch_attachment(watch("i-1", "eni-1", true)).await.expect("a stream").into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    stop(&mut gateway).await;
    let ended = stream.next().await.expect("a status").expect_err("the stream ended");
    assert_eq!(ended.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_call_under_way_gets_its_answer() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.timerless().await;
    let mut request = tonic::Request::new(attach("i-1", "eni-1"));
    request.set_timeout(Duration::from_secs(3));
    let (status, ()) = tokio::join!(client.attach_network_interface(request), async {
        gateway.ens.left_waiting().await;
        stop(&mut gateway).await;
    });
    let status = status.expect_err("not settled");
    assert_eq!(reason(&status), "NOT_APPLIED", "{status:?}");
}
