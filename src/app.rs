//! The composition root: bind, build, serve, drain. The only file that knows everybody.

pub mod check;
pub mod credentials;
mod drain;
pub mod gateway;
mod health;
mod observe;
mod settings;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::ens::credentials::Provider;
use crate::ens::{self, HttpEns};
use crate::grpc::{self, Tls};
use crate::ledger::redis::{InitError, InvalidSettings, Redis, init};
use crate::ledger::safety_checks::SafetyChecks;
use crate::ledger::{Bounds, Ledger, LedgerStore, Memory};
use crate::rate_limit::{InvalidRate, RateLimiter};
use crate::telemetry::Metrics;
use crate::telemetry::admin::Admin;
use crate::telemetry::metrics::MetricsError;

pub use drain::kept_for_traces;
use gateway::{Backends, Background, Gateway};
use health::HealthMonitor;
use settings::{bounds, ens_settings, gateway_settings, rates, redis_settings};

/// Why the gateway could not run, or stopped running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener cannot be bound.
    #[error("{setting} = {address} cannot be listened on: {source}")]
    Bind {
        /// Which setting.
        setting: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The ENS client cannot be built.
    #[error(transparent)]
    Ens(#[from] ens::settings::Invalid),
    /// The ledger cannot be built.
    #[error(transparent)]
    Ledger(#[from] InvalidSettings),
    /// A file of the ledger's settings cannot be read.
    #[error("{setting} cannot be read: {source}")]
    File {
        /// Which setting names it.
        setting: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A rate is out of bounds.
    #[error(transparent)]
    Rate(#[from] InvalidRate),
    /// The metrics cannot be built.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] grpc::tls::TlsError),
    /// The gRPC server ended.
    #[error(transparent)]
    Serve(#[from] grpc::server::ServeError),
    /// The admin listener broke.
    #[error("the admin listener broke: {0}")]
    Admin(#[source] io::Error),
}

/// The listeners, bound before anything is built: a port that is taken is said at once.
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
            bound.map_err(|source| Error::Bind {
                setting,
                address,
                source,
            })
        };
        Ok(Self {
            grpc: bind("grpc.listen", config.grpc.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
        })
    }

    /// Where gRPC is served.
    ///
    /// # Errors
    /// The socket does not say.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where health and metrics are served.
    ///
    /// # Errors
    /// The socket does not say.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }
}

/// Serves until `stop`, then drains.
///
/// # Errors
/// [`Error`]: something could not be built, or a listener broke.
pub async fn run(
    config: &Config,
    bound: Bound,
    credentials: Provider,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    run_by(SafetyChecks::default(), config, bound, credentials, stop).await
}

/// The same by fewer rules, for a test that looks what one is for.
///
/// # Errors
/// As [`run`].
pub async fn run_by(
    rules: SafetyChecks,
    config: &Config,
    bound: Bound,
    credentials: Provider,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let background = Background::default();
    let bounds = Bounds {
        checks: rules,
        ..bounds(config)
    };
    match redis_settings(config)? {
        None => {
            let ledger = Memory::new(rates(config)?);
            serve(config, bounds, bound, credentials, ledger, background, stop).await
        }
        Some(settings) => {
            let ledger = Redis::start(settings, &background.tasks, background.stop.clone())?;
            serve(config, bounds, bound, credentials, ledger, background, stop).await
        }
    }
}

async fn serve<L: LedgerStore>(
    config: &Config,
    bounds: Bounds,
    bound: Bound,
    credentials: Provider,
    ledger: L,
    background: Background,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), env!("ENI_GATEWAY_COMMIT"))?;
    let tls = tls(config).await?;
    let ledger = Arc::new(Ledger::new(ledger, bounds, observe::ledger(&metrics)));
    let limiter = RateLimiter::over(ledger.clone());
    let observer = observe::ens(&metrics);
    let ens = Arc::new(HttpEns::new(
        ens_settings(config),
        credentials,
        limiter.clone(),
        observer,
    )?);
    let seams = Backends { ledger, ens, limiter };
    let Background { tasks, stop: ending } = background.clone();
    let gateway = Gateway::new(
        seams.clone(),
        gateway_settings(config),
        tls,
        metrics.clone(),
        background,
    )
    .await;

    let watchdog = HealthMonitor::new(seams, metrics.clone(), gateway.draining());
    let admin = Admin::new(metrics, watchdog.readiness());
    let admin = tasks.spawn(admin.serve(bound.admin, ending.clone().cancelled_owned()));
    tasks.spawn(watchdog.run(gateway.health(), ending));
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

/// Ends only if the admin listener breaks.
async fn broken(admin: tokio::task::JoinHandle<io::Result<()>>) -> Error {
    match admin.await {
        Ok(Err(source)) => Error::Admin(source),
        _ => std::future::pending().await,
    }
}

async fn tls(config: &Config) -> Result<Option<Arc<Tls>>, Error> {
    let (Some(cert), Some(key)) = (config.grpc.tls_cert_file.clone(), config.grpc.tls_key_file.clone()) else {
        return Ok(None);
    };
    let client_ca = config.grpc.client_ca_file.clone();
    Ok(Some(Arc::new(
        Tls::load(grpc::tls::Files { cert, key, client_ca }).await?,
    )))
}

/// Says that the ledger of these settings is new.
///
/// # Errors
/// It holds something, must not be used, or cannot be reached.
pub async fn init_ledger(config: &Config) -> Result<(), LedgerInitError> {
    let settings = redis_settings(config)?.ok_or(LedgerInitError::Memory)?;
    Ok(init(settings).await?)
}

/// Why a ledger was not made new.
#[derive(Debug, thiserror::Error)]
pub enum LedgerInitError {
    /// Its settings cannot be used.
    #[error(transparent)]
    Settings(#[from] Error),
    /// There is nothing that could be made new.
    #[error("memory:// is always new: there is nothing to initialise; ledger.url names a redis")]
    Memory,
    /// It cannot be made new.
    #[error(transparent)]
    Init(#[from] InitError),
}

impl LedgerInitError {
    /// Whether the ledger holds anything, and so is not new.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Init(InitError::Held(_)))
    }

    /// Whether nobody answers.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Init(InitError::Unreachable(_)))
    }
}
