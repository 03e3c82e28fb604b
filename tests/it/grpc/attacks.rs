//! Floods and malformed frames of HTTP/2, written byte by byte, and a healthy client beside them.

use std::time::Duration;

use eni_gateway::grpc::method::Method;
use http::{HeaderMap, HeaderName, HeaderValue};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;

use super::connections::{LONG, PREFACE, is_served, raw};
use super::gateway::Gateway;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A message of no fields.
const MESSAGE: [u8; 5] = [0; 5];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A number of HPACK with this prefix.
fn number(number: usize, bits: u32, first: u8) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![first | number as u8];
    }
    let (mut bytes, mut rest) = (vec![first | most as u8], number - most);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// A literal header; `first` says whether it is indexed.
fn header(first: u8, name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [number(text.len(), 7, 0), text.as_bytes().to_vec()].concat();
    [vec![first], text(name), text(value)].concat()
}

fn request() -> Vec<u8> {
    let path = format!("/{}", Method::Get.name());
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gateway"),
        (":path", path.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .map(|(name, value)| header(0, name, value))
    .concat()
}

/// The number of the client's n-th stream.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn call(n: u32) -> Vec<u8> {
    let data = frame(DATA, END_STREAM, stream(n), &MESSAGE);
    [frame(HEADERS, END_HEADERS, stream(n), &request()), data].concat()
}

fn many(count: u32, one: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(one).collect()
}

/// A header list in as many frames as it needs.
fn long_headers(block: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = block.chunks(16_384).collect();
    let mut bytes = frame(HEADERS, END_STREAM, 1, parts[0]);
    for (n, part) in parts.iter().enumerate().skip(1) {
        let flags = if n + 1 == parts.len() { END_HEADERS } else { 0 };
        bytes.extend(frame(CONTINUATION, flags, 1, part));
    }
    bytes
}

#[rstest]
#[case::rapid_reset(many(5000, |n| [call(n), frame(RST_STREAM, 0, stream(n), &CANCEL)].concat()))]
#[case::made_you_reset(many(5000, |n| {
    // The server resets a stream whose window grows by nothing.
    let zero = frame(WINDOW_UPDATE, 0, stream(n), &[0; 4]);
    [frame(HEADERS, END_HEADERS, stream(n), &request()), zero].concat()
}))]
#[case::continuation([
    frame(HEADERS, END_STREAM, 1, &request()),
    many(20_000, |_| frame(CONTINUATION, 0, 1, &header(0, "a", "b"))),
].concat())]
#[case::empty_continuation([
    frame(HEADERS, END_STREAM, 1, &request()),
    many(50_000, |_| frame(CONTINUATION, 0, 1, &[])),
].concat())]
#[case::settings(many(50_000, |_| frame(SETTINGS, 0, 0, &[])))]
#[case::ping(many(50_000, |_| frame(PING, 0, 0, &[0; 8])))]
#[case::priority(many(50_000, |n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 1])))]
#[case::empty_data([
    frame(HEADERS, END_HEADERS, 1, &request()),
    many(50_000, |_| frame(DATA, 0, 1, &[])),
].concat())]
#[case::hpack_bomb(many(200, |n| {
    // One large entry of the table, referred to by one byte each.
    let entry = if n == 0 { header(0x40, "x", &"y".repeat(4000)) } else { Vec::new() };
    let block = [request(), entry, vec![0x80 | 62; 10_000]].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &block)
}))]
#[case::one_large_header(long_headers(&[request(), header(0, "x", &"y".repeat(1 << 20))].concat()))]
#[case::ten_thousand_headers(long_headers(&[request(), header(0, "x", "y").repeat(10_000)].concat()))]
#[case::window_overflow([
    frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
    frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
].concat())]
#[case::no_window([
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
    many(1000, call),
].concat())]
#[case::more_calls_than_permitted(many(5000, |n| frame(HEADERS, END_HEADERS, stream(n), &request())))]
#[case::data_without_a_stream(frame(DATA, 0, 0, &MESSAGE))]
#[case::stream_of_the_server(frame(HEADERS, END_HEADERS, 2, &request()))]
#[case::large_frame([&[0xff_u8, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 100_000]].concat())]
#[case::unknown_frames(many(50_000, |_| frame(0xbe, 0xff, 0, &[0; 16])))]
#[case::garbage((0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect())]
#[tokio::test]
async fn an_attack_costs_the_others_nothing(#[case] attack: Vec<u8>) {
    let gateway = Gateway::start().await;
    let attackers = async {
        for _ in 0..3 {
            let mut connection = TcpStream::connect(gateway.address).await.expect("accepted");
            // The gateway may close it before it has everything.
            let _ = connection.write_all(&[PREFACE, &attack].concat()).await;
            let _ = timeout(Duration::from_secs(1), async {
                let mut sink = vec![0; 1 << 16];
                while matches!(connection.read(&mut sink).await, Ok(1..)) {}
            })
            .await;
        }
    };
    let healthy = async {
        for _ in 0..20 {
            is_served(&gateway).await;
        }
    };
    tokio::join!(attackers, healthy);
    is_served(&gateway).await;
}

