//! A proxy between a gateway and a Redis, which can be cut, muted, or hold an answer back at a
//! chosen moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The handling of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes them on.
    Open,
    /// Closes every connection, and refuses new ones.
    Cut,
    /// Keeps connections open without passing anything on.
    Deaf,
}

/// The request text to wait for, the mode that follows, and the channel for the signal.
type Armed = Option<(String, Mode, oneshot::Sender<()>)>;

pub(crate) struct Link {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    armed: Arc<Mutex<Armed>>,
    _stop: DropGuard,
}

impl Link {
    pub(crate) async fn to(redis: u16) -> Self {
        Self::slow(redis, Duration::ZERO).await
    }

    /// A proxy that delays every byte, in both directions.
    pub(crate) async fn slow(redis: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, armed, stop) = (
            Arc::new(watch::Sender::new(Mode::Open)),
            Arc::<Mutex<Armed>>::default(),
            CancellationToken::new(),
        );
        let tasks = TaskTracker::new();
        let (open, waiting) = (mode.clone(), armed.clone());
        let accept = async move {
            while let Ok((gateway, _)) = listener.accept().await {
                if *open.borrow() == Mode::Cut {
                    continue;
                }
                let (open, waiting) = (open.clone(), waiting.clone());
                tasks.spawn(async move { pass(gateway, redis, delay, &open, &waiting).await });
            }
        };
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(accept));
        Self { port, mode, armed, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Changes its mode at a request with this text, and signals it. A deaf link passes the request
    /// on and holds back the answer; a cut one does not.
    pub(crate) fn arm(&self, text: &str, mode: Mode) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        *self.armed.lock().unwrap() = Some((text.to_owned(), mode, done));
        is_done
    }
}

/// Serves one connection until either side ends it or the link is cut.
async fn pass(
    gateway: TcpStream,
    redis: u16,
    delay: Duration,
    mode: &Arc<watch::Sender<Mode>>,
    armed: &Arc<Mutex<Armed>>,
) -> Option<()> {
    let redis = TcpStream::connect(("127.0.0.1", redis)).await.ok()?;
    for side in [&gateway, &redis] {
        side.set_nodelay(true).ok()?;
    }
    let (from_gateway, to_gateway) = gateway.into_split();
    let (from_redis, to_redis) = redis.into_split();
    let mut cut = mode.subscribe();
    tokio::select! {
        _ = pump(from_gateway, late(to_redis, delay), mode, Some(armed)) => {}
        _ = pump(from_redis, late(to_gateway, delay), mode, None) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
    Some(())
}

/// The way to one side: direct, or through a task with a delay.
enum Way {
    Direct(OwnedWriteHalf),
    Late(Duration, mpsc::UnboundedSender<(Instant, Vec<u8>)>),
}

fn late(mut to: OwnedWriteHalf, delay: Duration) -> Way {
    if delay.is_zero() {
        return Way::Direct(to);
    }
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    TaskTracker::new().spawn(async move {
        while let Some((at, bytes)) = queued.recv().await {
            sleep_until(at).await;
            to.write_all(&bytes).await.ok()?;
        }
        Some(())
    });
    Way::Late(delay, queue)
}

impl Way {
    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Direct(to) => to.write_all(bytes).await.ok(),
            Self::Late(delay, queue) => {
                queue.send((Instant::now() + *delay, bytes.to_owned())).ok()
            }
        }
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: Way,
    mode: &watch::Sender<Mode>,
    armed: Option<&Arc<Mutex<Armed>>>,
) -> Option<()> {
    let mut listens = mode.subscribe();
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
        listens.wait_for(|mode| *mode != Mode::Deaf).await.ok()?;
        let met = armed.and_then(|armed| {
            let mut armed = armed.lock().unwrap();
            let meant = armed.as_ref().is_some_and(|(text, ..)| has(&bytes[..read], text));
            // The receiver may be gone.
            let armed = meant.then(|| armed.take()).flatten();
            armed.filter(|(_, _, tell)| !tell.is_closed())
        });
        // No answer passes from here on, however fast.
        let passes = met.as_ref().is_none_or(|(_, then, _)| *then != Mode::Cut);
        if let Some((_, then, _)) = &met {
            mode.send_replace(*then);
        }
        if passes {
            to.write(&bytes[..read]).await?;
        }
        if let Some((_, _, tell)) = met {
            // The receiver may be gone.
            let _ = tell.send(());
        }
    }
}

/// Whether the text is in these bytes. A text across two reads is missed, which is rare for small
/// requests.
fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
