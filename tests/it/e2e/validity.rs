//! Requests that arrive late: held up on the way, and given up by the gateway long before.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::gateway::{Stage, attach, eventually, reason, try_attach};

/// A proxy that delivers every attach of `eni-0001` only after `hold`, whether its sender still waits or not. One request a
/// connection.
struct Proxy {
    url: String,
    _stop: DropGuard,
}

impl Proxy {
    async fn start(upstream: &str, hold: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                tasks.spawn(deliver(client, upstream.clone(), hold));
            }
        }));
        Self {
            url,
            _stop: stop.drop_guard(),
        }
    }
}

/// The requests of the gateway have no body.
async fn deliver(mut client: TcpStream, upstream: String, hold: Duration) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    if text.contains("x-acs-action: AttachNetworkInterface") && text.contains("=eni-0001") {
        sleep(hold).await;
    }
    let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.write_all(text.as_bytes()).await.ok()?;
    copy(&mut server, &mut client).await.ok().map(drop)
}

const HOLD: Duration = Duration::from_secs(9);

/// An attach all of whose copies are held up, beside one that is not; its caller hears that it was not applied. How often it was applied
/// in the end, and what ENS said to its copies.
async fn held_up(settings: &[(&str, &str)]) -> (u64, Vec<String>) {
    let stage = Stage::new(&["i-1", "i-2"], 2).await;
    let proxy = Proxy::start(&stage.ens.endpoint(), HOLD).await;
    let through = [("ENS__ENDPOINT", proxy.url.as_str())];
    let replica = stage.replica(&[&through, settings].concat()).await;
    let client = replica.client().await;
    let quick = try_attach(&client, attach("i-2", "eni-0002")).await.unwrap();
    assert_eq!(quick.state(), State::Attaching);

    let began = Instant::now();
    let failure = try_attach(&client, attach("i-1", "eni-0001")).await.unwrap_err();
    let (heard, before) = (reason(&failure), stage.ens.books().applied_to("eni-0001"));
    assert_eq!(
        (heard.as_str(), before),
        ("NOT_APPLIED", 0),
        "after {:?}",
        began.elapsed()
    );
    let copies = || {
        let calls = stage.ens.books().calls;
        let mine = calls.into_iter().filter(|call| call.instance.as_deref() == Some("i-1"));
        let attaches = mine.filter(|call| call.action == Action::AttachNetworkInterface.name());
        attaches.map(|call| call.outcome).collect::<Vec<_>>()
    };
    eventually("the copies do not arrive", async || copies().len() == 3).await;
    (stage.ens.books().applied_to("eni-0001"), copies())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_later_than_its_validity_is_applied_where_that_is_only_assumed() {
    let settings = [("ENS__REQUEST_VALIDITY", "2s"), ("ENS__ATTEMPT_TIMEOUT", "500ms")];
    let (applied, copies) = held_up(&settings).await;
    assert_eq!(applied, 1, "{copies:?}");
    assert_eq!(copies[0], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_refused_by_ens_where_the_validity_is_enforced() {
    let settings = [
        ("ENS__REQUEST_VALIDITY", "11s"),
        ("ENS__ATTEMPT_TIMEOUT", "500ms"),
        ("ENS__ENFORCE_VALIDITY", "true"),
    ];
    let (applied, copies) = held_up(&settings).await;
    assert_eq!(applied, 0, "{copies:?}");
    assert_eq!(copies, ["InvalidTimeStamp.Expired"; 3]);
}
