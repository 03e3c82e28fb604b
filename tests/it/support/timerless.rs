//! An HTTP/2 connection without a timer. tonic's channel keeps `grpc-timeout` itself. On a busy
//! machine it would answer before the gateway, and hide the gateway's answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tonic::Status;
use tonic::body::Body;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A connection that reconnects after its end. Clones share it.
#[derive(Clone)]
pub(crate) struct Timerless {
    address: SocketAddr,
    sender: Arc<Mutex<SendRequest<Body>>>,
}

impl Timerless {
    /// Connects to `HOST:PORT`.
    pub(crate) async fn connect(address: &str) -> Result<Self, Error> {
        let address = address.parse()?;
        let sender = Arc::new(Mutex::new(handshake(address).await?));
        Ok(Self { address, sender })
    }

    async fn send(self, request: http::Request<Body>) -> Result<http::Response<Incoming>, Error> {
        let mut sender = {
            let mut sender = self.sender.lock().await;
            if sender.is_closed() {
                let made = handshake(self.address).await;
                *sender = made.map_err(|error| Status::unavailable(error.to_string()))?;
            }
            sender.clone()
        };
        Ok(sender.send_request(request).await?)
    }
}

async fn handshake(address: SocketAddr) -> Result<SendRequest<Body>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
    tokio::spawn(connection);
    Ok(sender)
}

impl tower::Service<http::Request<Body>> for Timerless {
    type Response = http::Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.clone().send(request).boxed()
    }
}
