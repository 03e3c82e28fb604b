//! A gateway's end of a connection: it pauses with its process, and breaks at its death.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::transport::server::Connected;

use crate::process_state::ProcessState;

/// What a pipe shares with the code that cuts it. Empty: cut.
type End = Arc<Mutex<Option<DuplexStream>>>;

pub(crate) struct Pipe {
    process: ProcessState,
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
    pub(crate) fn new(process: ProcessState, stream: DuplexStream) -> (Self, Cut) {
        let end = Arc::new(Mutex::new(Some(stream)));
        (Self { process, end: end.clone() }, Cut(end))
    }

    fn poll<T>(
        &self,
        context: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut DuplexStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        ready!(self.process.poll_pass(context));
        match self.end.lock().unwrap().as_mut() {
            Some(stream) => work(Pin::new(stream), context),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
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
