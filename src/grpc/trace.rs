//! One server span, one measurement and one log line for each RPC, after OpenTelemetry's stable
//! conventions.
//!
//! Trap: an RPC ends with its trailers, not with its handler. A stream ends much later, and a
//! caller that disconnects sends none. So the `Call` travels with the response's body, and is
//! reported when that is dropped at the latest.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Span;
use tracing::field::Empty;

use super::code::code_name;
use super::failure_log::{FailureKind, FailureLog};
use super::handshake::HandshakeReport;
use super::method::Method;
use crate::listen::ConnectionRef;
use crate::model::{InstanceId, InterfaceId, Reason};
use crate::names::{attribute, otel, span};
use crate::telemetry::context::is_recorded;

/// Log line for an RPC that returned a reason that its documentation does not list: a gateway
/// defect.
pub const UNDOCUMENTED: &str = "an rpc returned a reason that its documentation does not list";

/// The result of one RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcReport {
    /// `rpc.method`: one of the service's methods, or `_OTHER`.
    pub method: &'static str,
    /// `rpc.response.status_code`: the canonical name.
    pub status: &'static str,
    /// `error.type`: the canonical name, if the code counts as a server fault.
    pub error_type: Option<&'static str>,
    /// The reason in the status, if any.
    pub reason: Option<Reason>,
    /// Time from the arrival of the headers to the end of the response.
    pub duration: Duration,
}

/// Receives the report of each RPC that ended.
pub type Report = Arc<dyn Fn(RpcReport) + Send + Sync>;

/// Sets a new span's parent from a request's headers. Returns whether anything reads the span's
/// attributes.
pub type Parent = Arc<dyn Fn(&Span, &HeaderMap) -> bool + Send + Sync>;

/// Callbacks of the server: the measurements, and a span's parent.
#[derive(Clone)]
pub struct Observers {
    /// Called at the end of each RPC.
    pub report: Report,
    /// Sets a new span's parent from the request's metadata. It must run before the span is
    /// entered.
    pub parent: Parent,
    /// Called at each failed TLS handshake.
    pub handshake: HandshakeReport,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

impl Default for Observers {
    /// Observers that do nothing.
    fn default() -> Self {
        Self {
            report: Arc::new(|_| {}),
            parent: Arc::new(|_, _| true),
            handshake: Arc::new(|_| {}),
        }
    }
}

/// Records an RPC's instance and ENI in its span.
pub(super) fn about(instance: &InstanceId, eni: Option<&InterfaceId>) {
    if !is_recorded() {
        return;
    }
    let span = Span::current();
    span.record(attribute::INSTANCE_ID, instance.as_str());
    if let Some(eni) = eni {
        span.record(attribute::INTERFACE_ID, eni.as_str());
    }
}

/// An RPC in progress. Reports once: when it has a status, or as CANCELLED when it is dropped
/// without one.
pub(super) struct Call {
    rpc: Option<Method>,
    method: &'static str,
    connection: Option<ConnectionRef>,
    failures: FailureLog,
    began: Instant,
    pub(super) span: Span,
    /// Whether the span takes attributes.
    is_recorded: bool,
    report: Report,
    ended: bool,
}

impl Call {
    /// Begins the span of an RPC.
    pub(super) fn begin(
        request: &Request<Body>,
        observers: &Observers,
        failures: FailureLog,
    ) -> Self {
        let path = request.uri().path();
        let rpc = Method::of_path(path);
        let method = rpc.map_or("_OTHER", Method::name);
        let connection = request.extensions().get::<ConnectionRef>().cloned();
        let span = tracing::info_span!(
            span::RPC,
            { otel::NAME } = method,
            { otel::KIND } = "server",
            { otel::STATUS } = Empty,
            { attribute::RPC_SYSTEM } = Empty,
            { attribute::RPC_METHOD } = Empty,
            { attribute::RPC_METHOD_ORIGINAL } = Empty,
            { attribute::RPC_STATUS } = Empty,
            { attribute::ERROR_TYPE } = Empty,
            { attribute::PEER_ADDRESS } = Empty,
            { attribute::PEER_PORT } = Empty,
            { attribute::REASON } = Empty,
            { attribute::INSTANCE_ID } = Empty,
            { attribute::INTERFACE_ID } = Empty,
        );
        let is_recorded = (observers.parent)(&span, request.headers());
        if is_recorded {
            span.record(attribute::RPC_SYSTEM, "grpc");
            span.record(attribute::RPC_METHOD, method);
            if method == "_OTHER" {
                span.record(attribute::RPC_METHOD_ORIGINAL, path.trim_start_matches('/'));
            }
            if let Some(peer) = connection.as_ref().map(|connection| connection.peer()) {
                span.record(attribute::PEER_ADDRESS, tracing::field::display(peer.ip()));
                span.record(attribute::PEER_PORT, peer.port());
            }
        }
        Self {
            rpc,
            method,
            connection,
            failures,
            began: Instant::now(),
            span,
            is_recorded,
            report: Arc::clone(&observers.report),
            ended: false,
        }
    }

