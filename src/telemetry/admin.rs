//! The admin listener: `/livez`, `/readyz` and `/metrics` over plain HTTP, for kubelet and Prometheus.
//!
//! The trap: a graceful stop waits for ever for a connection that never sends anything, so it is bounded here.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Metrics, Readiness};

/// How long open connections have once the listener was told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// What the listener tells of.
#[derive(Clone)]
pub struct Admin {
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    metrics: Metrics,
}

impl Admin {
    /// Tells of these. `readiness` is asked at each probe.
    pub fn new(metrics: Metrics, readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self {
            readiness: Arc::new(readiness),
            metrics,
        }
    }

    /// Serves on a bound listener until `shutdown` ends, and for a second more where a connection is still open.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self);
        let stopping = CancellationToken::new();
        let stop_now = stopping.clone();
        let server = axum::serve(listener, routes).with_graceful_shutdown(async move {
            shutdown.await;
            stop_now.cancel();
        });
        tokio::select! {
            result = server => result,
            () = async { stopping.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
        }
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    let report = (admin.readiness)().report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.exposition() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
