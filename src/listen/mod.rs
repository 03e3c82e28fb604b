//! Accepted connections: how many, from which peers, and for how long they may be silent.
//!
//! ```text
//!  listener ─► Connections::admit ─► open (TLS) ─► Connection (guards I/O) ─► HTTP server
//!                  └ full: the connection that has been opening longest is closed for the new one
//! ```

pub mod certificate;
mod connection;
mod table;

use std::io;
use std::time::Duration;

use futures_util::{Stream, stream};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use connection::{Connection, Opening};
use table::Place;
pub use table::{ConnectionInfo, ConnectionLimits, ConnectionRef, Connections, HeldCall, OpenCall};

/// Pause after a failed accept. The usual cause is a lack of descriptors, which a retry at once
/// does not cure.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A connection after its TLS handshake, or one without TLS.
#[derive(Debug)]
pub struct Opened<T> {
    /// The connection.
    pub io: T,
    /// The peer's certificate chain; empty without one.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Opens a connection without TLS.
pub fn plaintext(tcp: TcpStream) -> std::future::Ready<io::Result<Opened<TcpStream>>> {
    std::future::ready(Ok(Opened { io: tcp, certificates: Vec::new() }))
}

/// Returns the connections of `listener` that `connections` admits, each opened by `open`. The
/// stream never ends and never fails. Dropping it closes the listener. `open` must end in time.
/// `opening` says what a connection must send before it counts as open.
pub fn accept<T, F>(
    listener: TcpListener,
    connections: Connections,
    opening: Opening,
    open: impl Fn(TcpStream) -> F + Send + 'static,
) -> impl Stream<Item = io::Result<Connection<T>>> + Send
where
    T: Send + 'static,
    F: Future<Output = io::Result<Opened<T>>> + Send + 'static,
{
    let state = (listener, connections, open, JoinSet::<io::Result<Connection<T>>>::new());
    stream::unfold(state, move |(listener, connections, open, mut handshakes)| async move {
        loop {
            tokio::select! {
                biased;
                Some(opened) = handshakes.join_next() => match opened {
                    Ok(Ok(connection)) => return Some((Ok(connection), (listener, connections, open, handshakes))),
                    Ok(Err(error)) => tracing::debug!(%error, "a connection was not opened"),
                    Err(error) => tracing::error!(%error, "opening a connection failed"),
                },
                accepted = listener.accept() => match accepted {
                    Ok((tcp, peer)) => {
                        let Some(place) = connections.admit(peer) else { continue };
                        // Fails only on a connection that is closed already.
                        let _ = tcp.set_nodelay(true);
                        handshakes.spawn(handshake(open(tcp), place, opening));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        connections.close_one();
                        sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    })
}

/// Opens one connection, unless a newcomer takes its place.
async fn handshake<T>(
    opened: impl Future<Output = io::Result<Opened<T>>>,
    place: Place,
    opening: Opening,
) -> io::Result<Connection<T>> {
    let Opened { io, certificates } = tokio::select! {
        biased;
        () = place.closed() => return Err(io::ErrorKind::ConnectionAborted.into()),
        opened = opened => opened?,
    };
    place.set_certificates(certificates);
    Ok(Connection::new(io, place, opening))
}
