//! Accepts connections and opens them (TLS, or the first byte), many at once, before the HTTP/2 server sees them.
//!
//! A connection that never speaks would hold up the server's graceful stop for ever, and one that speaks slowly its accept
//! loop: so opening runs apart and has a deadline.

use std::io;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longest that a connection may take to be opened.
const OPENING: Duration = Duration::from_secs(10);

/// Most connections that are being opened; above it new ones wait in the kernel.
const MAX_OPENING: usize = 1024;

/// The connections of `listener`, each opened by `open`. Never ends and never fails; dropping it closes the listener.
pub(super) fn accept<T, F>(
    listener: TcpListener,
    open: impl Fn(TcpStream) -> F + Send + 'static,
) -> impl Stream<Item = io::Result<T>> + Send
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    stream::unfold(
        (listener, open, JoinSet::new()),
        async |(listener, open, mut opening)| {
            loop {
                tokio::select! {
                    biased;
                    Some(opened) = opening.join_next() => match opened {
                        Ok(Ok(Ok(connection))) => return Some((Ok(connection), (listener, open, opening))),
                        Ok(Ok(Err(error))) => tracing::debug!(%error, "a connection was not opened"),
                        Ok(Err(_)) => tracing::debug!("a connection was not opened in time"),
                        Err(error) => tracing::error!(%error, "opening a connection failed"),
                    },
                    accepted = listener.accept(), if opening.len() < MAX_OPENING => match accepted {
                        Ok((tcp, _)) => {
                            // Fails only on a connection that is gone already.
                            let _ = tcp.set_nodelay(true);
                            opening.spawn(timeout(OPENING, open(tcp)));
                        }
                        Err(error) => {
                            // Out of descriptors, most likely: trying again at once would only burn the processor.
                            tracing::warn!(%error, "a connection could not be accepted");
                            sleep(Duration::from_millis(100)).await;
                        }
                    },
                }
            }
        },
    )
}

/// Opens a plaintext connection: it is one when its first byte is there.
pub(super) async fn plain(tcp: TcpStream) -> io::Result<TcpStream> {
    match tcp.peek(&mut [0]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(tcp),
    }
}
