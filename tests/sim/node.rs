//! One gateway: wired as in production, over simulated backends and pipes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use eni_gateway::admission::Limits;
use eni_gateway::app::DrainTimeouts;
use eni_gateway::app::gateway::{self, Gateway, Serving};
use eni_gateway::backends::Backends;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::server;
use eni_gateway::ledger::Ledger;
use eni_gateway::ledger::execute::LedgerEvent;
use eni_gateway::ledger::invariants::Violation;
use eni_gateway::rate_limit::RateLimiter;
use eni_gateway::telemetry::Metrics;
use eni_gateway::watch;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};

use crate::cloud::Cloud;
use crate::ledger::Link;
use crate::mutation::Mutation;
use crate::pipe::{Cut, Pipe};
use crate::process_state::{ProcessState, State};
use crate::run::Simulation;

/// So much is under way in a pipe at most.
const PIPE: usize = 1 << 20;

/// A client of one gateway.
pub(crate) type Client = AttachmentServiceClient<Channel>;

/// One life of one gateway.
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) process: ProcessState,
    pub(crate) link: Link,
    generation: usize,
    /// A fault affects it: no other fault does.
    taken: AtomicBool,
    channel: OnceLock<Channel>,
    incoming: mpsc::UnboundedSender<io::Result<Pipe>>,
    cuts: Mutex<Vec<Cut>>,
    serving: Mutex<Option<Serving>>,
}

/// They are not read: one set is enough for all.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::new("0", "simulated").unwrap()).clone()
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

impl Node {
    /// Starts the gateway of this number, in its `generation`-th life.
    pub(crate) async fn start(
        simulation: &Arc<Simulation>,
        index: usize,
        generation: usize,
    ) -> Arc<Self> {
        let (name, process) = (format!("gateway {index}.{generation}"), ProcessState::new());
        let link =
            Link::new(simulation.clone(), process.clone(), name.clone(), simulation.primary());
        let observer = {
            let simulation = simulation.clone();
            Arc::new(move |event: LedgerEvent<'_>| {
                // For A1 a gateway cannot tell whether somebody else attached an ENI.
                // `Checks::committed` can.
                if let LedgerEvent::InvariantViolated(instance, violation) = event
                    && violation != Violation::Truth
                {
                    simulation.checks.violation(
                        &simulation,
                        violation.id(),
                        format!("a commit to {instance}: {violation:?}"),
                    );
                }
            })
        };
        let ledger =
            Arc::new(Ledger::new(link.clone(), Mutation::bounds(&simulation.plan), observer));
        let limiter = RateLimiter::over(ledger.clone());
        let ens = Arc::new(Cloud::new(
            simulation.clone(),
            process.clone(),
            name.clone(),
            limiter.clone(),
        ));
        let settings = gateway::Settings {
            attempt_timeout: Mutation::attempt_timeout(&simulation.plan),
            watch: watch::Settings::default(),
            limits: Limits::default(),
            server: server::Settings::default(),
            drain: DrainTimeouts {
                delay: std::time::Duration::ZERO,
                timeout: server::Settings::default().drain_timeout,
            },
        };
        let gateway = Gateway::new(
            Backends { ledger, ens, limiter, metrics: metrics() },
            settings,
            None,
            Arc::default(),
            TaskTracker::new(),
        )
        .await;
        let (incoming, connections) = mpsc::unbounded_channel();
        let connections = stream::unfold(connections, async |mut connections| {
            let next = connections.recv().await?;
            Some((next, connections))
        });
        let serving = gateway.serve_connections(connections);
        simulation.history.note(format_args!("{name}: started"));
        Arc::new(Self {
            index,
            name,
            process,
            link,
            generation,
            taken: AtomicBool::new(false),
            channel: OnceLock::new(),
            incoming,
            cuts: Mutex::default(),
            serving: Mutex::new(Some(serving)),
        })
    }

    /// A client. All share one connection: when a gateway drains, its server notifies its
    /// connections in a random order.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let channel = self.channel.get_or_init(|| {
            let node = Arc::downgrade(self);
            let connector = tower::service_fn(move |_| {
                let connection =
                    node.upgrade().map_or_else(|| Err(refused()), |node| node.connect());
                std::future::ready(connection)
            });
            Endpoint::from_static("http://gateway").connect_with_connector_lazy(connector)
        });
        AttachmentServiceClient::new(channel.clone())
    }

    fn connect(&self) -> io::Result<TokioIo<tokio::io::DuplexStream>> {
        if self.process.state() == State::Dead {
            return Err(refused());
        }
        let (client, server) = tokio::io::duplex(PIPE);
        let (pipe, cut) = Pipe::new(self.process.clone(), server);
        self.incoming.send(Ok(pipe)).map_err(|_| refused())?;
        self.cuts.lock().unwrap().push(cut);
        Ok(TokioIo::new(client))
    }

    /// Reserves it for a fault, unless another fault affects it already.
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn release(&self) {
        self.taken.store(false, Ordering::Relaxed);
    }

    /// Ends it as kill -9 does.
    pub(crate) fn crash(&self) {
        self.process.set(State::Dead);
        std::mem::take(&mut *self.cuts.lock().unwrap()).into_iter().for_each(Cut::cut);
    }

    /// Ends it in order; then it is gone.
    pub(crate) async fn drain(&self) {
        let serving = self.serving.lock().unwrap().take();
        if let Some(serving) = serving {
            serving.drain().await.unwrap();
        }
        self.crash();
    }

    /// Its next life.
    pub(crate) async fn again(&self, simulation: &Arc<Simulation>) -> Arc<Self> {
        let next = Self::start(simulation, self.index, self.generation + 1).await;
        simulation.replace(next.clone());
        next
    }
}
