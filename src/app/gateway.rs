//! One gateway, put together over its two seams. Nothing here knows which ledger, which cloud and which connections it gets:
//! what is served and what is simulated is put together by the same code.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::drain::Drain;
use super::{Error, observe};
use crate::admission::{Admission, Limits};
use crate::attach::Attacher;
use crate::ens::Ens;
use crate::grpc::{self, AttachmentService, Health, Server, Tls};
use crate::ledger::{Ledger, LedgerStore};
use crate::rate_limit::RateLimiter;
use crate::telemetry::Metrics;
use crate::tracker::Tracker;
use crate::watch::{self, Hub};

pub use super::drain::DrainTimeouts;

/// What a gateway stands on.
pub struct Backends<L, E> {
    /// The ledger with its rules.
    pub ledger: Arc<Ledger<L>>,
    /// The cloud.
    pub ens: Arc<E>,
    /// The limiter of the calls to it.
    pub limiter: RateLimiter,
}

impl<L, E> Clone for Backends<L, E> {
    fn clone(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            ens: self.ens.clone(),
            limiter: self.limiter.clone(),
        }
    }
}

/// How a gateway behaves, beside the bounds that its book goes by.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `ens.attempt_timeout`: one Attach call, connect included.
    pub attempt_timeout: Duration,
    /// How streams behave.
    pub watch: watch::Settings,
    /// How many may be inside.
    pub limits: Limits,
    /// How connections are treated.
    pub server: grpc::server::Settings,
    /// How long the end may take.
    pub drain: DrainTimeouts,
}

/// What runs for as long as the process does.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// All of it.
    pub tasks: TaskTracker,
    /// Tells it to end.
    pub stop: CancellationToken,
}

/// A gateway, put together and not started.
pub struct Gateway<L, E> {
    server: Server<L, E>,
    tracker: Arc<Tracker<L, E>>,
    drain: Drain<L, E>,
}

impl<L: LedgerStore, E: Ens> Gateway<L, E> {
    /// Puts a gateway together; what it does all the time runs on `background`. With `tls`, it serves a listener under that identity.
    pub async fn new(
        seams: Backends<L, E>,
        settings: Settings,
        tls: Option<Arc<Tls>>,
        metrics: Metrics,
        background: Background,
    ) -> Self {
        let Backends { ledger, ens, limiter } = seams;
        let (attempts, stopping) = (TaskTracker::new(), CancellationToken::new());
        let attacher = Arc::new(Attacher::new(
            ledger.clone(),
            ens.clone(),
            limiter.clone(),
            settings.attempt_timeout,
            metrics.clone(),
            attempts.clone(),
        ));
        let tracker = Arc::new(Tracker::new(
            ledger.clone(),
            ens.clone(),
            limiter.clone(),
            attacher.clone(),
            metrics.clone(),
            attempts.clone(),
        ));
        let hub = Hub::new(
            ledger,
            ens,
            limiter,
            tracker.clone(),
            metrics.clone(),
            settings.watch,
            background.tasks.clone(),
            stopping.clone(),
        );
        let health = Health::new().await;
        let service = AttachmentService::new(attacher.clone(), hub, Arc::new(Admission::new(settings.limits)));
        Self {
            server: Server {
                service,
                health: health.clone(),
                tls,
                settings: settings.server,
                observers: observe::rpc(&metrics),
            },
            tracker,
            drain: Drain {
                times: settings.drain,
                leaving: CancellationToken::new(),
                stopping,
                health,
                attacher,
                attempts,
                background,
            },
        }
    }

    /// What it says of itself over gRPC: NOT_SERVING until told otherwise.
    #[must_use]
    pub fn health(&self) -> Health {
        self.drain.health.clone()
    }

    /// Cancelled as soon as it begins to end.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.drain.leaving.clone()
    }

    /// Serves a listener, and tracks what is under way.
    pub fn serve(self, listener: TcpListener) -> Serving<L, E> {
        self.start(|server, stop| server.serve(listener, stop.cancelled_owned()))
    }

    /// The same over connections that come from elsewhere, and are open.
    pub fn serve_connections<C>(self, incoming: impl Stream<Item = io::Result<C>> + Send + 'static) -> Serving<L, E>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        self.start(|server, stop| server.serve_connections(incoming, stop.cancelled_owned()))
    }

    fn start<F>(self, serve: impl FnOnce(Server<L, E>, CancellationToken) -> F) -> Serving<L, E>
    where
        F: Future<Output = Result<(), grpc::server::ServeError>> + Send + 'static,
    {
        let Self { server, tracker, drain } = self;
        let Background { tasks, stop } = &drain.background;
        tasks.spawn(tracker.clone().reconcile(stop.clone()));
        tasks.spawn(tracker.run(stop.clone()));
        let serving = serve(server, drain.stopping.clone());
        let serving = tasks.spawn(async move { serving.await.map_err(Error::from) });
        Serving { serving, drain }
    }
}

/// A gateway that serves.
pub struct Serving<L, E> {
    serving: JoinHandle<Result<(), Error>>,
    drain: Drain<L, E>,
}

impl<L: LedgerStore, E: Ens> Serving<L, E> {
    /// Resolves if the server ends without having been told to. Safe to cancel.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<(), Error> {
        // A panic is logged where it struck.
        (&mut self.serving).await.unwrap_or(Ok(()))
    }

    /// Ends it in order. What is unfinished when the time is over is left to other replicas.
    ///
    /// # Errors
    /// The server failed on its way out.
    pub async fn drain(self) -> Result<(), Error> {
        self.drain.run(self.serving).await
    }

    /// Ends it at once, because nobody can be answered any more; `broken` says why.
    ///
    /// # Errors
    /// What `broken` says.
    pub async fn abandon(self, broken: Result<(), Error>) -> Result<(), Error> {
        self.drain.abandon(broken).await
    }
}
