//! The gRPC server: HTTP/2 with its limits, the service with health and reflection beside it, and an end that is certain.
//!
//! The traps: tonic's graceful stop waits for ever on an open stream and on a silent connection, so that streams are ended and the
//! stop has a deadline; `max_connection_age` with a grace cuts connections without a GOAWAY, so that only the age is set.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::{Connected, Router};
use tower::layer::util::{Identity, Stack};
use tower::util::MapResponseLayer;

use super::accept;
use super::deadline::DeadlineLayer;
use super::explain::explain;
use super::proto::FILE_DESCRIPTOR_SET;
use super::proto::attachment_service_server::AttachmentServiceServer;
use super::trace::{Observers, TraceLayer};
use super::{AttachmentService, Health, Tls};
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::model::random;

/// Largest request, in bytes. Three ids and a token are far below it; an id that is a little too long is to be named, not cut off.
const MAX_REQUEST: usize = 256 * 1024;

/// Largest message sent, in bytes: what clients take by default. A full page of attachments stays below it.
const MAX_RESPONSE: usize = 4 * 1024 * 1024;

/// How connections are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A quiet connection is pinged after this long. Default: 30 s.
    pub keepalive_interval: Duration,
    /// A ping unanswered for this long ends its connection. Default: 10 s.
    pub keepalive_timeout: Duration,
    /// After this long, up to a tenth more or less, a connection gets a GOAWAY: its calls finish, new ones go over a new
    /// connection, perhaps to another replica. Default: 30 min.
    pub max_connection_age: Duration,
    /// Most calls at once on one connection. Default: 1024.
    pub max_concurrent_streams: u32,
    /// Longest that a stop waits for calls to finish. Default: 25 s.
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(30 * 60),
            max_concurrent_streams: 1024,
            drain_timeout: Duration::from_secs(25),
        }
    }
}

/// Why the server ended other than by a stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors cannot be served.
    #[error("reflection cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the grpc server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// A server, ready to run.
pub struct Server<L, E> {
    /// What it serves.
    pub service: AttachmentService<L, E>,
    /// What it says of itself. NOT_SERVING until told otherwise.
    pub health: Health,
    /// Its identity on a listener; `None`: plaintext.
    pub tls: Option<Arc<Tls>>,
    /// Its limits.
    pub settings: Settings,
    /// Who hears of each RPC.
    pub observers: Observers,
}

impl<L: LedgerStore, E: Ens> Server<L, E> {
    /// Serves on `listener` until `stop` resolves; then turns newcomers away, ends the streams, and lets calls finish for at most
    /// `drain_timeout`.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve(
        mut self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let Some(tls) = self.tls.take() else {
            return self
                .serve_connections(accept::accept(listener, accept::plain), stop)
                .await;
        };
        let handshakes = Arc::clone(&tls);
        let incoming = accept::accept(listener, move |tcp| handshakes.open(tcp));
        tokio::select! {
            biased;
            ended = self.serve_connections(incoming, stop) => ended,
            never = tls.follow() => match never {},
        }
    }

    /// The same over connections that are open.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve_connections<C>(
        self,
        incoming: impl Stream<Item = io::Result<C>> + Send,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let admission = self.service.admission();
        let router = router(self.service, &self.health, &self.settings, self.observers)?;
        let stopping = CancellationToken::new();
        let signal = async {
            stop.await;
            admission.drain();
            self.health.end().await;
            stopping.cancel();
        };
        let overdue = async {
            stopping.cancelled().await;
            tokio::time::sleep(self.settings.drain_timeout).await;
        };
        tokio::select! {
            biased;
            ended = router.serve_with_incoming_shutdown(incoming, signal) => Ok(ended?),
            () = overdue => {
                tracing::warn!("connections were still open at the end of the drain timeout");
                Ok(())
            }
        }
    }
}

type Explain = MapResponseLayer<fn(Response<Body>) -> Response<Body>>;
type Layers = Stack<Explain, Stack<DeadlineLayer, Stack<TraceLayer, Identity>>>;

fn router<L: LedgerStore, E: Ens>(
    service: AttachmentService<L, E>,
    health: &Health,
    settings: &Settings,
    observers: Observers,
) -> Result<Router<Layers>, ServeError> {
    let service = AttachmentServiceServer::new(service)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_RESPONSE);
    // grpcurl speaks only v1alpha; it prints error details if it finds their types.
    let v1 = reflection().build_v1()?;
    let v1alpha = reflection().build_v1alpha()?;
    Ok(tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(settings.keepalive_interval))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout))
        .max_connection_age(settings.max_connection_age.mul_f64(random::between(0.9..1.1)))
        .max_concurrent_streams(settings.max_concurrent_streams)
        .layer(TraceLayer(observers))
        .layer(DeadlineLayer)
        .layer(Explain::new(explain))
        .add_service(service)
        .add_service(health.server())
        .add_service(v1)
        .add_service(v1alpha))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
}
