//! The composition root: bind, build, serve, drain. Only this file uses every module.

pub mod check;
mod conditions;
pub mod credentials;
mod descriptors;
mod drain;
mod error;
pub mod explain;
pub mod freeze;
pub mod gateway;
mod health;
mod observe;
mod readiness;
mod reload;
mod settings;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backends::Backends;
use crate::config::Config;
use crate::drain::Phase;
use crate::ens::HttpEns;
use crate::ens::credentials::Provider;
use crate::grpc::{self, Access, Tls};
use crate::ledger::redis::{InitError, Redis, init};
use crate::ledger::{Bounds, Ledger, LedgerStore, Memory};
use crate::listen::certificate;
use crate::policy::PolicyStore;
use crate::rate_limit::RateLimiter;
use crate::telemetry::admin::Admin;
use crate::telemetry::{LogFilter, Metrics};

pub use drain::{DrainTimeouts, kept_for_traces};
pub use error::{Error, with_causes};
use gateway::Gateway;
use health::HealthMonitor;
pub use readiness::{Condition, Readiness};
use reload::{Reloader, refresh_keys};
use settings::{bounds, ens_settings, gateway_settings, rates, redis_settings};

/// Interval between tries of ENS while there is a problem with it.
const RECHECK: Duration = Duration::from_secs(10);

/// The listeners, bound first so that a port in use is reported at once.
#[derive(Debug)]
pub struct Bound {
    grpc: TcpListener,
    admin: TcpListener,
}

impl Bound {
    /// Binds both.
    ///
    /// # Errors
    /// [`Error::Bind`] names the setting.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        let bind = async |setting, address| {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|source| Error::Bind { setting, address, source })
        };
        Ok(Self {
            grpc: bind("grpc.listen", config.grpc.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
        })
    }

    /// The gRPC listener's address.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// The admin listener's address.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }
}

/// Serves until `stop`, then drains. `log_filter` is read again when its file changes.
///
/// # Errors
/// A part cannot be built, or a listener failed.
pub async fn run(
    config: &Config,
    bound: Bound,
    credentials: Provider,
    log_filter: Option<LogFilter>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    run_within(bounds(config), config, bound, credentials, log_filter, stop).await
}

/// Serves without one safety check, for a mutation test.
///
/// # Errors
/// As [`run`].
#[cfg(feature = "mutations")]
pub async fn run_without(
    check: crate::ledger::SafetyCheck,
    config: &Config,
    bound: Bound,
    credentials: Provider,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let bounds = Bounds { without: Some(check), ..bounds(config) };
    run_within(bounds, config, bound, credentials, None, stop).await
}

async fn run_within(
    bounds: Bounds,
    config: &Config,
    bound: Bound,
    credentials: Provider,
    log_filter: Option<LogFilter>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    match redis_settings(config)? {
        None => {
            let ledger = Memory::new(rates(config)?);
            serve(config, bounds, bound, credentials, ledger, log_filter, stop).await
        }
        Some(settings) => {
            let connections = CancellationToken::new();
            // The connections close after all their users have ended.
            let _close = connections.clone().drop_guard();
            let ledger = Redis::start(settings, &TaskTracker::new(), connections)?;
            serve(config, bounds, bound, credentials, ledger, log_filter, stop).await
        }
    }
}

