//! The composition root: bind, build, serve, drain. The only file that knows everybody.

pub mod check;
pub mod credentials;
mod drain;
mod health;
mod observe;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Limits};
use crate::attach::Attacher;
use crate::config::{Config, LedgerUrl};
use crate::ens::budget::{TokenAnswer, TokenRequest, TokenSource};
use crate::ens::credentials::Provider;
use crate::ens::{self, Budget, HttpEns, Purpose};
use crate::grpc::{self, AttachmentService, Health, Server, Tls};
use crate::ledger::redis::{Agreement, InitError, InvalidSettings, Redis, RedisSettings, init};
use crate::ledger::tokens::InvalidRate;
use crate::ledger::{Book, Bounds, Bucket, Ledger, Memory, Rates, TokenOrder, TokenReply};
use crate::telemetry::Metrics;
use crate::telemetry::admin::Admin;
use crate::telemetry::metrics::MetricsError;
use crate::tracker::Tracker;
use crate::watch::{self, Hub};

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
    /// The password file cannot be read.
    #[error("ledger.password_file cannot be read: {0}")]
    Password(#[source] io::Error),
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
    let background = Background::default();
    match &config.ledger.url {
        LedgerUrl::Memory => {
            let ledger = Memory::new(rates(config)?);
            serve(config, bound, credentials, ledger, background, stop).await
        }
        url => {
            let settings = redis_settings(config, url)?;
            let ledger = Redis::start(settings, &background.tasks, background.stop.clone())?;
            serve(config, bound, credentials, ledger, background, stop).await
        }
    }
}

/// What runs for as long as the process does.
#[derive(Default)]
struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

