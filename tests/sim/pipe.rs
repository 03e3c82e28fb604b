//! A gateway's end of a connection: stands still with its process, and breaks when that dies.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::transport::server::Connected;

use crate::life::Life;

/// What both a pipe and whoever cuts it hold. Empty: cut.
type End = Arc<Mutex<Option<DuplexStream>>>;

pub(crate) struct Pipe {
    life: Life,
    end: End,
}

/// Cuts one connection: the client sees it end.
pub(crate) struct Cut(End);

impl Cut {
    pub(crate) fn cut(self) {
        drop(self.0.lock().unwrap().take());
    }
}

impl Pipe {
    pub(crate) fn new(life: Life, stream: DuplexStream) -> (Self, Cut) {
        let end = Arc::new(Mutex::new(Some(stream)));
        (Self { life, end: end.clone() }, Cut(end))
    }

    fn poll<T>(
        &self,
        context: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut DuplexStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        ready!(self.life.poll_pass(context));
        match self.end.lock().unwrap().as_mut() {
            Some(stream) => work(Pin::new(stream), context),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

impl Connected for Pipe {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