async fn serve<L: LedgerStore>(
    config: &Config,
    bounds: Bounds,
    bound: Bound,
    credentials: Provider,
    ledger: L,
    log_filter: Option<LogFilter>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), env!("ENI_GATEWAY_COMMIT"))?;
    if let Some(url) = &config.grpc.help_url {
        grpc::errors::publish_help(url);
    }
    let tls = tls(config).await?;
    let policy = policy(config).await?;
    let ledger = Arc::new(Ledger::new(ledger, bounds, observe::ledger(&metrics)));
    let limiter = RateLimiter::over(ledger.clone());
    let observer = observe::ens(&metrics);
    let ens = Arc::new(HttpEns::new(ens_settings(config), credentials, limiter.clone(), observer)?);
    let backends = Backends { ledger, ens, limiter, metrics: metrics.clone() };
    let tasks = TaskTracker::new();
    let access = Arc::new(policy.clone().map_or_else(Access::default, |policy| {
        Access::by(policy, config.identity.open_reflection)
    }));
    let settings = gateway_settings(config, rates(config)?);
    let gateway =
        Gateway::new(backends.clone(), settings, tls.clone(), access, tasks.clone()).await;

    let ledger_cert = config.ledger.cert_file.as_ref().and_then(|path| std::fs::read(path).ok());
    if let Some(expiry) = ledger_cert.and_then(|pem| certificate::expiry(&pem)) {
        metrics.set_certificate_expiry("ledger.cert_file", expiry);
    }
    if let Some(policy) = policy.clone() {
        tasks.spawn(refresh_keys(policy, metrics.clone(), gateway.drain()));
    }
    let reloader = Reloader { tls: tls.clone(), policy, log_filter, metrics: metrics.clone() };
    tasks.spawn(reloader.run(gateway.drain()));
    tasks.spawn(recheck(backends.ens.clone(), gateway.drain()));
    let monitor = HealthMonitor::new(backends, gateway.drain(), tls);
    let admin = Admin::new(metrics, monitor.readiness());
    let admin = tasks.spawn(admin.serve(bound.admin, gateway.drain().reached(Phase::Stopped)));
    tasks.spawn(monitor.run(gateway.health()));
    let mut serving = gateway.serve(bound.grpc);
    tracing::info!(ledger = %config.ledger.url, ens = config.ens.endpoint.as_str(), "serving");
    let broken = tokio::select! {
        biased;
        () = stop => None,
        ended = serving.ended() => Some(ended),
        error = broken(admin) => Some(Err(error)),
    };
    match broken {
        None => serving.drain().await,
        Some(broken) => serving.abandon(broken).await,
    }
}

/// Tries ENS while there is a problem with it, until [`Phase::Stopped`].
async fn recheck(ens: Arc<HttpEns>, drain: crate::drain::Watch) {
    while !drain.has_reached(Phase::Stopped) {
        ens.recheck().await;
        drain.pause(RECHECK).await;
    }
}

/// Returns only if the admin listener fails.
async fn broken(admin: tokio::task::JoinHandle<io::Result<()>>) -> Error {
    match admin.await {
        Ok(Err(source)) => Error::Admin(source),
        _ => std::future::pending().await,
    }
}

async fn tls(config: &Config) -> Result<Option<Arc<Tls>>, Error> {
    let (Some(cert), Some(key)) =
        (config.grpc.tls_cert_file.clone(), config.grpc.tls_key_file.clone())
    else {
        return Ok(None);
    };
    let client_ca = config.grpc.client_ca_file.clone();
    let client_crl = config.grpc.client_crl_file.clone();
    Ok(Some(Arc::new(Tls::load(grpc::tls::Files { cert, key, client_ca, client_crl }).await?)))
}

async fn policy(config: &Config) -> Result<Option<Arc<PolicyStore>>, Error> {
    match &config.identity.policy_file {
        None => Ok(None),
        Some(path) => {
            let store = PolicyStore::load(path.clone()).await?;
            if config.grpc.client_ca_file.is_none() && !store.tokens().are_used() {
                return Err(Error::NoIdentities);
            }
            Ok(Some(Arc::new(store)))
        }
    }
}

/// Marks the ledger of these settings as new.
///
/// # Errors
/// The ledger is not empty, must not be used, or is unreachable.
pub async fn init_ledger(config: &Config) -> Result<(), LedgerInitError> {
    let settings = redis_settings(config)?.ok_or(LedgerInitError::Memory)?;
    Ok(init(settings).await?)
}

/// A reason why a ledger cannot be marked as new.
#[derive(Debug, thiserror::Error)]
pub enum LedgerInitError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] Error),
    /// A ledger in memory cannot be marked.
    #[error("a memory:// ledger is always new and needs no init; set ledger.url to a redis")]
    Memory,
    /// The mark failed.
    #[error(transparent)]
    Init(#[from] InitError),
}

impl LedgerInitError {
    /// Whether the ledger is not empty.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Init(InitError::Held(_)))
    }

    /// Whether its servers are unreachable.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Init(InitError::Unreachable(_)))
    }
}