    /// Whether its response is a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.rpc.is_none_or(Method::is_streaming)
    }

    /// Reads the status from headers or trailers.
    pub(super) fn see(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(&status);
        }
    }

    /// Ends the RPC with its status, unless it has ended.
    pub(super) fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // The line names the trace.
        let _entered = self.span.clone().entered();
        let name = code_name(status.code());
        let error_type = is_server_fault(status.code()).then_some(name);
        let duration = self.began.elapsed();
        let reason = match status.code() {
            Code::Ok => None,
            _ => status.get_details_error_info().and_then(|info| Reason::named(&info.reason)),
        };
        if let Some(reason) = reason
            && self.rpc.is_some_and(|rpc| !rpc.may_return(reason))
        {
            tracing::error!(parent: &self.span, method = self.method, %reason, "{UNDOCUMENTED}");
        }
        if self.is_recorded {
            self.record(name, reason, error_type);
        }
        if status.code() == Code::Ok || self.failures.is_first(self.kind(name, reason)) {
            self.log(name, reason, error_type, duration);
        }
        (self.report)(RpcReport {
            method: self.method,
            status: name,
            error_type,
            reason,
            duration,
        });
    }
}

impl Call {
    /// Records the result in the span.
    fn record(&self, status: &str, reason: Option<Reason>, error_type: Option<&str>) {
        self.span.record(attribute::RPC_STATUS, status);
        if let Some(reason) = reason {
            self.span.record(attribute::REASON, reason.name());
        }
        if let Some(error_type) = error_type {
            self.span.record(attribute::ERROR_TYPE, error_type);
            self.span.record(otel::STATUS, "ERROR");
        }
    }

    fn kind(&self, status: &'static str, reason: Option<Reason>) -> FailureKind {
        let peer = self.connection.as_ref().map(|connection| connection.network());
        FailureKind { peer, method: self.method, status, reason: reason.map(Reason::name) }
    }

    fn log(
        &self,
        status: &'static str,
        reason: Option<Reason>,
        error_type: Option<&'static str>,
        duration: Duration,
    ) {
        let peer =
            self.connection.as_ref().map(|connection| tracing::field::display(connection.peer()));
        let (method, ms) = (self.method, duration.as_micros() as f64 / 1000.0);
        let why = reason.map(Reason::name);
        // Rollouts and long watches end so.
        let usual = matches!(reason, Some(Reason::Draining | Reason::StreamTooOld));
        // The cause has its own log line. This one reports that a fault reached a caller.
        if error_type.is_some() && !usual {
            tracing::warn!(parent: &self.span, method, status, reason = why, peer, duration_ms = ms, "rpc");
        } else {
            tracing::info!(parent: &self.span, method, status, reason = why, peer, duration_ms = ms, "rpc");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(&Status::cancelled(""));
    }
}

/// Whether the conventions count a code as the server's fault, not the caller's.
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
