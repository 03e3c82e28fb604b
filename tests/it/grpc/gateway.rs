//! A served edge on a free port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use eni_gateway::admission::{Admission, Limits};
use eni_gateway::backends::Backends;
use eni_gateway::drain::{self, Phase};
use eni_gateway::grpc::method::Method;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, GetAttachmentRequest, WatchAttachmentRequest,
};
use eni_gateway::grpc::server::{ServeError, Settings};
use eni_gateway::grpc::trace::{Observers, RpcReport};
use eni_gateway::grpc::{Access, AttachmentService, Health, Server, Tls};
use eni_gateway::ledger::{Bounds, Ledger, Memory};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimiter, Rates};
use eni_gateway::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::support::ens::FakeEns;
use crate::support::parts::Parts;
use crate::support::timerless::Timerless;

/// What a test may set.
#[derive(Default)]
pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) settings: Settings,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) access: Arc<Access>,
}

/// The edge, served until it is dropped.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) store: Memory,
    pub(super) ens: Arc<FakeEns>,
    pub(super) admission: Arc<Admission>,
    pub(super) health: Health,
    pub(super) reports: Arc<Mutex<Vec<RpcReport>>>,
    /// The phases of what is served, apart from the server.
    pub(super) drain: drain::Signal,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<Result<(), ServeError>>,
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (store, ens) = (Memory::new(Rates::default()), Arc::new(FakeEns::holding()));
        let metrics = Metrics::new("0", "test").expect("metrics");
        let stop = CancellationToken::new();
        let ledger = Arc::new(Ledger::new(store.clone(), Bounds::default(), Arc::new(|_| {})));
        let limiter =
            RateLimiter::new(Arc::new(|_| Box::pin(async { Ok(RateLimitDecision::Granted) })));
        let backends = Backends { ledger, ens: ens.clone(), limiter, metrics };
        let Parts { attacher, hub, drain, .. } = Parts::over(backends);
        let admission = Arc::new(Admission::new(options.limits, drain.watch()));
        let health = Health::new().await;
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let server = Server {
            service: AttachmentService::new(attacher, hub, Arc::clone(&admission), options.access),
            health: health.clone(),
            tls: options.tls,
            settings: options.settings,
            observers: Observers {
                report: Arc::new(move |report| {
                    sink.lock().expect("no test panics in here").push(report)
                }),
                ..Observers::default()
            },
        };
        #[expect(clippy::disallowed_methods, reason = "the handle is awaited or aborted below")]
        let serving = tokio::spawn(server.serve(listener, stop.clone().cancelled_owned()));
        Self { address, store, ens, admission, health, reports, drain, stop, serving }
    }

    /// Begins the shutdown of the service and of the server.
    pub(super) fn stop(&self) {
        self.drain.enter(Phase::Draining);
        self.stop.cancel();
    }

    pub(super) async fn channel(&self) -> Channel {
        let endpoint =
            Endpoint::from_shared(format!("http://{}", self.address)).expect("an endpoint");
        endpoint.connect().await.expect("the gateway accepts")
    }

    pub(super) async fn client(&self) -> AttachmentServiceClient<Channel> {
        AttachmentServiceClient::new(self.channel().await)
    }

    /// A client without a timer: the answer to a deadline is always the gateway's.
    pub(super) async fn timerless(&self) -> AttachmentServiceClient<Timerless> {
        let connection = Timerless::connect(&self.address.to_string()).await;
        let origin = format!("http://{}", self.address).parse().expect("a uri");
        AttachmentServiceClient::with_origin(connection.expect("the gateway accepts"), origin)
    }

    /// Waits until so many RPCs have ended.
    pub(super) async fn reported(&self, count: usize) -> Vec<RpcReport> {
        loop {
            let seen = self.reports.lock().expect("no test panics in here").clone();
            if seen.len() >= count {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
        if std::thread::panicking() {
            return;
        }
        // Whatever a test was about: no RPC returned a reason that its documentation does not list.
        for report in self.reports.lock().expect("no test panics in here").iter() {
            if let (Some(method), Some(reason)) = (Method::named(report.method), report.reason) {
                assert!(method.may_return(reason), "{report:?}");
            }
        }
    }
}

pub(super) fn attach(instance: &str, eni: &str) -> AttachNetworkInterfaceRequest {
    AttachNetworkInterfaceRequest {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
        ..Default::default()
    }
}

pub(super) fn watch(instance: &str, eni: &str, follow: bool) -> WatchAttachmentRequest {
    WatchAttachmentRequest {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
        after_revision: 0,
        follow,
    }
}

pub(super) fn get(instance: &str, eni: &str) -> GetAttachmentRequest {
    GetAttachmentRequest { instance_id: instance.to_owned(), network_interface_id: eni.to_owned() }
}
