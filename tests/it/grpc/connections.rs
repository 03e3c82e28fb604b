//! Connections and requests that never end, and a healthy client beside them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use eni_gateway::grpc::method::Method;
use eni_gateway::grpc::server::Settings;
use eni_gateway::listen::ConnectionLimits;
use eni_gateway::model::State;
use futures_util::future::join_all;
use http_body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};

use super::fakes::{attachment, put};
use super::gateway::{Gateway, Options, attach, watch};
use super::reason;
use crate::support::gateway::within;

/// Longer than any wait of these tests.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// The HTTP/2 preface and an empty SETTINGS frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A gateway with few connections, whose stop no drain timeout ends.
async fn small() -> Gateway {
    let settings = Settings {
        connections: ConnectionLimits { total: 8, per_peer: 8 },
        drain_timeout: LONG * 2,
        ..Settings::default()
    };
    Gateway::with(Options { settings, ..Options::default() }).await
}

async fn connect(gateway: &Gateway, first: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(gateway.address).await.expect("accepted");
    connection.write_all(first).await.expect("written");
    connection
}

/// Waits until the gateway closes the connection.
async fn closed(connection: &mut TcpStream) {
    let mut sink = [0; 1024];
    let end = async { while matches!(connection.read(&mut sink).await, Ok(1..)) {} };
    timeout(LONG, end).await.expect("the gateway closes it");
}

/// A call of a new client is answered.
pub(super) async fn is_served(gateway: &Gateway) {
    let call = async {
        let mut client = gateway.client().await;
        client.attach_network_interface(attach("", "")).await
    };
    let refused = timeout(LONG, call).await.expect("an answer").expect_err("bad fields");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

async fn stop(gateway: &mut Gateway) {
    gateway.stop();
    let ended = timeout(LONG, &mut gateway.serving).await.expect("the stop is bounded");
    ended.expect("no panic").expect("a clean stop");
}

#[tokio::test]
async fn silent_connections_make_room_for_new_ones() {
    let gateway = small().await;
    let mut silent = join_all((0..20).map(|_| connect(&gateway, b""))).await;
    is_served(&gateway).await;
    join_all(silent.iter_mut().map(closed)).await;
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let gateway = small().await;
    let _idle = join_all((0..20).map(|_| connect(&gateway, PREFACE))).await;
    is_served(&gateway).await;
}

#[tokio::test]
async fn connections_that_hold_streams_make_room_for_new_ones() {
    let gateway = small().await;
    put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 3)).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.client().await;
        let stream = client.watch_attachment(watch("i-1", "eni-1", true)).await.expect("a stream");
        held.push((client, stream));
    }
    is_served(&gateway).await;
}

#[tokio::test]
async fn streams_do_not_close_the_connection_of_a_call_in_flight() {
    let gateway = small().await;
    put(&gateway.store, attachment("i-1", "eni-1", State::Attached, 3)).await;
    let mut calling = gateway.client().await;
    let asked = within(Duration::from_secs(4), attach("i-2", "eni-2"));
    let call = calling.attach_network_interface(asked);
    let held = async {
        gateway.ens.left_waiting().await;
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut client = gateway.client().await;
            let asked = watch("i-1", "eni-1", true);
            held.push((client.watch_attachment(asked).await.expect("a stream"), client));
        }
        held
    };
    let (answer, _held) = tokio::join!(call, held);
    let refused = answer.expect_err("the credentials never come");
    assert_eq!(reason(&refused), "NOT_APPLIED", "{refused:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_open_is_closed() {
    let gateway = small().await;
    for part in [&PREFACE[..8], &PREFACE[..24], &PREFACE[..30]] {
        closed(&mut connect(&gateway, part).await).await;
    }
}

#[tokio::test]
async fn no_connection_without_calls_holds_up_a_stop() {
    let mut gateway = small().await;
    let _silent = connect(&gateway, b"").await;
    let _half = connect(&gateway, &PREFACE[..8]).await;
    // It answers no PING, so that GOAWAY alone does not end it.
    let _open = connect(&gateway, PREFACE).await;
    is_served(&gateway).await;
    stop(&mut gateway).await;
}

/// A request body that stays open behind its bytes.
struct Endless(&'static [u8]);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // An empty DATA frame is an attack of its own, which ends the connection.
        match std::mem::take(&mut self.0) {
            [] => Poll::Pending,
            bytes => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(bytes))))),
        }
    }
}

pub(super) async fn raw(gateway: &Gateway) -> SendRequest<Body> {
    let stream = TcpStream::connect(gateway.address).await.expect("accepted");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("http/2");
    #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
    tokio::spawn(connection);
    sender
}

async fn send(sender: &SendRequest<Body>, path: &str, first: &'static [u8]) -> Status {
    let request = http::Request::post(format!("http://gateway/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Endless(first)))
        .expect("a request");
    let response = timeout(LONG, sender.clone().send_request(request)).await.expect("an answer");
    let response = response.expect("a response");
    Status::from_header_map(response.headers()).expect("a status")
}

#[tokio::test]
async fn a_request_that_never_ends_is_refused() {
    let gateway = small().await;
    let sender = raw(&gateway).await;
    let paths = Method::ALL.map(Method::name).into_iter().chain(["grpc.health.v1.Health/Check"]);
    let parts = [&b""[..], b"\0\0\0\0\x09i-1", b"\0\0\0\0\0"];
    let calls = paths.flat_map(|path| parts.map(|first| send(&sender, path, first)));
    for refused in join_all(calls).await {
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let gateway = small().await;
    let mut client = gateway.client().await;
    let refused = client.attach_network_interface(attach(&"i".repeat(20_000), "")).await;
    let refused = refused.expect_err("too large");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("larger"), "{refused:?}");
}

#[tokio::test]
async fn a_request_is_served_beside_any_number_of_unfinished_ones() {
    let gateway = Gateway::start().await;
    let senders: Vec<_> = join_all((0..6).map(|_| raw(&gateway))).await;
    let unfinished =
        senders.iter().flat_map(|sender| (0..200).map(|_| send(sender, Method::Watch.name(), b"")));
    let healthy = async {
        for _ in 0..20 {
            is_served(&gateway).await;
        }
    };
    let (refused, ()) = tokio::join!(join_all(unfinished), healthy);
    for status in refused {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}
