//! `serve`: the gateway itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::app::{self, credentials};
use crate::config::{self, Fault, Faults, Loaded, Sources};
use crate::telemetry;

const EXAMPLES: &str = "\
Settings come from the file, then from ENI_GATEWAY_SECTION__KEY in the environment, then from flags; \
`eni-gateway config dump` lists them all.

Examples:
  eni-gateway serve --ledger-url redis://127.0.0.1:6379/0
  eni-gateway serve --config /etc/eni-gateway.toml
  ENI_GATEWAY_LEDGER__URL=memory:// eni-gateway serve --ens-endpoint http://127.0.0.1:18080";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// The settings' file, and flags for those that are set most often.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve gRPC here [setting: grpc.listen]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Serve /livez, /readyz and /metrics here [setting: admin.listen]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    admin_listen: Option<SocketAddr>,
    /// Coordinate here; a password belongs into ledger.password_file [setting: ledger.url]
    #[arg(long, value_name = "URL")]
    ledger_url: Option<String>,
    /// Call ENS here [setting: ens.endpoint]
    #[arg(long, value_name = "URL")]
    ens_endpoint: Option<String>,
}

impl Settings {
    /// The configuration, from all its sources.
    pub(super) fn load(self) -> Result<Loaded, Faults> {
        let sources = Sources::of_process(self.config)
            .flag("--listen", "grpc.listen", self.listen)
            .flag("--admin-listen", "admin.listen", self.admin_listen)
            .flag("--ledger-url", "ledger.url", self.ledger_url)
            .flag("--ens-endpoint", "ens.endpoint", self.ens_endpoint);
        config::load(sources)
    }
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let (loaded, credentials) = prepare(args.settings).await?;
    let telemetry = telemetry::init().map_err(|error| Error::failed(&error))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let served = serve(&loaded, credentials).await;
    telemetry
        .flush(app::kept_for_traces(loaded.config.grpc.drain_timeout))
        .await;
    served
}

/// Settings and credentials: everything that is wrong with either is said at once.
async fn prepare(settings: Settings) -> Result<(Loaded, credentials::Provider), Error> {
    let loaded = settings.load();
    let credentials = credentials::discover().await;
    match (loaded, credentials) {
        (Ok(loaded), Ok(credentials)) => Ok((loaded, credentials)),
        (loaded, credentials) => {
            let mut faults = loaded.err().unwrap_or_else(|| Faults(Vec::new()));
            if let Err(error) = credentials {
                faults.add(Fault::new("ENS credentials", error.to_string(), error.remedy()));
            }
            Err(Error::Usage(faults.to_string()))
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "not an address of the form IP:PORT, such as 127.0.0.1:50051")
}

async fn serve(loaded: &Loaded, credentials: credentials::Provider) -> Result<(), Error> {
    let bound = app::Bound::bind(&loaded.config).await.map_err(|error| match &error {
        app::Error::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Error::Failed(format!(
            "{error}\n  what to do: a second replica on this machine needs --listen and --admin-listen"
        )),
        _ => Error::failed(&error),
    })?;
    // In place before anybody is told that it runs.
    let stop = stop_signal()?;
    if let (Ok(grpc), Ok(admin)) = (bound.grpc_address(), bound.admin_address()) {
        tracing::info!(%grpc, %admin, credentials = credentials.source(), "listening");
    }
    let served = app::run(&loaded.config, bound, credentials, stop.cancelled_owned()).await;
    served.map_err(|error| Error::failed(&error))
}

/// Cancelled by the first SIGTERM or SIGINT; the second one ends the process.
pub(super) fn stop_signal() -> Result<CancellationToken, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Error::failed(&error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "lives as long as the process, and nobody waits for it"
    )]
    tokio::spawn(async move {
        for told in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told {
                tracing::warn!("told to stop twice: ending at once");
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing what was begun");
            token.cancel();
        }
    });
    Ok(stop)
}
