//! The gRPC server: HTTP/2 with limits; the service, health and reflection; a bounded stop.
//!
//! Traps: tonic's graceful stop waits without bound for an open stream and a silent connection. So
//! the drain ends streams, and the stop has a deadline. `max_connection_age` with a grace period
//! cuts connections without a GOAWAY, so only the age is set.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tonic::transport::server::{Connected, Router};
use tower::layer::util::{Identity, Stack};

use super::edge::EdgeLayer;
use super::handshake::HandshakeLog;
use super::proto::FILE_DESCRIPTOR_SET;
use super::proto::attachment_service_server::AttachmentServiceServer;
use super::receive::MAX_REQUEST;
use super::trace::Observers;
use super::{AttachmentService, Health, Tls};
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::listen::{self, ConnectionLimits, Connections, Opening};
use crate::model::random;

/// Maximum size of a response, in bytes: the clients' default limit. A full page of attachments is
/// smaller.
const MAX_RESPONSE: usize = 4 * 1024 * 1024;

/// Limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Idle time after which a connection is pinged. Default: 30 s.
    pub keepalive_interval: Duration,
    /// Timeout for a ping's answer; then the connection closes. Default: 10 s.
    pub keepalive_timeout: Duration,
    /// Age at which a connection gets a GOAWAY, varied by up to a tenth. Its calls finish. New
    /// calls use a new connection, perhaps to another replica. Default: 30 min.
    pub max_connection_age: Duration,
    /// Maximum number of connections. Default: 2000, and 1600 of one peer.
    pub connections: ConnectionLimits,
    /// Maximum number of concurrent calls on one connection. Default: 1024.
    pub max_concurrent_streams: u32,
    /// Maximum time that a stop waits for calls to finish. Default: 25 s.
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(30 * 60),
            connections: ConnectionLimits { total: 2000, per_peer: 1600 },
            max_concurrent_streams: 1024,
            drain_timeout: Duration::from_secs(25),
        }
    }
}

/// An error that ends the server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors cannot be served.
    #[error("reflection cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the grpc server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// A server that is ready to run.
pub struct Server<L, E> {
    /// The service.
    pub service: AttachmentService<L, E>,
    /// The health service: NOT_SERVING until it is set.
    pub health: Health,
    /// TLS of the listener; `None` for plaintext.
    pub tls: Option<Arc<Tls>>,
    /// The limits of connections.
    pub settings: Settings,
    /// Observers of each RPC.
    pub observers: Observers,
}

impl<L: LedgerStore, E: Ens> Server<L, E> {
    /// Serves on `listener` until `stop` resolves. Then each connection closes when its calls have
    /// finished, and after `drain_timeout` at the latest. Trap: `stop` refuses no call and ends no
    /// stream. The drain's phase does both.
    ///
    /// # Errors
    /// The descriptors cannot be served, or the transport fails.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let connections = Connections::new(self.settings.connections);
        let closing = connections.clone();
        let stop = async move {
            stop.await;
            closing.drain();
        };
        let Some(tls) = self.tls.take() else {
            let incoming = listen::accept(listener, connections, Opening::Http2, listen::plaintext);
            return self.serve_connections(incoming, stop).await;
        };
        let (handshakes, failures) =
            (Arc::clone(&tls), HandshakeLog::new(self.observers.handshake.clone()));
        let open = move |tcp| handshakes.open(tcp, failures.clone());
        let incoming = listen::accept(listener, connections.clone(), Opening::Http2, open);
        tokio::select! {
            biased;
            ended = self.serve_connections(incoming, stop) => ended,
            never = tls.follow(&connections) => match never {},
        }
    }

    /// Serves on connections that are already open, like [`Self::serve`].
    ///
    /// # Errors
    /// The descriptors cannot be served, or the transport fails.
    pub async fn serve_connections<C>(
        self,
        incoming: impl Stream<Item = io::Result<C>> + Send,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let router = router(self.service, &self.health, &self.settings, self.observers)?;
        let stop = stop.shared();
        let signal = async {
            stop.clone().await;
            self.health.end().await;
        };
        let overdue = async {
            stop.clone().await;
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

fn router<L: LedgerStore, E: Ens>(
    service: AttachmentService<L, E>,
    health: &Health,
    settings: &Settings,
    observers: Observers,
) -> Result<Router<Stack<EdgeLayer, Identity>>, ServeError> {
    let (admission, access) = (service.admission(), service.access());
    let service = AttachmentServiceServer::new(service)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_RESPONSE);
    // grpcurl uses only v1alpha, and prints error details if it finds their types.
    let v1 = reflection().build_v1()?;
    let v1alpha = reflection().build_v1alpha()?;
    Ok(tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(settings.keepalive_interval))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout))
        .max_connection_age(settings.max_connection_age.mul_f64(random::between(0.9..1.1)))
        .max_concurrent_streams(settings.max_concurrent_streams)
        // Callers whose deadlines end together reset as many calls as they have open, in one
        // segment.
        .http2_max_pending_accept_reset_streams(Some(settings.max_concurrent_streams as usize * 2))
        .layer(EdgeLayer::new(observers, admission, access))
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
