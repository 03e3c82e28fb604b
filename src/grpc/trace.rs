//! One server span, one measurement and one log line for each RPC, in OpenTelemetry's stable conventions.
//!
//! The trap: an RPC ends with its trailers, not with its handler. For a stream that is much later, and a caller who hangs up
//! sends none. So a call travels with the response's body and reports when it is dropped at the latest.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::bytes::Bytes;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::code::code_name;
use super::method::Method;
use crate::model::{InstanceId, InterfaceId, Reason};

/// The log line of an RPC that returned a reason which its documentation does not list: a defect of
/// the gateway.
pub const UNDOCUMENTED: &str = "an rpc returned a reason that its documentation does not list";

/// One RPC, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcReport {
    /// `rpc.method`: one of the service's, or `_OTHER`.
    pub method: &'static str,
    /// `rpc.response.status_code`: the canonical name.
    pub status: &'static str,
    /// `error.type`: the canonical name, if it is a fault of the server.
    pub error_type: Option<&'static str>,
    /// Why it failed, where the status says so.
    pub reason: Option<Reason>,
    /// From the arrival of the headers to the end of the response.
    pub duration: Duration,
}

/// Takes the report of an RPC that ended.
pub type Report = Arc<dyn Fn(RpcReport) + Send + Sync>;

/// Gives a new span the parent that a request's headers name.
pub type Parent = Arc<dyn Fn(&Span, &HeaderMap) + Send + Sync>;

/// What the layer tells others: where to measure, and how a span gets its parent.
#[derive(Clone)]
pub struct Observers {
    /// Called at the end of each RPC.
    pub report: Report,
    /// Gives a new span the parent that the request's metadata names. Called before the span is entered: later is too late.
    pub parent: Parent,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

impl Default for Observers {
    /// Nobody.
    fn default() -> Self {
        Self {
            report: Arc::new(|_| {}),
            parent: Arc::new(|_, _| {}),
        }
    }
}

/// Names what an RPC is about, in its span.
pub(super) fn about(instance: &InstanceId, eni: Option<&InterfaceId>) {
    let span = Span::current();
    span.record("eni_gateway.instance_id", instance.as_str());
    if let Some(eni) = eni {
        span.record("eni_gateway.network_interface_id", eni.as_str());
    }
}

/// The layer. Health and reflection pass unseen: probes would drown the rest.
#[derive(Debug, Clone)]
pub(super) struct TraceLayer(pub(super) Observers);

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService {
            inner,
            observers: self.0.clone(),
        }
    }
}

/// See [`TraceLayer`].
#[derive(Debug, Clone)]
pub(super) struct TraceService<S> {
    inner: S,
    observers: Observers,
}

impl<S> Service<Request<Body>> for TraceService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.") {
            return Box::pin(self.inner.call(request));
        }
        let mut call = Call::begin(&request, &self.observers);
        let span = call.span.clone();
        // The handler is made inside the span too: it may look at the current span before its first await.
        let answer = span.in_scope(|| self.inner.call(request));
        Box::pin(
            async move {
                let response = answer.await?;
                // A refusal has no body; its status stands in the headers.
                call.see(response.headers());
                Ok(response.map(|body| Body::new(Observed { body, call })))
            }
            .instrument(span),
        )
    }
}

/// An RPC under way. Reports once: when a status was seen, or as CANCELLED when it is dropped without one.
struct Call {
    rpc: Option<Method>,
    method: &'static str,
    peer: Option<SocketAddr>,
    began: Instant,
    span: Span,
    report: Report,
    ended: bool,
}

impl Call {
    fn begin(request: &Request<Body>, observers: &Observers) -> Self {
        let path = request.uri().path();
        let rpc = Method::of_path(path);
        let method = rpc.map_or("_OTHER", Method::name);
        let peer = peer(request.extensions());
        let span = tracing::info_span!(
            "rpc",
            "otel.name" = method,
            "otel.kind" = "server",
            "otel.status_code" = Empty,
            "rpc.system.name" = "grpc",
            "rpc.method" = method,
            "rpc.method_original" = Empty,
            "rpc.response.status_code" = Empty,
            "error.type" = Empty,
            "network.peer.address" = Empty,
            "network.peer.port" = Empty,
            "eni_gateway.reason" = Empty,
            "eni_gateway.instance_id" = Empty,
            "eni_gateway.network_interface_id" = Empty,
        );
        (observers.parent)(&span, request.headers());
        if method == "_OTHER" {
            span.record("rpc.method_original", path.trim_start_matches('/'));
        }
        if let Some(peer) = peer {
            span.record("network.peer.address", tracing::field::display(peer.ip()));
            span.record("network.peer.port", peer.port());
        }
        Self {
            rpc,
            method,
            peer,
            began: Instant::now(),
            span,
            report: Arc::clone(&observers.report),
            ended: false,
        }
    }

    /// Looks for a status, in headers or trailers.
    fn see(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(&status);
        }
    }

    fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let name = code_name(status.code());
        let error_type = is_server_fault(status.code()).then_some(name);
        let duration = self.began.elapsed();
        let reason = match status.code() {
            Code::Ok => None,
            _ => status
                .get_details_error_info()
                .and_then(|info| Reason::named(&info.reason)),
        };
        self.span.record("rpc.response.status_code", name);
        if let Some(reason) = reason {
            self.span.record("eni_gateway.reason", reason.name());
            if self.rpc.is_some_and(|rpc| !rpc.may_return(reason)) {
                tracing::error!(parent: &self.span, method = self.method, %reason, "{UNDOCUMENTED}");
            }
        }
        if let Some(error_type) = error_type {
            self.span.record("error.type", error_type);
            self.span.record("otel.status_code", "ERROR");
        }
        let (peer, why) = (self.peer.map(tracing::field::display), reason.map(Reason::name));
        let (method, ms) = (self.method, duration.as_micros() as f64 / 1000.0);
        // So rollouts and long watches look.
        let usual = matches!(reason, Some(Reason::Draining | Reason::StreamTooOld));
        // At the cause of a fault stands what went wrong; here stands that it reached a caller.
        if error_type.is_some() && !usual {
            tracing::warn!(parent: &self.span, method, status = name, reason = why, peer, duration_ms = ms, "rpc");
        } else {
            tracing::info!(parent: &self.span, method, status = name, reason = why, peer, duration_ms = ms, "rpc");
        }
        (self.report)(RpcReport {
            method,
            status: name,
            error_type,
            reason,
            duration,
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(&Status::cancelled(""));
    }
}

/// A response's body with its RPC.
struct Observed {
    body: Body,
    call: Call,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        // What feeds a stream runs in here, long after the handler.
        let _entered = this.call.span.clone().entered();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.see(trailers);
                }
            }
            Some(Err(status)) => this.call.end(status),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn peer(extensions: &http::Extensions) -> Option<SocketAddr> {
    let plain = || extensions.get::<TcpConnectInfo>()?.remote_addr();
    let tls = || {
        extensions
            .get::<TlsConnectInfo<TcpConnectInfo>>()?
            .get_ref()
            .remote_addr()
    };
    plain().or_else(tls)
}

/// The conventions' list of what is the server's fault; the rest is the caller's.
const fn is_server_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
