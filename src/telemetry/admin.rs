//! The admin listener: `/livez`, `/readyz` and `/metrics` over plain HTTP, for kubelet and
//! Prometheus.
//!
//! Trap: a graceful stop waits without bound for a silent connection, so it is bounded here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{FutureExt, Stream, StreamExt};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use super::Metrics;
use crate::listen::{self, Connection, ConnectionLimits, Connections, Opening};

/// Maximum number of connections. A new one takes the place of the oldest, which is done or silent.
const CONNECTIONS: usize = 64;

/// Maximum time that connections stay open after the stop has begun.
const GRACE: Duration = Duration::from_secs(1);

/// A failing part and its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// `configuration`, `listener`, `drain`, `ledger` or `ens`.
    pub part: &'static str,
    /// The cause.
    pub why: String,
}

/// The body of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the replica accepts calls.
    pub ready: bool,
    /// Causes of `ready: false`.
    pub failing: Vec<Failing>,
    /// Failures that do not affect `ready`.
    pub degraded: Vec<Failing>,
    /// Guarantees that the ledger's setup does not give.
    pub warnings: Vec<String>,
}

/// Data of the listener.
#[derive(Clone)]
pub struct Admin {
    readiness: Arc<dyn Fn() -> Report + Send + Sync>,
    metrics: Metrics,
}

impl Admin {
    /// A listener's data. `readiness` is called at each probe.
    pub fn new(metrics: Metrics, readiness: impl Fn() -> Report + Send + Sync + 'static) -> Self {
        Self { readiness: Arc::new(readiness), metrics }
    }

    /// Serves on a bound listener until `shutdown` ends, then for at most a second while
    /// connections are open.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .layer(map_response(last))
            .with_state(self);
        let shutdown = shutdown.shared();
        let server =
            axum::serve(Listener::new(listener)?, routes).with_graceful_shutdown(shutdown.clone());
        tokio::select! {
            result = server => result,
            () = async { shutdown.await; tokio::time::sleep(GRACE).await } => Ok(()),
        }
    }
}

/// The listener's connections, of which none can keep the others out.
struct Listener {
    incoming: Pin<Box<dyn Stream<Item = io::Result<Connection<TcpStream>>> + Send>>,
    address: SocketAddr,
}

impl Listener {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let connections =
            Connections::new(ConnectionLimits { total: CONNECTIONS, per_peer: CONNECTIONS });
        let incoming =
            listen::accept(listener, connections, Opening::Never, listen::plaintext).boxed();
        Ok(Self { incoming, address })
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            if let Some(Ok(connection)) = self.incoming.next().await {
                let peer = connection.peer();
                return (connection, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The answer as the last one of its connection. A page of metrics costs more than its request, so
/// a peer could send many requests at once and read no answer.
async fn last(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

async fn ready(State(admin): State<Admin>) -> Response {
    let report = (admin.readiness)();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.exposition() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
