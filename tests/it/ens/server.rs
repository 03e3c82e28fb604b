//! A TCP server that sends the test's answers byte by byte, and counts requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Answers this status and JSON, keeping the connection.
    Json(u16, String),
    /// Writes these bytes as they are, and closes.
    Raw(String),
    /// Writes these bytes, and keeps the connection open without a word more.
    Stall(String),
    /// Writes these bytes, and resets the connection.
    Reset(String),
    /// Answers this status and JSON as if keeping the connection, and closes it when the next
    /// request arrives.
    ThenClose(u16, String),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let target = self.line.split(' ').nth(1)?;
        let url = url::Url::parse("http://host").ok()?.join(target).ok()?;
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

type Script = dyn Fn(&Request, usize) -> Act + Send + Sync;

pub(super) struct Server {
    pub(super) url: String,
    pub(super) connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request>>>,
    _stop: DropGuard,
}

impl Server {
    /// Answers by the request and its number, from 0.
    pub(super) async fn start(
        script: impl Fn(&Request, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, connections, requests) =
            (CancellationToken::new(), Arc::default(), Arc::default());
        let server = Self { url, connections, requests, _stop: stop.clone().drop_guard() };
        let (connections, requests, script) =
            (server.connections.clone(), server.requests.clone(), Arc::new(script));
        let tasks = TaskTracker::new();
        tasks.clone().spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(serve(stream, requests.clone(), script.clone()));
            }
        }));
        server
    }

    /// Always does the same.
    pub(super) async fn always(act: Act) -> Self {
        Self::start(move |_, _| act.clone()).await
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(mut stream: TcpStream, requests: Arc<Mutex<Vec<Request>>>, script: Arc<Script>) {
    let mut closing = false;
    while let Some(request) = read(&mut stream).await {
        let act = {
            let mut all = requests.lock().unwrap();
            all.push(request.clone());
            script(&request, all.len() - 1)
        };
        if closing {
            return;
        }
        match act {
            Act::Json(status, body) => write(&mut stream, &response(status, "", &body)).await,
            Act::ThenClose(status, body) => {
                write(&mut stream, &response(status, "", &body)).await;
                closing = true;
            }
            Act::Raw(bytes) => {
                write(&mut stream, &bytes).await;
                return;
            }
            Act::Stall(bytes) => {
                write(&mut stream, &bytes).await;
                // Until the client gives up.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Act::Reset(bytes) => {
                write(&mut stream, &bytes).await;
                let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
                return;
            }
        }
    }
}

/// A whole response with these extra header lines (each ending in CRLF).
pub(super) fn response(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn write(stream: &mut TcpStream, bytes: &str) {
    let _ = stream.write_all(bytes.as_bytes()).await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    };
    let mut rest = bytes.split_off(head + 4);
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.trim_end().lines();
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    while rest.len() < length {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => rest.extend_from_slice(&chunk[..read]),
        }
    }
    Some(Request { line, headers, body: String::from_utf8(rest).ok()? })
}
