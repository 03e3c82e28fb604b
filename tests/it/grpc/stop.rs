//! The end is certain, whoever holds on.

use std::time::Duration;

use eni_gateway::grpc::server::Settings;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::gateway::{Gateway, Options, attach, watch};

/// Longer than any stop here takes that nobody holds up.
const LONG: Duration = Duration::from_secs(60);

/// A gateway whose stops nothing but their own end would end in time.
async fn patient() -> Gateway {
    let settings = Settings {
        drain_timeout: LONG * 2,
        ..Settings::default()
    };
    Gateway::with(Options {
        settings,
        ..Options::default()
    })
    .await
}

async fn stop(gateway: &mut Gateway) {
    gateway.stop.cancel();
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
    let mut stream = client
        .watch_attachment(watch("i-1", "eni-1", true))
        .await
        .expect("a stream")
        .into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    stop(&mut gateway).await;
    let ended = stream.next().await.expect("a status").expect_err("the stream ended");
    assert_eq!(ended.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_a_stop() {
    let mut gateway = patient().await;
    let _silent = TcpStream::connect(gateway.address).await.expect("accepted");
    // A call made after it shows that it was accepted, and that it blocks nobody.
    gateway
        .client()
        .await
        .attach_network_interface(attach("", ""))
        .await
        .expect_err("bad fields");
    stop(&mut gateway).await;
}

#[tokio::test]
async fn half_a_preface_holds_up_a_stop_until_the_drain_timeout() {
    let settings = Settings {
        drain_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let mut gateway = Gateway::with(Options {
        settings,
        ..Options::default()
    })
    .await;
    let mut half = TcpStream::connect(gateway.address).await.expect("accepted");
    half.write_all(b"PRI * HT").await.expect("written");
    gateway
        .client()
        .await
        .attach_network_interface(attach("", ""))
        .await
        .expect_err("bad fields");
    stop(&mut gateway).await;
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
    assert_eq!(status.expect_err("not settled").code(), tonic::Code::DeadlineExceeded);
}
