//! A connection that cannot be silent without bound: it must open in time, take what is sent to it,
//! and close during a drain.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

use super::table::{ConnectionRef, Place};

/// Time for the peer to send what opens the connection.
const OPENING: Duration = Duration::from_secs(3);
/// Time for the peer to take some of what is written.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Time for a draining connection without calls to be closed by its peer, which GOAWAY asks for.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Interval between checks of the answers that peers have not taken.
const CHECK: Duration = Duration::from_secs(10);

/// Maximum size of one read. The frames in it are handled without a pause.
const READ: usize = 1024;
/// Time after which a connection that has more to read lets the others run.
const TURN: Duration = Duration::from_micros(250);

/// Length of the HTTP/2 client preface.
const PREFACE: usize = 24;
/// Length of the header of an HTTP/2 frame.
const FRAME_HEADER: usize = 9;

/// What a connection must send before it counts as open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The HTTP/2 preface with its SETTINGS frame, within three seconds.
    Http2,
    /// Nothing: it never counts as open, and a newcomer may take its place at any time.
    Never,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection<T> {
    io: T,
    place: Place,
    preface: Option<Preface>,
    /// Ends the time for the opening, then begins each check.
    timer: Pin<Box<Sleep>>,
    /// Runs while the connection drains without calls.
    idle: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// When it began to read, while there is more to read.
    reads_since: Option<Instant>,
}

/// The part of the HTTP/2 opening that has arrived.
#[derive(Debug)]
struct Preface {
    head: [u8; PREFACE + FRAME_HEADER],
    received: usize,
}

impl<T> Connection<T> {
    pub(super) fn new(io: T, place: Place, opening: Opening) -> Self {
        let preface = match opening {
            Opening::Never => None,
            Opening::Http2 => Some(Preface { head: [0; PREFACE + FRAME_HEADER], received: 0 }),
        };
        let timer = Box::pin(sleep(OPENING));
        Self { io, place, preface, timer, idle: None, stalled: None, reads_since: None }
    }

    /// Address of the peer.
    pub fn peer(&self) -> SocketAddr {
        self.place.info().peer()
    }

    /// Pending while the connection may be used; an error when it must end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.poll_closed(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.preface.is_some() {
                let late = io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time");
                return Poll::Ready(late);
            }
            self.place.connections().close_stalled();
            self.timer.as_mut().reset(Instant::now() + CHECK);
        }
        if !self.place.may_close() {
            self.idle = None;
            return Poll::Pending;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(CLOSE_GRACE)));
        idle.as_mut().poll(cx).map(|()| io::ErrorKind::ConnectionAborted.into())
    }

    /// Reads a little. After a while the task's budget ends, and other tasks run: frames are small,
    /// and some are costly.
    fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead + Unpin,
    {
        let since = *self.reads_since.get_or_insert_with(Instant::now);
        if since.elapsed() > TURN {
            self.reads_since = None;
            // A budget is a `u8`; a task without one has no end of it.
            (0..=u8::MAX)
                .all(|_| coop::poll_proceed(cx).map(|step| step.made_progress()).is_ready());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = buf.remaining().min(READ);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(size));
        let read = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let size = part.filled().len();
        buf.advance(size);
        if read.is_pending() {
            self.reads_since = None;
        }
        read
    }

    /// Counts the time for which the peer takes nothing; `result` is that of a write or flush.
    fn watch_stall<R>(
        &mut self,
        result: Poll<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            if self.stalled.take().is_some() {
                // Reading continues.
                cx.waker().wake_by_ref();
            }
            return result;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl Preface {
    /// Takes received bytes; whether the preface and its SETTINGS frame are complete.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        let known = self.received.min(self.head.len());
        let part = bytes.len().min(self.head.len() - known);
        self.head[known..known + part].copy_from_slice(&bytes[..part]);
        self.received = self.received.saturating_add(bytes.len());
        let [.., a, b, c, _, _, _, _, _, _] = self.head;
        let payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.received >= self.head.len() && self.received >= self.head.len() + payload
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(preface) = &mut this.preface {
            // What has arrived counts, also after the time: this process may have stood still.
            let before = buf.filled().len();
            let read = Pin::new(&mut this.io).poll_read(cx, buf)?;
            if read.is_pending() {
                return this.poll_end(cx).map(Err);
            }
            if preface.feed(&buf.filled()[before..]) {
                this.preface = None;
                this.place.mark_open();
            }
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(end) = this.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        if this.stalled.is_some() {
            // The peer takes no answers, so it gets no further calls. The stalled write wakes the
            // task.
            return Poll::Pending;
        }
        this.poll_read_some(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch_stall(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch_stall(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch_stall(ended, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch_stall(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<T> Connected for Connection<T> {
    type ConnectInfo = ConnectionRef;

    fn connect_info(&self) -> ConnectionRef {
        self.place.info().clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::table::{ConnectionLimits, Connections};
    use super::*;

    fn place() -> Place {
        let limits = ConnectionLimits { total: 1, per_peer: 1 };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Connections::new(limits).admit(peer).expect("a place")
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrived_before_a_standstill_opens_the_connection() {
        let (mut peer, io) = duplex(1024);
        let mut connection = Connection::new(io, place(), Opening::Http2);
        let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        peer.write_all(opening).await.unwrap();
        tokio::time::advance(OPENING * 2).await;
        let mut read = [0; 64];
        assert_eq!(connection.read(&mut read).await.unwrap(), opening.len());
        peer.write_all(b"more").await.unwrap();
        assert_eq!(connection.read(&mut read).await.unwrap(), 4, "it is open");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_the_opening_is_not_waited_for() {
        let (mut peer, io) = duplex(1024);
        let mut connection = Connection::new(io, place(), Opening::Http2);
        peer.write_all(b"PRI").await.unwrap();
        let mut read = [0; 64];
        assert_eq!(connection.read(&mut read).await.unwrap(), 3);
        let late = connection.read(&mut read).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_more_to_read_lets_other_tasks_run() {
        let (mut peer, io) = duplex(READ * 4);
        let mut connection = Connection::new(io, place(), Opening::Never);
        peer.write_all(&[0; READ * 3]).await.unwrap();
        let mut read = [0; READ * 4];
        assert_eq!(connection.read(&mut read).await.unwrap(), READ);
        tokio::time::advance(TURN * 2).await;
        let next = connection.read(&mut read).now_or_never();
        assert!(next.is_none(), "its turn is over");
        assert!(!coop::has_budget_remaining());
        assert_eq!(connection.read(&mut read).await.unwrap(), READ);
        assert_eq!(connection.read(&mut read).await.unwrap(), READ, "at once");
    }
}
