//! An OpenTelemetry collector for tests: receives traces over OTLP/gRPC and keeps them.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ResourceSpans>>>);

/// A collector on a free port; ends when it is dropped.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    received: Received,
    _server: AbortOnDropHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::on("127.0.0.1:0", None).await
    }

    /// A collector at this address, with TLS if configured.
    pub(crate) async fn on(address: &str, tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let endpoint = match tls {
            None => format!("http://127.0.0.1:{port}"),
            Some(_) => format!("https://localhost:{port}"),
        };
        let received = Received::default();
        let service = TraceServiceServer::new(received.clone());
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).expect("valid certificates");
        }
        let server = server.add_service(service);
        let serve = async {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves")
        };
        #[expect(clippy::disallowed_methods, reason = "aborted when the collector is dropped")]
        let server = AbortOnDropHandle::new(tokio::spawn(serve));
        Self { endpoint, received, _server: server }
    }

    pub(crate) fn resources(&self) -> Vec<ResourceSpans> {
        self.received.0.lock().expect("no holder panicked").clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let scopes = self.resources().into_iter().flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    pub(crate) fn span(&self, name: &str) -> Span {
        let spans = self.spans();
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        spans
            .into_iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("{name} is not among {names:?}"))
    }
}

/// A span's attribute, as text.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    let value =
        span.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no holder panicked").extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