#[tokio::test]
async fn calls_that_are_cancelled_together_do_not_end_their_connection() {
    let gateway = Gateway::start().await;
    let mut connection = TcpStream::connect(gateway.address).await.expect("accepted");
    let calls = many(1000, |n| frame(HEADERS, END_HEADERS, stream(n), &request()));
    let resets = many(1000, |n| frame(RST_STREAM, 0, stream(n), &CANCEL));
    let opening = [PREFACE, &frame(SETTINGS, 1, 0, &[])].concat();
    connection.write_all(&[opening, calls, resets].concat()).await.expect("written");
    connection.write_all(&frame(PING, 0, 0, b"are you?")).await.expect("written");
    let mut seen = Vec::new();
    let answered = async {
        let acknowledged = frame(PING, 1, 0, b"are you?");
        while !seen.windows(acknowledged.len()).any(|bytes| bytes == acknowledged) {
            let mut part = [0; 4096];
            let length = connection.read(&mut part).await.expect("the connection lives");
            assert!(length > 0, "the gateway closed the connection");
            seen.extend_from_slice(&part[..length]);
        }
    };
    timeout(LONG, answered).await.expect("an answer");
}

#[rstest]
#[case("GET", &[("content-type", "application/grpc")], 405)]
#[case("OPTIONS", &[("origin", "http://evil.example")], 405)]
#[case("POST", &[("content-type", "text/plain")], 415)]
#[case("POST", &[("content-type", "application/grpc"), ("origin", "http://evil.example")], 403)]
#[case("POST", &[("content-type", "application/grpc"), ("sec-fetch-site", "cross-site")], 403)]
#[tokio::test]
async fn a_browser_cannot_call(
    #[case] method: &str,
    #[case] headers: &[(&str, &str)],
    #[case] status: u16,
) {
    let gateway = Gateway::start().await;
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("http://gateway/{}", Method::Attach.name()))
        .body(Body::empty())
        .expect("a request");
    let headers = headers.iter().map(|(name, value)| {
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    });
    *request.headers_mut() = headers.collect::<HeaderMap>();
    let response = raw(&gateway).await.send_request(request).await.expect("a response");
    assert_eq!(response.status(), status);
    assert!(gateway.reports.lock().unwrap().is_empty(), "it is no rpc");
}

/// The gRPC library refuses these. Without a reason a client would repeat them.
#[rstest]
#[case::an_unknown_method("eni.gateway.v1.AttachmentService/Detach", &[])]
#[case::an_unknown_service("else/Get", &[])]
#[case::a_compressed_message(Method::Get.name(), &[("grpc-encoding", "gzip")])]
#[tokio::test]
async fn a_call_that_the_library_refuses_has_a_reason(
    #[case] path: &str,
    #[case] headers: &[(&str, &str)],
) {
    let gateway = Gateway::start().await;
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://gateway/{path}"))
        .header("content-type", "application/grpc");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Body::empty()).expect("a request");
    let response = raw(&gateway).await.send_request(request).await.expect("a response");
    let status = tonic::Status::from_header_map(response.headers()).expect("a status");
    let info = tonic_types::StatusExt::get_details_error_info(&status).expect("a reason");
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (tonic::Code::Unimplemented, "NOT_SUPPORTED")
    );
}