async fn serve<L: Ledger>(
    config: &Config,
    bound: Bound,
    credentials: Provider,
    ledger: L,
    background: Background,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), env!("ENI_GATEWAY_COMMIT"))?;
    let tls = tls(config).await?;
    let book = Arc::new(Book::new(ledger, bounds(config), observe::book(&metrics)));
    let budget = Budget::new(token_source(&book));
    let ens = HttpEns::new(
        ens_settings(config),
        credentials,
        budget.clone(),
        observe::ens(&metrics),
    )?;
    let ens = Arc::new(ens);
    let attempts = TaskTracker::new();
    let attacher = Arc::new(Attacher::new(
        book.clone(),
        ens.clone(),
        budget.clone(),
        config.ens.attempt_timeout,
        metrics.clone(),
        attempts.clone(),
    ));
    let tracker = Arc::new(Tracker::new(
        book.clone(),
        ens.clone(),
        budget.clone(),
        attacher.clone(),
        metrics.clone(),
        attempts.clone(),
    ));
    let (leaving, stopping) = (CancellationToken::new(), CancellationToken::new());
    let hub = Hub::new(
        book.clone(),
        ens.clone(),
        budget.clone(),
        tracker.clone(),
        metrics.clone(),
        watch::Settings {
            heartbeat: config.watch.heartbeat,
            max_age: config.watch.max_age,
        },
        background.tasks.clone(),
        stopping.clone(),
    );
    let admission = Arc::new(Admission::new(Limits {
        attaches: config.grpc.max_in_flight,
        reads: config.grpc.max_in_flight,
        streams: config.watch.max_streams,
    }));
    let health = Health::new().await;
    let watchdog = health::Watchdog::new(book.clone(), ens, budget, metrics.clone(), leaving.clone());
    let service = AttachmentService::new(attacher.clone(), hub, admission);
    let server = Server {
        service,
        health: health.clone(),
        tls,
        settings: grpc::server::Settings {
            max_connection_age: config.grpc.max_connection_age,
            drain_timeout: config.grpc.drain_timeout.saturating_sub(config.grpc.drain_delay),
            ..grpc::server::Settings::default()
        },
        observers: observe::rpc(&metrics),
    };

    let admin = Admin::new(metrics, watchdog.readiness());
    let admin = background
        .tasks
        .spawn(admin.serve(bound.admin, background.stop.clone().cancelled_owned()));
    background
        .tasks
        .spawn(watchdog.run(health.clone(), background.stop.clone()));
    background.tasks.spawn(tracker.clone().compare(background.stop.clone()));
    background.tasks.spawn(tracker.run(background.stop.clone()));
    let told = stopping.clone().cancelled_owned();
    let mut serving = background
        .tasks
        .spawn(async move { server.serve(bound.grpc, told).await.map_err(Error::from) });
    tracing::info!(ledger = %config.ledger.url, ens = config.ens.endpoint.as_str(), "serving");
    let broken = tokio::select! {
        biased;
        () = stop => None,
        ended = &mut serving => Some(ended.unwrap_or(Ok(()))),
        error = broken(admin) => Some(Err(error)),
    };
    let drain = drain::Drain {
        times: drain::Times {
            delay: config.grpc.drain_delay,
            timeout: config.grpc.drain_timeout,
        },
        leaving,
        stopping,
        health,
        attacher,
        attempts,
        background,
    };
    match broken {
        None => drain.run(serving).await,
        Some(broken) => drain.abandon(broken).await,
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

/// The budget's counter is the ledger's.
fn token_source<L: Ledger>(book: &Arc<Book<L>>) -> TokenSource {
    const fn bucket(purpose: Purpose) -> Bucket {
        match purpose {
            Purpose::Attach => Bucket::Attach,
            Purpose::Describe => Bucket::Describe,
            Purpose::Track => Bucket::Track,
            Purpose::Compare => Bucket::Compare,
        }
    }
    let book = book.clone();
    Arc::new(move |request| {
        let book = book.clone();
        let order = match request {
            TokenRequest::Take(purpose) => TokenOrder::Take(bucket(purpose)),
            TokenRequest::GiveBack(purpose) => TokenOrder::GiveBack(bucket(purpose)),
            TokenRequest::Trip(purpose, pause) => TokenOrder::Trip(bucket(purpose), pause),
            TokenRequest::Close(purpose) => TokenOrder::Close(bucket(purpose)),
        };
        Box::pin(async move {
            match book.ledger().take(order).await {
                Ok(TokenReply::Granted) => Ok(TokenAnswer::Granted),
                Ok(TokenReply::Chunk(further)) => Ok(TokenAnswer::Chunk(further)),
                Ok(TokenReply::Probe) => Ok(TokenAnswer::Probe),
                Ok(TokenReply::Wait(wait)) => Ok(TokenAnswer::Wait(wait)),
                Err(error) => Err(error.why),
            }
        })
    })
}

/// The ENS client's settings.
#[must_use]
pub fn ens_settings(config: &Config) -> ens::Settings {
    ens::Settings {
        endpoint: config.ens.endpoint.url().clone(),
        attempt_timeout: config.ens.attempt_timeout,
        describe_timeout: config.ens.describe_timeout,
        request_validity: config.ens.request_validity,
        enforce_validity: config.ens.enforce_validity,
        ..ens::Settings::default()
    }
}

/// The bounds of the ledger's rules.
#[must_use]
pub fn bounds(config: &Config) -> Bounds {
    Bounds {
        lag: config.ens.visibility_lag,
        validity: config.ens.request_validity,
        lease: config.ledger.lease,
        failover_window: config.ledger.failover_window,
        limit: config.limit.enis_per_instance,
        count_primary: config.limit.count_primary,
        stuck_after: config.tracker.stuck_after,
        compare_after: config.tracker.compare_after,
    }
}

fn rates(config: &Config) -> Result<Rates, InvalidRate> {
    Rates::new(
        config.ens.attach_per_second.into(),
        config.ens.describe_per_second.into(),
    )
}

/// The settings of a ledger in Redis.
///
/// # Errors
/// The password file cannot be read, or a rate is out of bounds.
pub fn redis_settings(config: &Config, url: &LedgerUrl) -> Result<RedisSettings, Error> {
    Ok(RedisSettings {
        url: url.with_secrets(),
        password: config.ledger.password().map_err(Error::Password)?,
        prefix: config.ledger.prefix.clone(),
        agreement: Agreement {
            limit: config.limit.enis_per_instance,
            count_primary: config.limit.count_primary,
        },
        hold: bounds(config).hold(),
        fresh: config.ledger.fresh,
        rates: rates(config)?,
        response_timeout: config.ledger.timeout / 2,
        connect_timeout: config.ledger.timeout,
    })
}

/// Says that the ledger of these settings is new.
///
/// # Errors
/// It holds something, must not be used, or cannot be reached.
pub async fn init_ledger(config: &Config) -> Result<(), LedgerInitError> {
    let settings = redis_settings(config, &config.ledger.url)?;
    Ok(init(settings).await?)
}

/// Why a ledger was not made new.
#[derive(Debug, thiserror::Error)]
pub enum LedgerInitError {
    /// Its settings cannot be used.
    #[error(transparent)]
    Settings(#[from] Error),
    /// It cannot be made new.
    #[error(transparent)]
    Init(#[from] InitError),
}

impl LedgerInitError {
    /// Whether nobody answers.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Init(InitError::Unreachable(_)))
    }
}
