//! The admin listener over real HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::app::Readiness;
use eni_gateway::ledger::LedgerHealth;
use eni_gateway::telemetry::Metrics;
use eni_gateway::telemetry::admin::Admin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

struct Running {
    address: SocketAddr,
    readiness: Arc<Mutex<Readiness>>,
    stop: CancellationToken,
    server: AbortOnDropHandle<std::io::Result<()>>,
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let readiness = Arc::new(Mutex::new(Readiness::default()));
    let asked = readiness.clone();
    let metrics = Metrics::new("1.2.3", "abc").expect("metrics can be set up");
    let admin = Admin::new(metrics, move || asked.lock().expect("no holder panicked").report());
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "aborted when the test ends")]
    let server = tokio::spawn(admin.serve(listener, stop.clone().cancelled_owned()));
    Running { address, readiness, stop, server: AbortOnDropHandle::new(server) }
}

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it is HTTP");
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it has a status");
    (status, body.to_owned())
}

#[tokio::test]
async fn readiness_follows_its_parts_and_names_what_fails() {
    let running = start().await;
    assert_eq!(get(running.address, "/livez").await.0, 200);
    let (status, body) = get(running.address, "/readyz").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!(status, 503);
    assert_eq!(body["failing"][2]["part"], "ledger");

    let ledger = LedgerHealth { up: true, reached: true, ..LedgerHealth::default() };
    *running.readiness.lock().expect("no holder panicked") =
        Readiness { configured: true, bound: true, ledger, ..Readiness::default() };
    assert_eq!(get(running.address, "/readyz").await.0, 200);

    running.readiness.lock().expect("no holder panicked").ledger.up = false;
    let (status, body) = get(running.address, "/readyz").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!((status, body["degraded"][0]["part"].as_str()), (200, Some("ledger")));
}

#[tokio::test]
async fn metrics_are_served_as_text_and_nothing_else_is() {
    let running = start().await;
    let (status, body) = get(running.address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("eni_gateway_build_info{commit=\"abc\",version=\"1.2.3\"} 1"), "{body}");
    assert_eq!(get(running.address, "/").await.0, 404);
}

#[tokio::test]
async fn a_connection_has_one_answer() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it closes the connection");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_the_stop_up() {
    let running = start().await;
    let _silent = TcpStream::connect(running.address).await.expect("it listens");
    assert_eq!(get(running.address, "/livez").await.0, 200);
    running.stop.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(60), running.server).await;
    stopped.expect("it stops in time").expect("it does not panic").expect("it ends well");
}

#[tokio::test]
async fn silent_connections_do_not_keep_probes_out() {
    let running = start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(running.address).await.expect("it listens"));
    }
    assert_eq!(get(running.address, "/livez").await.0, 200);
    let mut oldest = silent.remove(0);
    assert_eq!(oldest.read(&mut [0]).await.unwrap_or(0), 0, "the oldest one is closed");
}
