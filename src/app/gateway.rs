//! One gateway, wired over its backends. Ledger, cloud and connections are generic, so the same
//! code wires production and simulation.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::drain::{Drain, DrainTimeouts};
use super::{Error, observe};
use crate::admission::{Admission, Limits};
use crate::attach::Attacher;
use crate::backends::Backends;
use crate::drain::{self, Phase};
use crate::ens::Ens;
use crate::grpc::{self, Access, AttachmentService, Health, Server, Tls};
use crate::ledger::LedgerStore;
use crate::tracker::Tracker;
use crate::watch::{self, Hub};

/// Settings of a gateway, besides the bounds of its ledger.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `ens.attempt_timeout`: timeout of one Attach call, connect included.
    pub attempt_timeout: Duration,
    /// Settings of streams.
    pub watch: watch::Settings,
    /// Concurrency limits.
    pub limits: Limits,
    /// Limits of connections.
    pub server: grpc::server::Settings,
    /// Time limits of the shutdown.
    pub drain: DrainTimeouts,
}

/// A gateway that is built and not started.
pub struct Gateway<L, E> {
    server: Server<L, E>,
    tracker: Arc<Tracker<L, E>>,
    drain: Drain,
}

impl<L: LedgerStore, E: Ens> Gateway<L, E> {
    /// A gateway over `backends`. `background` runs the tasks that live until [`Phase::Stopped`].
    /// With `tls`, listeners use that identity. `access` decides who may call.
    pub async fn new(
        backends: Backends<L, E>,
        settings: Settings,
        tls: Option<Arc<Tls>>,
        access: Arc<Access>,
        background: TaskTracker,
    ) -> Self {
        let (attempts, signal) = (TaskTracker::new(), drain::Signal::default());
        let attacher = Arc::new(Attacher::new(
            backends.clone(),
            settings.attempt_timeout,
            attempts.clone(),
            signal.watch(),
        ));
        let tracker = Arc::new(Tracker::new(backends.clone(), attacher.clone(), attempts.clone()));
        let observers = observe::rpc(&backends.metrics);
        let hub =
            Hub::new(backends, tracker.clone(), settings.watch, background.clone(), signal.watch());
        let health = Health::new().await;
        let admission = Arc::new(Admission::new(settings.limits, signal.watch()));
        Self {
            server: Server {
                service: AttachmentService::new(attacher, hub, admission, access),
                health: health.clone(),
                tls,
                settings: settings.server,
                observers,
            },
            tracker,
            drain: Drain { times: settings.drain, signal, health, attempts, background },
        }
    }

    /// The gRPC health service: NOT_SERVING until it is set.
    #[must_use]
    pub fn health(&self) -> Health {
        self.drain.health.clone()
    }

    /// The shutdown's phases.
    #[must_use]
    pub fn drain(&self) -> drain::Watch {
        self.drain.signal.watch()
    }

    /// Serves a listener, and tracks attempts in flight.
    pub fn serve(self, listener: TcpListener) -> Serving {
        self.start(|server, drain| server.serve(listener, drain.reached(Phase::Draining)))
    }

    /// Serves connections that are already open, like [`Self::serve`].
    pub fn serve_connections<C>(
        self,
        incoming: impl Stream<Item = io::Result<C>> + Send + 'static,
    ) -> Serving
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        self.start(|server, drain| {
            server.serve_connections(incoming, drain.reached(Phase::Draining))
        })
    }

    fn start<F>(self, serve: impl FnOnce(Server<L, E>, drain::Watch) -> F) -> Serving
    where
        F: Future<Output = Result<(), grpc::server::ServeError>> + Send + 'static,
    {
        let Self { server, tracker, drain } = self;
        let (tasks, phases) = (&drain.background, drain.signal.watch());
        tasks.spawn(tracker.clone().reconcile(phases.clone()));
        tasks.spawn(tracker.run(phases.clone()));
        let serving = serve(server, phases);
        let serving = tasks.spawn(async move { serving.await.map_err(Error::from) });
        Serving { serving, drain }
    }
}

/// A gateway that serves.
pub struct Serving {
    serving: JoinHandle<Result<(), Error>>,
    drain: Drain,
}

impl Serving {
    /// Resolves if the server ends by itself. Safe to cancel.
    ///
    /// # Errors
    /// The cause of its end.
    pub async fn ended(&mut self) -> Result<(), Error> {
        // A panic is logged where it occurs.
        (&mut self.serving).await.unwrap_or(Ok(()))
    }

    /// Shuts down in order. Other replicas settle attempts that are unfinished at the deadline.
    ///
    /// # Errors
    /// The server failed while it ended.
    pub async fn drain(self) -> Result<(), Error> {
        self.drain.run(self.serving).await
    }

    /// Ends at once, because no caller can be answered.
    ///
    /// # Errors
    /// `broken`.
    pub async fn abandon(self, broken: Result<(), Error>) -> Result<(), Error> {
        self.drain.abandon(broken).await
    }
}
